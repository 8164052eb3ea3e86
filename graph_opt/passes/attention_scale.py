"""Fold the scale of attention scores into the weights of the query, or of the key.

Before, the scale before the product or after it, by multiplication or division::

    query  = MatMul(hidden, kernel) + bias
    scores = MatMul(heads(query), heads(key)) * 0.125

After::

    query  = MatMul(hidden, kernel * 0.125) + bias * 0.125
    scores = MatMul(heads(query), heads(key))

where ``heads`` is any sequence of Reshape and Transpose. Only where nothing else reads the unscaled
scores or the projection, and the weights are constants.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.matching import Edit, Readers, constant_of, plain, scalar_of
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.signatures import PASS_THROUGH

__all__ = ["attention_scale"]

_PRODUCTS = ("BatchMatMul", "BatchMatMulV2")
_SUMS = ("Add", "AddV2", "BiasAdd")
_MOVES = ("ExpandDims", "Reshape", "Squeeze", "Transpose") + PASS_THROUGH


class _Trace(NamedTuple):
    """The Const nodes that a tensor is proportional to, or why there are none."""

    weights: Tuple[str, ...]
    obstacle: str = ""


def attention_scale(graph: Graph) -> Rewritten:
    """The graph with constant factors of attention scores folded into projections."""
    readers, edit = Readers(graph), Edit(graph)
    notes: List[str] = []
    for node in graph:
        tensor, factor = _scaled(graph, node)
        if factor is None or not _is_attention(graph, readers, node, tensor):
            continue
        found = _trace(graph, readers, tensor)
        if found.obstacle:
            notes.append("%s: %s" % (node.name, found.obstacle))
            continue
        for name in found.weights:
            edit.replace(_times(graph[name], factor))
        edit.redirect(node.name, tensor, node.attrs["T"])
    return Rewritten(edit.graph() if edit.touched else graph, tuple(notes))


def _scaled(graph: Graph, node: Node) -> Tuple[str, Optional[float]]:
    """The tensor that a node multiplies by a constant number, and the number or None."""
    if node.op not in ("Mul", "RealDiv"):
        return "", None
    left, right = map(plain, node.data_inputs)
    factor = scalar_of(graph, right)
    if node.op == "RealDiv":
        return left, (1.0 / factor if factor else None)
    return (left, factor) if factor is not None else (right, scalar_of(graph, left))


def _is_attention(graph: Graph, readers: Readers, node: Node, tensor: str) -> bool:
    """Whether a product of two batches of matrices is scaled, or about to be made."""
    if graph[tensor].op in _PRODUCTS:
        return True
    reader = readers.only(node.name)
    while reader is not None and reader.op in _MOVES:
        reader = readers.only(reader.name)
    return reader is not None and reader.op in _PRODUCTS


def _trace(graph: Graph, readers: Readers, tensor: str) -> _Trace:
    """Follow a tensor to the projection whose constants can be scaled in its stead."""
    node = graph[tensor]
    if ":" in tensor or readers.only(node.name) is None:
        return _Trace((), "%s is read elsewhere" % node.name)
    operands = [plain(one) for one in node.data_inputs]
    if node.op in _MOVES:
        return _trace(graph, readers, operands[0])
    if node.op in _PRODUCTS:
        query = _trace(graph, readers, operands[0])
        if not query.obstacle:
            return query
        key = _trace(graph, readers, operands[1])
        return key if not key.obstacle else query
    if node.op in _SUMS and constant_of(graph, operands[0]) is not None:
        operands.reverse()
    weight = operands[1] if len(operands) == 2 else ""
    if node.op not in _SUMS + ("MatMul",) or constant_of(graph, weight) is None:
        return _Trace((), "%s is no projection with constant weights" % node.name)
    if graph[weight].op != "Const" or readers.only(weight) is None:
        return _Trace((), "the weight %s is read elsewhere" % weight)
    if node.op == "MatMul":
        return _Trace((weight,))
    product = _trace(graph, readers, operands[0])
    return product if product.obstacle else _Trace(product.weights + (weight,))


def _times(node: Node, factor: float) -> Node:
    """A constant of floats times a number, rounded once."""
    value = np.asarray(node.attrs["value"])
    scaled = (value * np.float64(factor)).astype(value.dtype)
    scaled.setflags(write=False)
    return node.with_attrs(value=scaled)
