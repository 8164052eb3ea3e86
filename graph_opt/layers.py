"""The layers that BERT is made of, in the form in which TensorFlow 1.15 trains them.

Shapes: b batch, s sequence length, h hidden size, n attention heads, d head size.
"""

from __future__ import annotations

import math
from typing import Mapping

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.config import ACTIVATIONS
from bert_serving.graph_opt.graph import Variable

__all__ = ["activation", "dense", "dropout", "layer_norm", "mean", "scalar"]

Variables = Mapping[str, Variable]


def scalar(builder: GraphBuilder, value: float, name: str) -> str:
    """A float32 constant of rank 0."""
    return builder.constant(value, "float32", name)


def mean(builder: GraphBuilder, tensor: str, name: str) -> str:
    """The mean over the last axis, which is kept with length 1."""
    axis = builder.constant([-1], "int64", name + "/reduction_indices")
    return builder.op("Mean", (tensor, axis), name, keep_dims=True)


def dense(builder: GraphBuilder, variables: Variables, tensor: str, name: str) -> str:
    """``tensor @ kernel + bias`` with the variables called ``name``: [rows, in] -> [rows, out]."""
    kernel = builder.variable(variables[name + "/kernel"])
    bias = builder.variable(variables[name + "/bias"])
    with builder.scope(name):
        product = builder.op("MatMul", (tensor, kernel), transpose_a=False, transpose_b=False)
        return builder.op("BiasAdd", (product, bias), data_format="NHWC")


def layer_norm(
    builder: GraphBuilder, variables: Variables, tensor: str, name: str, epsilon: float
) -> str:
    """Layer normalization over the last axis (Ba et al. 2016), shape kept.

    Written as subtract, square, divide by the square root: the form that inference engines
    recognize and replace by one kernel.
    """
    gamma = builder.variable(variables[name + "/gamma"])
    beta = builder.variable(variables[name + "/beta"])
    with builder.scope(name):
        centered = builder.op("Sub", (tensor, mean(builder, tensor, "moments/mean")))
        squared = builder.op("Square", (centered,))
        variance = mean(builder, squared, "moments/variance")
        shifted = builder.op("AddV2", (variance, scalar(builder, epsilon, "epsilon")))
        normal = builder.op("RealDiv", (centered, builder.op("Sqrt", (shifted,))), "truediv")
        return builder.op("AddV2", (builder.op("Mul", (normal, gamma)), beta))


def dropout(builder: GraphBuilder, tensor: str, rate: float) -> str:
    """Dropout as ``tf.nn.dropout`` of TensorFlow 1.15 writes it; nothing at rate 0."""
    if rate == 0:
        return tensor
    with builder.scope("dropout"):
        rate_node = scalar(builder, rate, "rate")
        keep = builder.op("Sub", (scalar(builder, 1.0, "sub/x"), rate_node), "sub")
        scale = builder.op("RealDiv", (scalar(builder, 1.0, "truediv/x"), keep), "truediv")
        scaled = builder.op("Mul", (tensor, scale), "mul")
        shape = builder.op("Shape", (tensor,), dtypes={"out_type": "int64"})
        uniform = builder.op(
            "RandomUniform",
            (shape,),
            "random_uniform/RandomUniform",
            dtypes={"dtype": "float32"},
            seed=0,
            seed2=0,
        )
        kept = builder.op("GreaterEqual", (uniform, rate_node))
        mask = builder.op("Cast", (kept,), dtypes={"DstT": "float32"})
        return builder.op("Mul", (scaled, mask), "mul_1")


def activation(builder: GraphBuilder, tensor: str, hidden_act: str) -> str:
    """The activation that a config calls ``hidden_act``, elementwise."""
    kind = ACTIVATIONS[hidden_act]
    if kind == "gelu":
        return _gelu(builder, tensor)
    if kind == "gelu_tanh":
        return _gelu_tanh(builder, tensor)
    if kind == "relu":
        return builder.op("Relu", (tensor,))
    if kind == "tanh":
        return builder.op("Tanh", (tensor,))
    return tensor


def _gelu(builder: GraphBuilder, tensor: str) -> str:
    """``x * 0.5 * (1 + erf(x / sqrt 2))`` (Hendrycks and Gimpel 2016)."""
    with builder.scope("gelu"):
        ratio = builder.op("RealDiv", (tensor, scalar(builder, math.sqrt(2.0), "sqrt2")), "truediv")
        erf = builder.op("Erf", (ratio,))
        plus = builder.op("AddV2", (erf, scalar(builder, 1.0, "one")), "add")
        half = builder.op("Mul", (tensor, scalar(builder, 0.5, "half")), "mul")
        return builder.op("Mul", (half, plus), "mul_1")


def _gelu_tanh(builder: GraphBuilder, tensor: str) -> str:
    """``x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))`` (ibid.)."""
    with builder.scope("gelu"):
        cube = builder.op("Pow", (tensor, scalar(builder, 3.0, "three")))
        small = builder.op("Mul", (cube, scalar(builder, 0.044715, "coefficient")), "mul")
        inner = builder.op("AddV2", (tensor, small), "add")
        factor = scalar(builder, math.sqrt(2.0 / math.pi), "sqrt_2_over_pi")
        tanh = builder.op("Tanh", (builder.op("Mul", (inner, factor), "mul_1"),))
        plus = builder.op("AddV2", (tanh, scalar(builder, 1.0, "one")), "add_1")
        half = builder.op("Mul", (tensor, scalar(builder, 0.5, "half")), "mul_2")
        return builder.op("Mul", (half, plus), "mul_3")
