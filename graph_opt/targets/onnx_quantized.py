"""Products with 8-bit weights in ONNX: :data:`DYNAMIC_QUANT_MAT_MUL`.

Standard operators only, in the pattern that onnxruntime fuses to one kernel of its own on CPUs
(DynamicQuantizeMatMul, or MatMulIntegerToFloat where several products share their input)::

    DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul(scales)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.quantization import SMALLEST_SPAN, Quantized, column_sums
from bert_serving.graph_opt.targets.onnx_emission import Emission

__all__ = ["emit_dynamic_quant_mat_mul"]

FLOAT = np.dtype("float32")


class _Rows(NamedTuple):
    """Names of the tensors that stand for a quantized tensor."""

    low: str
    span: str
    levels: str
    scale: str
    zero: str


def emit_dynamic_quant_mat_mul(emission: Emission, node: Node) -> None:
    """As :func:`bert_serving.graph_opt.quantization.dynamic_quant_mat_mul` computes it."""
    x, weights, scales = node.data_inputs
    rows = _quantized(emission, x)

    def add(op: str, inputs: tuple, name: str, **attrs: object) -> str:
        return emission.add(op, inputs, "%s:%s" % (node.name, name), **attrs)

    product = add("MatMulInteger", (rows.levels, weights, rows.zero), "int32")
    product = add("Cast", (product,), "float32", to=FLOAT)
    factors = add("Mul", (rows.scale, scales), "factors")
    product = add("Mul", (product, factors), "product")
    product = add("Mul", (product, rows.span), "scaled")
    sums = column_sums(Quantized(emission.constant(node, 1), emission.constant(node, 2)))
    low = add("Mul", (rows.low, emission.initializer(node.name + ":sums", sums, FLOAT)), "low")
    emission.add("Add", (product, low), node.name)


def _quantized(emission: Emission, tensor: str) -> _Rows:
    """A tensor's rows, scaled to 0..1 and quantized, once for all products that read them."""
    rows = _Rows(*["%s:row_%s" % (tensor, name) for name in _Rows._fields])
    if any(rows.levels in made.outputs for made in emission.nodes):
        return rows

    def name(suffix: str) -> str:
        return "%s:row_%s" % (tensor, suffix)

    emission.add("ReduceMin", (tensor,), rows.low, axes=[-1], keepdims=1)
    high = emission.add("ReduceMax", (tensor,), name("high"), axes=[-1], keepdims=1)
    distance = emission.add("Sub", (high, rows.low), name("distance"))
    smallest = emission.initializer(name("smallest"), SMALLEST_SPAN, FLOAT)
    emission.add("Max", (distance, smallest), rows.span)
    shifted = emission.add("Sub", (tensor, rows.low), name("shifted"))
    unit = emission.add("Div", (shifted, rows.span), name("unit"))
    emission.add_several("DynamicQuantizeLinear", (unit,), (rows.levels, rows.scale, rows.zero))
    return rows
