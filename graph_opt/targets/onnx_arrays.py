"""How the operations that move and choose elements are said in ONNX, operator set 17."""

from __future__ import annotations

from typing import Dict, List

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.targets.onnx_emission import LONG, Emission, Emitter

__all__ = ["ARRAY_EMITTERS", "emit_cast"]

BOOL = np.dtype("bool")


def emit_cast(emission: Emission, tensor: str, output: str, dtype: np.dtype) -> None:
    """Convert a tensor."""
    emission.add("Cast", (tensor,), output, to=np.dtype(dtype))


def _cast(emission: Emission, node: Node) -> None:
    emit_cast(emission, node.data_inputs[0], node.name, node.attrs["DstT"])


def _count(op: str) -> Emitter:
    """Shape or Size, which give int64."""

    def emit(emission: Emission, node: Node) -> None:
        if emission.dtypes[node.name] == LONG:
            emission.add(op, node.data_inputs, node.name)
        else:
            long = emission.add(op, node.data_inputs, node.name + ":int64")
            emit_cast(emission, long, node.name, emission.dtypes[node.name])

    return emit


def _rank(emission: Emission, node: Node) -> None:
    shape = emission.add("Shape", node.data_inputs, node.name + ":shape")
    size = emission.add("Size", (shape,), node.name + ":int64")
    emit_cast(emission, size, node.name, emission.dtypes[node.name])


def _range(emission: Emission, node: Node) -> None:
    """In int64 if the numbers are whole.

    Where a limit comes from a fixed dimension, onnxruntime 1.32 replaces it by an int64 constant
    though it was cast, and then misses one dtype for all three.
    """
    dtype = emission.dtypes[node.name]
    if dtype.kind not in "iu" or dtype == LONG:
        emission.add("Range", node.data_inputs, node.name)
        return
    bounds = [emission.as_long(node, position) for position in range(3)]
    numbers = emission.add("Range", bounds, node.name + ":int64")
    emit_cast(emission, numbers, node.name, dtype)


def _reshape(emission: Emission, node: Node) -> None:
    attrs = {}
    if emission.is_constant(node, 1) and 0 in emission.constant(node, 1):
        # ONNX's 0 means "as before" unless told otherwise.
        attrs["allowzero"] = 1
    emission.add("Reshape", (node.data_inputs[0], emission.as_long(node, 1)), node.name, **attrs)


def _transpose(emission: Emission, node: Node) -> None:
    perm = [int(axis) for axis in emission.constant(node, 1)]
    emission.add("Transpose", node.data_inputs[:1], node.name, perm=perm)


def _expand_dims(emission: Emission, node: Node) -> None:
    axes = emission.long(node, "axes", np.ravel(emission.constant(node, 1)))
    emission.add("Unsqueeze", (node.data_inputs[0], axes), node.name)


def _squeeze(emission: Emission, node: Node) -> None:
    inputs = [node.data_inputs[0]]
    if node.attrs.get("squeeze_dims"):
        inputs.append(emission.long(node, "axes", node.attrs["squeeze_dims"]))
    emission.add("Squeeze", inputs, node.name)


def _concat(emission: Emission, node: Node) -> None:
    last = len(node.data_inputs) - 1
    position = 0 if node.op == "Concat" else last
    parts = node.data_inputs[1:] if node.op == "Concat" else node.data_inputs[:-1]
    emission.add("Concat", parts, node.name, axis=int(emission.constant(node, position)))


def _pack(emission: Emission, node: Node) -> None:
    axis = int(node.attrs.get("axis", 0))
    axes = emission.long(node, "axes", [axis])
    parts = [
        emission.add("Unsqueeze", (tensor, axes), "%s:part_%d" % (node.name, index))
        for index, tensor in enumerate(node.data_inputs)
    ]
    emission.add("Concat", parts, node.name, axis=axis)


def _outputs(node: Node, count: int) -> List[str]:
    return [node.name] + ["%s:%d" % (node.name, index) for index in range(1, count)]


def _unpack(emission: Emission, node: Node) -> None:
    axis = int(node.attrs.get("axis", 0))
    for index, output in enumerate(_outputs(node, int(node.attrs["num"]))):
        place = emission.long(node, "index_%d" % index, index)
        emission.add("Gather", (node.data_inputs[0], place), output, axis=axis)


def _split(emission: Emission, node: Node) -> None:
    outputs = _outputs(node, int(node.attrs["num_split"]))
    axis = int(emission.constant(node, 0))
    emission.add_several("Split", node.data_inputs[1:], outputs, axis=axis)


def _split_v(emission: Emission, node: Node) -> None:
    outputs = _outputs(node, int(node.attrs["num_split"]))
    axis = int(emission.constant(node, 2))
    sizes = emission.as_long(node, 1)
    if not emission.is_constant(node, 1) or -1 in emission.constant(node, 1):
        sizes = _completed(emission, node, sizes, axis)
    emission.add_several("Split", (node.data_inputs[0], sizes), outputs, axis=axis)


def _completed(emission: Emission, node: Node, sizes: str, axis: int) -> str:
    """The sizes with -1 replaced by what the others leave of the axis."""
    name = node.name
    zero = emission.long(node, "zero", 0)
    shape = emission.add("Shape", node.data_inputs[:1], name + ":shape")
    whole = emission.add("Gather", (shape, emission.long(node, "axis", axis)), name + ":whole")
    rest = emission.add("Less", (sizes, zero), name + ":is_rest")
    known = emission.add("Where", (rest, zero, sizes), name + ":known")
    total = emission.add("ReduceSum", (known,), name + ":total", keepdims=0)
    left = emission.add("Sub", (whole, total), name + ":left")
    return emission.add("Where", (rest, left, sizes), name + ":sizes")


def _gather(emission: Emission, node: Node) -> None:
    axis = int(emission.constant(node, 2)) if node.op == "GatherV2" else 0
    batch_dims = int(node.attrs.get("batch_dims", 0))
    if not batch_dims:
        emission.add("Gather", node.data_inputs[:2], node.name, axis=axis)
        return
    if batch_dims < 0:
        batch_dims += emission.rank(node, 1)
    if axis < 0:
        axis += emission.rank(node, 0)
    if axis != batch_dims:
        raise GraphError(
            "GatherV2 %r has batch_dims %d and axis %d: ONNX needs them to be equal"
            % (node.name, batch_dims, axis)
        )
    last = emission.long(node, "last", [-1])
    indices = emission.add("Unsqueeze", (emission.as_long(node, 1), last), node.name + ":indices")
    emission.add("GatherND", (node.data_inputs[0], indices), node.name, batch_dims=batch_dims)


def _gather_nd(emission: Emission, node: Node) -> None:
    emission.add("GatherND", (node.data_inputs[0], emission.as_long(node, 1)), node.name)


def emit_where(emission: Emission, condition: str, yes: str, no: str, output: str) -> None:
    """Choose elementwise. onnxruntime has no Where of bools: these are said in logic."""
    if emission.dtypes.get(yes) != BOOL:
        emission.add("Where", (condition, yes, no), output)
        return
    inverse = emission.add("Not", (condition,), output + ":not")
    left = emission.add("And", (condition, yes), output + ":yes")
    right = emission.add("And", (inverse, no), output + ":no")
    emission.add("Or", (left, right), output)


def _select(emission: Emission, node: Node) -> None:
    condition, yes, no = node.data_inputs
    if node.op == "Select" and emission.rank(node, 0) == 1 and emission.rank(node, 1) > 1:
        axes = emission.long(node, "axes", range(1, emission.rank(node, 1)))
        condition = emission.add("Unsqueeze", (condition, axes), node.name + ":rows")
    emit_where(emission, condition, yes, no, node.name)


def _one_hot(emission: Emission, node: Node) -> None:
    """By comparing with 0, 1, ...: to ONNX's OneHot -1 is the last place, to TensorFlow none."""
    on_value, off_value = node.data_inputs[2:]
    rank = emission.rank(node, 0)
    axis = int(node.attrs.get("axis", -1))
    axis = rank if axis == -1 else axis
    # onnxruntime compares int32 and int64 only.
    numbers = np.arange(int(emission.constant(node, 1)))
    places = emission.long(node, "places", numbers.reshape((-1,) + (1,) * (rank - axis)))
    axes = emission.long(node, "axes", [axis])
    column = emission.add("Unsqueeze", (emission.as_long(node, 0), axes), node.name + ":column")
    if _is_scalar(emission, on_value, 1) and _is_scalar(emission, off_value, 0):
        equal = emission.add("Equal", (column, places), node.name + ":equal")
        emit_cast(emission, equal, node.name, emission.dtypes[node.name])
        return
    equal = emission.add("Equal", (column, places), node.name + ":equal")
    emit_where(emission, equal, on_value, off_value, node.name)


def _is_scalar(emission: Emission, tensor: str, value: int) -> bool:
    node = emission.graph[tensor]
    return node.op == "Const" and bool(np.asarray(node.attrs["value"]) == value)


def _expand(value: int, shape: int) -> Emitter:
    """Fill and BroadcastTo: the positions of value and shape."""

    def emit(emission: Emission, node: Node) -> None:
        inputs = (node.data_inputs[value], emission.as_long(node, shape))
        emission.add("Expand", inputs, node.name)

    return emit


def _like(value: int) -> Emitter:
    """ZerosLike and OnesLike."""

    def emit(emission: Emission, node: Node) -> None:
        shape = emission.add("Shape", node.data_inputs, node.name + ":shape")
        emission.add("Expand", (emission.scalar(node, "value", value), shape), node.name)

    return emit


def _tile(emission: Emission, node: Node) -> None:
    emission.add("Tile", (node.data_inputs[0], emission.as_long(node, 1)), node.name)


def _pad(emission: Emission, node: Node) -> None:
    """TensorFlow's pads are [axis, side], ONNX's a list of all first sides, then all last."""
    if emission.is_constant(node, 1):
        pads = emission.long(node, "pads", np.ravel(emission.constant(node, 1).T))
    else:
        turned = emission.add("Transpose", (emission.as_long(node, 1),), node.name + ":turned")
        flat = emission.long(node, "flat", [-1])
        pads = emission.add("Reshape", (turned, flat), node.name + ":pads")
    emission.add("Pad", (node.data_inputs[0], pads) + node.data_inputs[2:], node.name)


def _identity_n(emission: Emission, node: Node) -> None:
    for tensor, output in zip(node.data_inputs, _outputs(node, len(node.data_inputs))):
        emission.add("Identity", (tensor,), output)


def _default(emission: Emission, node: Node) -> None:
    if node.name not in emission.graph.inputs:
        emission.add("Identity", node.data_inputs, node.name)


ARRAY_EMITTERS: Dict[str, Emitter] = {
    "BroadcastTo": _expand(0, 1),
    "Cast": _cast,
    "Concat": _concat,
    "ConcatV2": _concat,
    "ExpandDims": _expand_dims,
    "Fill": _expand(1, 0),
    "Gather": _gather,
    "GatherNd": _gather_nd,
    "GatherV2": _gather,
    "IdentityN": _identity_n,
    "OneHot": _one_hot,
    "OnesLike": _like(1),
    "Pack": _pack,
    "Pad": _pad,
    "PadV2": _pad,
    "PlaceholderWithDefault": _default,
    "Range": _range,
    "Rank": _rank,
    "Reshape": _reshape,
    "Select": _select,
    "SelectV2": _select,
    "Shape": _count("Shape"),
    "Size": _count("Size"),
    "Split": _split,
    "SplitV": _split_v,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unpack": _unpack,
    "ZerosLike": _like(0),
}
