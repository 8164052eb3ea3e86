"""The operations that move and choose elements, in numpy. See ``kernels``."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.kernels_base import Arrays, Kernel, unary

__all__ = ["ARRAY_KERNELS", "strided_index"]


def strided_index(
    node: Node, begin: Sequence[int], end: Sequence[int], strides: Sequence[int]
) -> Tuple[Any, ...]:
    """What StridedSlice takes from an array, as an index of numpy's.

    Bit i of a mask is about element i of the three lists. A new axis comes before all else, then
    the ellipsis, then the shrunk axis, as in TensorFlow.
    """
    index: List[Any] = []
    for position, (first, last, step) in enumerate(zip(begin, end, strides)):
        bit = 1 << position
        if node.attrs.get("ellipsis_mask", 0) & bit:
            index.append(Ellipsis)
        elif node.attrs.get("new_axis_mask", 0) & bit:
            index.append(None)
        elif node.attrs.get("shrink_axis_mask", 0) & bit:
            index.append(int(first))
        else:
            start = None if node.attrs.get("begin_mask", 0) & bit else int(first)
            stop = None if node.attrs.get("end_mask", 0) & bit else int(last)
            index.append(slice(start, stop, int(step)))
    return tuple(index)


def _strided_slice(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    array, begin, end, strides = arrays
    return (array[strided_index(node, begin.tolist(), end.tolist(), strides.tolist())],)


def _slice(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    array, begin, size = arrays
    index = []
    for axis, (first, count) in enumerate(zip(begin.tolist(), size.tolist())):
        last = array.shape[axis] if count == -1 else first + count
        if not 0 <= first <= last <= array.shape[axis]:
            raise GraphError(
                "Slice %r takes %d:%d of axis %d, which has %d elements"
                % (node.name, first, last, axis, array.shape[axis])
            )
        index.append(slice(first, last))
    return (array[tuple(index)],)


def _gather(params: np.ndarray, indices: np.ndarray, axis: int, batch_dims: int) -> np.ndarray:
    """Slices of ``params`` along ``axis``; the first ``batch_dims`` axes are those of a batch."""
    if batch_dims < 0:
        batch_dims += indices.ndim
    if axis < 0:
        axis += params.ndim
    if not batch_dims:
        return np.take(params, indices, axis=axis)
    shape = params.shape[:axis] + indices.shape[batch_dims:] + params.shape[axis + 1 :]
    result = np.empty(shape, params.dtype)
    for place in np.ndindex(*params.shape[:batch_dims]):
        result[place] = np.take(params[place], indices[place], axis=axis - batch_dims)
    return result


def _gather_v1(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    batch_dims = int(node.attrs.get("batch_dims", 0))
    return (_gather(arrays[0], arrays[1], max(batch_dims, 0), batch_dims),)


def _gather_v2(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    params, indices, axis = arrays
    return (_gather(params, indices, int(axis), int(node.attrs.get("batch_dims", 0))),)


def _gather_nd(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    params, indices = arrays
    return (params[tuple(np.moveaxis(indices, -1, 0))],)


def _split(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    axis, array = arrays
    return tuple(np.split(array, int(node.attrs["num_split"]), axis=int(axis)))


def _split_v(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    array, sizes, axis = arrays
    counts = [int(size) for size in sizes]
    if -1 in counts:
        counts[counts.index(-1)] = array.shape[int(axis)] - sum(counts) - 1
    if sum(counts) != array.shape[int(axis)] or min(counts) < 0:
        raise GraphError(
            "SplitV %r can't split axis %d of %s into %s"
            % (node.name, int(axis), array.shape, sizes.tolist())
        )
    return tuple(np.split(array, np.cumsum(counts)[:-1], axis=int(axis)))


def _unpack(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    moved = np.moveaxis(arrays[0], int(node.attrs.get("axis", 0)), 0)
    if len(moved) != int(node.attrs["num"]):
        raise GraphError(
            "Unpack %r gives %d parts, its input has %d"
            % (node.name, int(node.attrs["num"]), len(moved))
        )
    return tuple(moved)


def _squeeze(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    axes: Optional[Tuple[int, ...]] = tuple(node.attrs.get("squeeze_dims", ())) or None
    return (np.squeeze(arrays[0], axis=axes),)


def _one_hot(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    indices, depth, on_value, off_value = arrays
    axis = int(node.attrs.get("axis", -1))
    axis = indices.ndim if axis == -1 else axis
    numbers = np.arange(int(depth)).reshape((-1,) + (1,) * (indices.ndim - axis))
    return (np.where(np.expand_dims(indices, axis) == numbers, on_value, off_value),)


def _select(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    """The condition has the shape of the operands, or says which of their rows to take."""
    condition, yes, no = arrays
    if condition.ndim == 1 and yes.ndim > 1:
        condition = condition.reshape((-1,) + (1,) * (yes.ndim - 1))
    return (np.where(condition, yes, no),)


def _pad(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    array, paddings = arrays[0], arrays[1].tolist()
    value = arrays[2] if len(arrays) > 2 else np.zeros((), array.dtype)
    shape = [size + before + after for size, (before, after) in zip(array.shape, paddings)]
    result = np.full(shape, value, array.dtype)
    inner = tuple(slice(before, before + size) for size, (before, _) in zip(array.shape, paddings))
    result[inner] = array
    return (result,)


def _range(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    start, limit, delta = [array.item() for array in arrays]
    return (np.arange(start, limit, delta).astype(arrays[0].dtype),)


def _fill(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    return (np.full(_sizes(arrays[0]), arrays[1], arrays[1].dtype),)


def _concat_v1(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    return (np.concatenate(arrays[1:], axis=int(arrays[0])),)


def _random_uniform(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    """Uniform in [0, 1), the same numbers at every run."""
    generator = np.random.RandomState(int(node.attrs.get("seed2", 0)) & 0xFFFFFFFF)
    return (generator.random_sample(_sizes(arrays[0])).astype(node.attrs["dtype"]),)


def _stateless_random_uniform(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    """Uniform in [0, 1); which numbers a seed gives is nobody's contract."""
    generator = np.random.RandomState(np.ravel(arrays[1]).astype(np.int64) & 0xFFFFFFFF)
    return (generator.random_sample(_sizes(arrays[0])).astype(node.attrs["dtype"]),)


def _ensure_shape(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    expected, found = node.attrs.get("shape"), arrays[0].shape
    if expected is not None and (
        len(expected) != len(found)
        or any(size is not None and size != real for size, real in zip(expected, found))
    ):
        raise GraphError("EnsureShape %r wants %s, gets %s" % (node.name, expected, found))
    return (arrays[0],)


def _sizes(shape: np.ndarray) -> Tuple[int, ...]:
    return tuple(int(size) for size in shape)


def _out_type(node: Node) -> np.dtype:
    return np.dtype(node.attrs.get("out_type", "int32"))


ARRAY_KERNELS: Dict[str, Kernel] = {
    "BroadcastTo": lambda node, arrays: (np.broadcast_to(arrays[0], _sizes(arrays[1])),),
    "Cast": lambda node, arrays: (arrays[0].astype(node.attrs["DstT"]),),
    "Concat": _concat_v1,
    "ConcatV2": lambda node, arrays: (np.concatenate(arrays[:-1], axis=int(arrays[-1])),),
    "Const": lambda node, arrays: (node.attrs["value"],),
    "EnsureShape": _ensure_shape,
    "ExpandDims": lambda node, arrays: (np.expand_dims(arrays[0], int(arrays[1].item())),),
    "Fill": _fill,
    "Gather": _gather_v1,
    "GatherNd": _gather_nd,
    "GatherV2": _gather_v2,
    "IdentityN": lambda node, arrays: tuple(arrays),
    "NoOp": lambda node, arrays: (),
    "OneHot": _one_hot,
    "OnesLike": unary(np.ones_like),
    "Pack": lambda node, arrays: (np.stack(arrays, axis=int(node.attrs.get("axis", 0))),),
    "Pad": _pad,
    "PadV2": _pad,
    "PlaceholderWithDefault": unary(lambda array: array),
    "RandomUniform": _random_uniform,
    "Range": _range,
    "Rank": lambda node, arrays: (np.array(arrays[0].ndim, np.int32),),
    # A handle's value is the variable's here.
    "ReadVariableOp": unary(lambda array: array),
    "Reshape": lambda node, arrays: (arrays[0].reshape(_sizes(arrays[1])),),
    "ResourceGather": _gather_v1,
    "Select": _select,
    "SelectV2": lambda node, arrays: (np.where(arrays[0], arrays[1], arrays[2]),),
    "Shape": lambda node, arrays: (np.array(arrays[0].shape, _out_type(node)),),
    "Size": lambda node, arrays: (np.array(arrays[0].size, _out_type(node)),),
    "Slice": _slice,
    "Split": _split,
    "SplitV": _split_v,
    "Squeeze": _squeeze,
    "StatelessRandomUniform": _stateless_random_uniform,
    "StridedSlice": _strided_slice,
    "Tile": lambda node, arrays: (np.tile(arrays[0], _sizes(arrays[1])),),
    "Transpose": lambda node, arrays: (np.transpose(arrays[0], _sizes(arrays[1])),),
    "Unpack": _unpack,
    "ZerosLike": unary(np.zeros_like),
}
