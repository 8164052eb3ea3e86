"""How each operation is said in ONNX, operator set 17: one small function an operation."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import numpy as np

from bert_serving.graph_opt.errors import UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.quantization import DYNAMIC_QUANT_MAT_MUL
from bert_serving.graph_opt.signatures import PASS_THROUGH
from bert_serving.graph_opt.targets.onnx_arrays import ARRAY_EMITTERS, emit_cast
from bert_serving.graph_opt.targets.onnx_emission import (
    LONG,
    Emission,
    Emitter,
    OnnxNode,
    canonical,
    inference_nodes,
)
from bert_serving.graph_opt.targets.onnx_quantized import emit_dynamic_quant_mat_mul
from bert_serving.graph_opt.targets.onnx_slices import SLICE_EMITTERS

__all__ = ["EMITTERS", "Emission", "OnnxNode", "emit_nodes"]


def emit_nodes(graph: Graph) -> Emission:
    """Translate every node that the outputs need.

    Raises:
        UnsupportedOp: an operation has no emitter.
        GraphError: an operation is used in a way that ONNX can't say.
    """
    needed = inference_nodes(graph)
    for node in needed:
        if node.op not in EMITTERS:
            raise UnsupportedOp(node.name, node.op, "the ONNX target")
    emission = Emission(needed)
    for node in needed.topological():
        EMITTERS[node.op](emission, node)
    for tensor in dict.fromkeys(graph.outputs):
        emission.use(canonical(tensor))
        if tensor != canonical(tensor):
            emission.add("Identity", (canonical(tensor),), tensor)
    return emission


def _skip(emission: Emission, node: Node) -> None:
    """Inputs are declared, and constants added, by whoever reads them."""


def _plain(op: str, **attrs: Any) -> Emitter:
    """The same inputs under another operator name."""

    def emit(emission: Emission, node: Node) -> None:
        emission.add(op, node.data_inputs, node.name, **attrs)

    return emit


def _square(emission: Emission, node: Node) -> None:
    """As a power: the form in which onnxruntime recognizes layer normalization."""
    two = emission.scalar(node, "two", 2)
    emission.add("Pow", (node.data_inputs[0], two), node.name)


def _squared_difference(emission: Emission, node: Node) -> None:
    difference = emission.add("Sub", node.data_inputs, node.name + ":difference")
    emission.add("Mul", (difference, difference), node.name)


def _rsqrt(emission: Emission, node: Node) -> None:
    root = emission.add("Sqrt", node.data_inputs, node.name + ":root")
    emission.add("Reciprocal", (root,), node.name)


def _log1p(emission: Emission, node: Node) -> None:
    one = emission.scalar(node, "one", 1)
    plus = emission.add("Add", node.data_inputs + (one,), node.name + ":plus")
    emission.add("Log", (plus,), node.name)


def _erfc(emission: Emission, node: Node) -> None:
    one = emission.scalar(node, "one", 1)
    complement = emission.add("Erf", node.data_inputs, node.name + ":erf")
    emission.add("Sub", (one, complement), node.name)


def _relu6(emission: Emission, node: Node) -> None:
    bounds = (emission.scalar(node, "zero", 0), emission.scalar(node, "six", 6))
    emission.add("Clip", node.data_inputs + bounds, node.name)


def _axes(emission: Emission, node: Node) -> List[int]:
    return [int(axis) for axis in np.ravel(emission.constant(node, 1))]


def _reduce(op: str) -> Emitter:
    """ReduceMean and ReduceMax take their axes as an attribute until operator set 18."""

    def emit(emission: Emission, node: Node) -> None:
        _emit_reduction(emission, node, op, node.data_inputs[0], node.name)

    return emit


def _emit_reduction(emission: Emission, node: Node, op: str, tensor: str, output: str) -> None:
    axes = _axes(emission, node)
    keep = int(bool(node.attrs.get("keep_dims")))
    if not axes:
        # ONNX takes no axes for all of them.
        emission.add("Identity", (tensor,), output)
    elif op == "ReduceSum":
        emission.add(op, (tensor, emission.long(node, "axes", axes)), output, keepdims=keep)
    else:
        emission.add(op, (tensor,), output, axes=axes, keepdims=keep)


def _reduce_bool(op: str) -> Emitter:
    """All and Any: the minimum and maximum of 0 and 1."""

    def emit(emission: Emission, node: Node) -> None:
        number = node.name + ":int32"
        emit_cast(emission, node.data_inputs[0], number, np.dtype("int32"))
        reduced = node.name + ":reduced"
        _emit_reduction(emission, node, op, number, reduced)
        emit_cast(emission, reduced, node.name, np.dtype("bool"))

    return emit


def _argument(op: str) -> Emitter:
    def emit(emission: Emission, node: Node) -> None:
        axis = int(emission.constant(node, 1))
        dtype = emission.dtypes[node.name]
        output = node.name if dtype == LONG else node.name + ":int64"
        emission.add(op, node.data_inputs[:1], output, axis=axis, keepdims=0)
        if dtype != LONG:
            emit_cast(emission, output, node.name, dtype)

    return emit


def _matmul(left: str, right: str) -> Emitter:
    def emit(emission: Emission, node: Node) -> None:
        operands = []
        for position, flag in enumerate((left, right)):
            tensor = node.data_inputs[position]
            if node.attrs.get(flag):
                perm = list(range(emission.rank(node, position)))
                perm[-2:] = perm[:-3:-1]
                name = "%s:%s" % (node.name, flag)
                tensor = emission.add("Transpose", (tensor,), name, perm=perm)
            operands.append(tensor)
        emission.add("MatMul", operands, node.name)

    return emit


def _einsum(emission: Emission, node: Node) -> None:
    equation = node.attrs["equation"]
    text = equation.decode() if isinstance(equation, bytes) else equation
    emission.add("Einsum", node.data_inputs, node.name, equation=text)


def _bias_add(emission: Emission, node: Node) -> None:
    array, bias = node.data_inputs
    if node.attrs.get("data_format", b"NHWC") in (b"NCHW", "NCHW"):
        axes = emission.long(node, "axes", range(1, emission.rank(node, 0) - 1))
        bias = emission.add("Unsqueeze", (bias, axes), node.name + ":column")
    emission.add("Add", (array, bias), node.name)


def _add_n(emission: Emission, node: Node) -> None:
    """As a chain: onnxruntime's Sum knows floats only."""
    total, rest = node.data_inputs[0], node.data_inputs[1:]
    if not rest:
        emission.add("Identity", (total,), node.name)
    for left, tensor in zip(range(len(rest) - 1, -1, -1), rest):
        output = "%s:total_%d" % (node.name, left) if left else node.name
        total = emission.add("Add", (total, tensor), output)


def _not_equal(emission: Emission, node: Node) -> None:
    equal = emission.add("Equal", node.data_inputs, node.name + ":equal")
    emission.add("Not", (equal,), node.name)


def _divide_no_nan(emission: Emission, node: Node) -> None:
    left, right = node.data_inputs
    zero, one = emission.scalar(node, "zero", 0), emission.scalar(node, "one", 1)
    is_zero = emission.add("Equal", (right, zero), node.name + ":is_zero")
    divisor = emission.add("Where", (is_zero, one, right), node.name + ":divisor")
    quotient = emission.add("Div", (left, divisor), node.name + ":quotient")
    emission.add("Where", (is_zero, zero, quotient), node.name)


def _floor_div(emission: Emission, node: Node) -> None:
    """ONNX divides integers towards zero; without the remainder there is nothing to cut off."""
    left, right = node.data_inputs
    if emission.dtypes[left].kind not in "iu":
        quotient = emission.add("Div", (left, right), node.name + ":quotient")
        emission.add("Floor", (quotient,), node.name)
        return
    rest = emission.add("Mod", (left, right), node.name + ":rest")
    whole = emission.add("Sub", (left, rest), node.name + ":whole")
    emission.add("Div", (whole, right), node.name)


def _floor_mod(emission: Emission, node: Node) -> None:
    """The remainder with the sign of the divisor; ONNX has it for integers only."""
    left, right = node.data_inputs
    if emission.dtypes[left].kind in "iu":
        emission.add("Mod", (left, right), node.name)
        return
    quotient = emission.add("Div", (left, right), node.name + ":quotient")
    floor = emission.add("Floor", (quotient,), node.name + ":floor")
    product = emission.add("Mul", (floor, right), node.name + ":product")
    emission.add("Sub", (left, product), node.name)


def _leaky_relu(emission: Emission, node: Node) -> None:
    alpha = float(node.attrs.get("alpha", 0.2))
    emission.add("LeakyRelu", node.data_inputs, node.name, alpha=alpha)


def _cumsum(emission: Emission, node: Node) -> None:
    flags = {flag: int(bool(node.attrs.get(flag))) for flag in ("exclusive", "reverse")}
    emission.add("CumSum", node.data_inputs, node.name, **flags)


def _table() -> Dict[str, Emitter]:
    table: Dict[str, Emitter] = {
        "AddN": _add_n,
        "All": _reduce_bool("ReduceMin"),
        "Any": _reduce_bool("ReduceMax"),
        "ArgMax": _argument("ArgMax"),
        "ArgMin": _argument("ArgMin"),
        "BatchMatMul": _matmul("adj_x", "adj_y"),
        "BatchMatMulV2": _matmul("adj_x", "adj_y"),
        "BiasAdd": _bias_add,
        "Cumsum": _cumsum,
        "DivNoNan": _divide_no_nan,
        DYNAMIC_QUANT_MAT_MUL: emit_dynamic_quant_mat_mul,
        "Einsum": _einsum,
        "Erfc": _erfc,
        "FloorDiv": _floor_div,
        "FloorMod": _floor_mod,
        "LeakyRelu": _leaky_relu,
        "Log1p": _log1p,
        "LogSoftmax": _plain("LogSoftmax", axis=-1),
        "MatMul": _matmul("transpose_a", "transpose_b"),
        "Max": _reduce("ReduceMax"),
        "Mean": _reduce("ReduceMean"),
        "Min": _reduce("ReduceMin"),
        "NotEqual": _not_equal,
        "Prod": _reduce("ReduceProd"),
        "Relu6": _relu6,
        "Rsqrt": _rsqrt,
        "Softmax": _plain("Softmax", axis=-1),
        "Square": _square,
        "SquaredDifference": _squared_difference,
        "Sum": _reduce("ReduceSum"),
    }
    table.update(ARRAY_EMITTERS)
    table.update(SLICE_EMITTERS)
    table.update((op, _plain(name)) for op, name in _RENAMED.items())
    table.update((op, _plain(op)) for op in _SAME.split())
    table.update((op, _plain("Identity")) for op in PASS_THROUGH + ("CheckNumerics", "EnsureShape"))
    table.update((op, _skip) for op in ("Const", "NoOp", "Placeholder"))
    return table


_SAME = (
    "Abs Ceil Cos Div Elu Equal Erf Exp Floor Greater Less Log Mul Neg Pow Reciprocal Relu"
    " Round Selu Sigmoid Sign Sin Softplus Sqrt Sub Tanh"
)
_RENAMED = {
    "Add": "Add",
    "AddV2": "Add",
    "Inv": "Reciprocal",
    "GreaterEqual": "GreaterOrEqual",
    "LessEqual": "LessOrEqual",
    "LogicalAnd": "And",
    "LogicalNot": "Not",
    "LogicalOr": "Or",
    "Maximum": "Max",
    "Minimum": "Min",
    "RealDiv": "Div",
}

EMITTERS: Mapping[str, Emitter] = _table()
