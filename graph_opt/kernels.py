"""Each operation in numpy: the meaning that the interpreter, and so every test, goes by.

A kernel takes the node and its input arrays and returns the outputs. Arithmetic stays in the dtype
of the inputs, as it does in an engine.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Tuple

import numpy as np

from bert_serving.graph_opt.erf import erf
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.kernels_arrays import ARRAY_KERNELS
from bert_serving.graph_opt.kernels_base import Arrays, Kernel, binary, unary, widened
from bert_serving.graph_opt.quantization import DYNAMIC_QUANT_MAT_MUL, dynamic_quant_mat_mul
from bert_serving.graph_opt.signatures import PASS_THROUGH

__all__ = ["KERNELS", "Kernel"]

# Klambauer et al., "Self-Normalizing Neural Networks" (2017), section 2, to float64.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def _reduction(function: Callable[..., Any]) -> Kernel:
    reduce = widened(function)

    def run(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
        axes = tuple(int(axis) for axis in np.ravel(arrays[1]))
        keep = bool(node.attrs.get("keep_dims", False))
        # numpy sums small integers in a wider dtype; TensorFlow doesn't.
        return (np.asarray(reduce(arrays[0], axis=axes, keepdims=keep)).astype(arrays[0].dtype),)

    return run


def _matmul(left: str, right: str) -> Kernel:
    def run(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
        a, b = arrays
        a = np.swapaxes(a, -1, -2) if node.attrs.get(left) else a
        b = np.swapaxes(b, -1, -2) if node.attrs.get(right) else b
        return (widened(np.matmul)(a, b),)

    return run


def _einsum(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    equation = node.attrs["equation"]
    text = equation.decode() if isinstance(equation, bytes) else equation
    compute = widened(lambda *operands: np.einsum(text, *operands, optimize=True))
    return (compute(*arrays),)


def _bias_add(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    array, bias = arrays
    if node.attrs.get("data_format", b"NHWC") in (b"NCHW", "NCHW"):
        bias = bias.reshape((-1,) + (1,) * (array.ndim - 2))
    return (array + bias,)


def _add_n(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return (total,)


def _argument(function: Callable[..., Any]) -> Kernel:
    return lambda node, arrays: (
        function(arrays[0], axis=int(arrays[1])).astype(node.attrs.get("output_type", np.int64)),
    )


def _cumsum(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    array, axis = arrays[0], int(arrays[1])
    reverse = bool(node.attrs.get("reverse"))
    turned = np.flip(array, axis) if reverse else array
    total = np.asarray(widened(np.cumsum)(turned, axis=axis), array.dtype)
    if node.attrs.get("exclusive"):
        total = total - turned
    return (np.flip(total, axis) if reverse else total,)


def _softmax(array: np.ndarray) -> np.ndarray:
    powers = np.exp(array - array.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _log_softmax(array: np.ndarray) -> np.ndarray:
    shifted = array - array.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _sigmoid(array: np.ndarray) -> np.ndarray:
    one = array.dtype.type(1)
    return one / (one + np.exp(-array))


def _erfc(array: np.ndarray) -> np.ndarray:
    """1 - erf, to the absolute precision of float64."""
    return (1.0 - erf(array.astype(np.float64))).astype(array.dtype)


def _elu(array: np.ndarray) -> np.ndarray:
    return np.where(array > 0, array, np.expm1(np.minimum(array, 0)).astype(array.dtype))


def _selu(array: np.ndarray) -> np.ndarray:
    negative = array.dtype.type(_SELU_ALPHA) * np.expm1(np.minimum(array, array.dtype.type(0)))
    return array.dtype.type(_SELU_SCALE) * np.where(array > 0, array, negative)


def _leaky_relu(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    array = arrays[0]
    # 0.2 is the op registry's default.
    slope = array.dtype.type(node.attrs.get("alpha", 0.2))
    return (np.where(array > 0, array, slope * array),)


def _divide(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """As in C: integers are divided towards zero."""
    if left.dtype.kind not in "iu":
        return np.true_divide(left, right)
    # Without the detour over floats, which can't hold every int64.
    quotient = np.floor_divide(left, right)
    inexact = np.not_equal(quotient * right, left)
    return quotient + (inexact & ((left < 0) != (right < 0)))


def _divide_no_nan(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    zero = right == 0
    one = right.dtype.type(1)
    return np.where(zero, right.dtype.type(0), left / np.where(zero, one, right))


def _squared_difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.square(left - right)


def _check_numerics(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    if not np.isfinite(arrays[0]).all():
        raise GraphError(
            "CheckNumerics %r: %r has values that aren't finite" % (node.name, node.inputs[0])
        )
    return (arrays[0],)


def _assert(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    if not arrays[0].all():
        data = ", ".join(str(array) for array in arrays[1:])
        raise GraphError("the assertion %r doesn't hold: %s" % (node.name, data))
    return ()


def _table() -> Dict[str, Kernel]:
    table: Dict[str, Kernel] = {
        "AddN": _add_n,
        "ArgMax": _argument(np.argmax),
        "ArgMin": _argument(np.argmin),
        "Assert": _assert,
        "BatchMatMul": _matmul("adj_x", "adj_y"),
        "BatchMatMulV2": _matmul("adj_x", "adj_y"),
        "BiasAdd": _bias_add,
        "CheckNumerics": _check_numerics,
        "Cumsum": _cumsum,
        DYNAMIC_QUANT_MAT_MUL: dynamic_quant_mat_mul,
        "Einsum": _einsum,
        "LeakyRelu": _leaky_relu,
        "MatMul": _matmul("transpose_a", "transpose_b"),
    }
    table.update(ARRAY_KERNELS)
    table.update((op, unary(function)) for op, function in _UNARY.items())
    table.update((op, binary(function)) for op, function in _BINARY.items())
    table.update((op, _reduction(function)) for op, function in _REDUCTIONS.items())
    table.update((op, unary(lambda array: array)) for op in PASS_THROUGH)
    return table


_UNARY: Mapping[str, Callable[[np.ndarray], Any]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Elu": widened(_elu),
    "Erf": erf,
    "Erfc": _erfc,
    "Exp": np.exp,
    "Floor": np.floor,
    "Inv": lambda array: array.dtype.type(1) / array,
    "Log": np.log,
    "Log1p": np.log1p,
    "LogSoftmax": widened(_log_softmax),
    "LogicalNot": np.logical_not,
    "Neg": np.negative,
    "Reciprocal": lambda array: array.dtype.type(1) / array,
    "Relu": lambda array: np.maximum(array, array.dtype.type(0)),
    "Relu6": lambda array: np.minimum(np.maximum(array, array.dtype.type(0)), array.dtype.type(6)),
    "Round": np.rint,
    "Rsqrt": widened(lambda array: array.dtype.type(1) / np.sqrt(array)),
    "Selu": widened(_selu),
    "Sigmoid": widened(_sigmoid),
    "Sign": np.sign,
    "Sin": np.sin,
    "Softmax": widened(_softmax),
    "Softplus": widened(lambda array: np.logaddexp(array, array.dtype.type(0))),
    "Sqrt": np.sqrt,
    "Square": np.square,
    "Tanh": np.tanh,
}
_BINARY: Mapping[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Div": _divide,
    "DivNoNan": _divide_no_nan,
    "Equal": np.equal,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "NotEqual": np.not_equal,
    "Pow": np.power,
    "RealDiv": np.true_divide,
    "SquaredDifference": _squared_difference,
    "Sub": np.subtract,
}
_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "All": np.all,
    "Any": np.any,
    "Max": np.max,
    "Mean": np.mean,
    "Min": np.min,
    "Prod": np.prod,
    "Sum": np.sum,
}

KERNELS: Mapping[str, Kernel] = _table()
