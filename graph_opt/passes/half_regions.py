"""Which nodes of a float32 graph may compute in 16 bits.

Matrix products start a region of half precision, and what only moves, adds or scales their results
belongs to it. Everything else stays in float32: what sums many terms or raises to powers (the mean
and variance of layer normalization, softmax, pooling), and whatever it is mixed with, so that the
residual stream and the attention's mask, whose -10000 or -1e9 needn't fit into 16 bits, keep their
precision. A region's border is a cast; there are as many as there are products and sums anyway.
"""

from __future__ import annotations

from typing import List, Set

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.passes.matching import constant_of
from bert_serving.graph_opt.signatures import SIGNATURES, input_slots

__all__ = ["FLOAT", "Limits", "float_inputs", "half_nodes"]

FLOAT = np.dtype("float32")

_PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "MatMul")
_FOLLOWERS = (
    "Add",
    "AddV2",
    "BiasAdd",
    "Erf",
    "ExpandDims",
    "Identity",
    "Mul",
    "RealDiv",
    "Relu",
    "Reshape",
    "Slice",
    "Squeeze",
    "StridedSlice",
    "Sub",
    "Tanh",
    "Transpose",
)
_SEVERAL = ("Split", "SplitV", "Unpack")


class Limits:
    """What fits into a 16-bit floating-point dtype."""

    def __init__(self, dtype: np.dtype) -> None:
        if dtype == np.dtype("float16"):
            info = np.finfo(dtype)
        else:
            import ml_dtypes

            info = ml_dtypes.finfo(dtype)
        self._largest = float(info.max)
        # numpy before 1.22 calls the smallest normal number so.
        self._smallest = float(info.tiny)

    def fit(self, value: np.ndarray) -> bool:
        """Whether nothing overflows, and not everything is so small that its digits are lost."""
        largest = max(abs(float(value.max())), abs(float(value.min()))) if value.size else 0.0
        return largest == 0.0 or self._smallest <= largest <= self._largest


def half_nodes(graph: Graph, limits: Limits) -> Set[str]:
    """Names of the nodes that may compute in 16 bits."""
    half: Set[str] = set()
    outputs = {node_of(tensor) for tensor in graph.outputs}
    for node in graph.topological():
        if node.op not in _PRODUCTS + _FOLLOWERS + _SEVERAL or node.attrs.get("T") != FLOAT:
            continue
        if node.op in _SEVERAL and node.name in outputs:
            continue  # only a node's first output can give its name to another node
        constants, varying = [], []
        for tensor in float_inputs(node):
            value = constant_of(graph, tensor)
            if value is None:
                varying.append(tensor)
            else:
                constants.append(value)
        if not varying or not all(limits.fit(value) for value in constants):
            continue
        if node.op in _PRODUCTS or all(node_of(tensor) in half for tensor in varying):
            half.add(node.name)
    return half


def float_inputs(node: Node) -> List[str]:
    """The inputs whose dtype is the node's attribute T."""
    if node.op not in SIGNATURES:
        return []
    return [tensor for tensor, slot in input_slots(node) if isinstance(slot, str) and slot == "T"]
