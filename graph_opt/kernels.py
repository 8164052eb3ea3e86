"""Each operation in numpy: the meaning that the interpreter, and so every test, goes by.

A kernel takes the node and its input arrays and returns the outputs. Arithmetic stays in the dtype
of the inputs, as it does in an engine.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.signatures import PASS_THROUGH

__all__ = ["KERNELS", "Kernel"]

Arrays = Sequence[np.ndarray]
Kernel = Callable[[Node, Arrays], Tuple[Any, ...]]

# numpy has no erf. frompyfunc works on Python floats, i.e. in float64.
_erf = np.frompyfunc(math.erf, 1, 1)


def _unary(function: Callable[[np.ndarray], Any]) -> Kernel:
    return lambda node, arrays: (function(arrays[0]),)


def _binary(function: Callable[[np.ndarray, np.ndarray], Any]) -> Kernel:
    return lambda node, arrays: (function(arrays[0], arrays[1]),)


def _reduction(function: Callable[..., Any]) -> Kernel:
    def run(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
        axes = tuple(int(axis) for axis in np.ravel(arrays[1]))
        keep = bool(node.attrs.get("keep_dims", False))
        # numpy sums small integers in a wider dtype; TensorFlow doesn't.
        return (np.asarray(function(arrays[0], axis=axes, keepdims=keep), arrays[0].dtype),)

    return run


def _matmul(left: str, right: str) -> Kernel:
    def run(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
        a, b = arrays
        a = np.swapaxes(a, -1, -2) if node.attrs.get(left) else a
        b = np.swapaxes(b, -1, -2) if node.attrs.get(right) else b
        return (np.matmul(a, b),)

    return run


def _softmax(array: np.ndarray) -> np.ndarray:
    powers = np.exp(array - array.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _gather(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    params, indices, axis = arrays
    return (np.take(params, indices, axis=int(axis)),)


def _gather_nd(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    params, indices = arrays
    return (params[tuple(np.moveaxis(indices, -1, 0))],)


def _range(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    start, limit, delta = arrays
    return (np.arange(int(start), int(limit), int(delta)).astype(start.dtype),)


def _random_uniform(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    """Uniform in [0, 1), the same numbers at every run."""
    generator = np.random.RandomState(int(node.attrs.get("seed2", 0)))
    return (generator.random_sample(tuple(arrays[0])).astype(node.attrs["dtype"]),)


def _table() -> Dict[str, Kernel]:
    identity = _unary(lambda array: array)
    table: Dict[str, Kernel] = {
        "Const": lambda node, arrays: (node.attrs["value"],),
        "NoOp": lambda node, arrays: (),
        "RandomUniform": _random_uniform,
        "Range": _range,
        # Arrays.
        "Cast": lambda node, arrays: (arrays[0].astype(node.attrs["DstT"]),),
        "ConcatV2": lambda node, arrays: (np.concatenate(arrays[:-1], axis=int(arrays[-1])),),
        "ExpandDims": _binary(lambda array, axis: np.expand_dims(array, int(axis))),
        "GatherNd": _gather_nd,
        "GatherV2": _gather,
        "Pack": lambda node, arrays: (np.stack(arrays, axis=int(node.attrs.get("axis", 0))),),
        "Reshape": _binary(lambda array, shape: array.reshape([int(size) for size in shape])),
        "SelectV2": lambda node, arrays: (np.where(arrays[0], arrays[1], arrays[2]),),
        "Shape": lambda node, arrays: (np.array(arrays[0].shape, node.attrs["out_type"]),),
        "Transpose": _binary(lambda array, perm: np.transpose(array, [int(axis) for axis in perm])),
        # Arithmetic.
        "Add": _binary(np.add),
        "AddV2": _binary(np.add),
        "BatchMatMulV2": _matmul("adj_x", "adj_y"),
        "BiasAdd": _binary(np.add),
        "Erf": _unary(lambda array: _erf(array).astype(array.dtype)),
        "Floor": _unary(np.floor),
        "MatMul": _matmul("transpose_a", "transpose_b"),
        "Maximum": _binary(np.maximum),
        "Minimum": _binary(np.minimum),
        "Mul": _binary(np.multiply),
        "Pow": _binary(np.power),
        "RealDiv": _binary(np.true_divide),
        "Relu": _unary(lambda array: np.maximum(array, array.dtype.type(0))),
        "Softmax": _unary(_softmax),
        "Sqrt": _unary(np.sqrt),
        "Square": _unary(np.square),
        "Sub": _binary(np.subtract),
        "Tanh": _unary(np.tanh),
        # Reductions and comparisons.
        "Max": _reduction(np.max),
        "Mean": _reduction(np.mean),
        "Sum": _reduction(np.sum),
        "Equal": _binary(np.equal),
        "Greater": _binary(np.greater),
        "GreaterEqual": _binary(np.greater_equal),
        "Less": _binary(np.less),
        "LessEqual": _binary(np.less_equal),
    }
    table.update((op, identity) for op in PASS_THROUGH)
    return table


KERNELS: Mapping[str, Kernel] = _table()
