"""The number of dimensions of each tensor, found from the nodes that lead to it."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.lengths import Count, KnownRanks, Rule, Unknown, fixed, largest, plus
from bert_serving.graph_opt.signatures import SIGNATURES, output_slots

__all__ = ["tensor_ranks"]


def tensor_ranks(graph: Graph) -> Dict[str, int]:
    """Tensor name -> rank. Output 0 is under its node's name alone and with ``:0``.

    A tensor whose rank can't be told isn't there: that of an operation without a rule, of a
    placeholder of unknown rank, of a shape computed in a way that isn't followed. The graph's
    variables may be frozen or not.

    Raises:
        GraphError: a cycle, or an input that no node gives.
    """
    ranks = KnownRanks(graph)
    for node in graph.topological():
        if node.op in SIGNATURES:
            for index in range(len(output_slots(node))):
                rank = _rank(ranks, node, index)
                if rank is not Unknown:
                    ranks.known["%s:%d" % (node.name, index)] = rank
                    if not index:
                        ranks.known[node.name] = rank
    return ranks.known


def _rank(ranks: KnownRanks, node: Node, index: int) -> Count:
    """The rank of one output: the same for all, with two exceptions."""
    if node.op == "IdentityN":
        return ranks.of(node, index)
    if node.op == "Merge" and index:
        return 0
    return _RULES.get(node.op, _broadcast)(ranks, node)


def _broadcast(ranks: KnownRanks, node: Node) -> Count:
    """The largest rank of all inputs: that of an elementwise operation."""
    return largest([ranks.of(node, position) for position in range(len(node.data_inputs))])


def _same(position: int, more: int = 0) -> Rule:
    """The rank of an input, or that many more."""
    return lambda ranks, node: plus(ranks.of(node, position), more)


def _shaped_by(position: int) -> Rule:
    return lambda ranks, node: ranks.length(node, position)


def _declared(ranks: KnownRanks, node: Node) -> Count:
    shape = node.attrs.get("shape")
    return Unknown if shape is None else len(shape)


def _read_variable(ranks: KnownRanks, node: Node) -> Count:
    handle = ranks.graph[node.data_inputs[0]]
    while handle.op == "Identity":
        handle = ranks.graph[handle.data_inputs[0]]
    return _declared(ranks, handle)


def _resource_gather(ranks: KnownRanks, node: Node) -> Count:
    batch_dims = int(node.attrs.get("batch_dims", 0))
    return plus(_read_variable(ranks, node), ranks.of(node, 1), -1 - batch_dims)


def _ensured(ranks: KnownRanks, node: Node) -> Count:
    declared = _declared(ranks, node)
    return ranks.of(node, 0) if declared is Unknown else declared


def _gathered(ranks: KnownRanks, node: Node) -> Count:
    batch_dims = int(node.attrs.get("batch_dims", 0))
    if batch_dims < 0:
        return plus(ranks.of(node, 0), -1, -batch_dims)
    return plus(ranks.of(node, 0), ranks.of(node, 1), -1 - batch_dims)


def _gathered_nd(ranks: KnownRanks, node: Node) -> Count:
    indices = ranks.graph[node.data_inputs[1]]
    depth: Count = Unknown
    if indices.op == "Const":
        depth = int(np.shape(indices.attrs["value"])[-1])
    elif indices.op == "Pack":
        rank = ranks.of(node, 1)
        axis = int(indices.attrs.get("axis", 0))
        if rank is not Unknown and axis in (-1, rank - 1):
            depth = len(indices.data_inputs)
    return Unknown if depth is Unknown else plus(ranks.of(node, 0), ranks.of(node, 1), -1 - depth)


def _reduced(ranks: KnownRanks, node: Node) -> Count:
    if node.attrs.get("keep_dims"):
        return ranks.of(node, 0)
    axes = 1 if ranks.of(node, 1) == 0 else ranks.length(node, 1)
    return Unknown if axes is Unknown else plus(ranks.of(node, 0), -axes)


def _squeezed(ranks: KnownRanks, node: Node) -> Count:
    axes = tuple(node.attrs.get("squeeze_dims", ()))
    return plus(ranks.of(node, 0), -len(axes)) if axes else Unknown


def _strided(ranks: KnownRanks, node: Node) -> Count:
    length = ranks.length(node, 3)
    if length is Unknown:
        return Unknown
    added, removed = 0, 0
    for position in range(length):
        bit = 1 << position
        if node.attrs.get("ellipsis_mask", 0) & bit:
            continue
        if node.attrs.get("new_axis_mask", 0) & bit:
            added += 1
        elif node.attrs.get("shrink_axis_mask", 0) & bit:
            removed += 1
    return plus(ranks.of(node, 0), added - removed)


def _einsum(ranks: KnownRanks, node: Node) -> Count:
    equation = node.attrs["equation"]
    text = equation.decode() if isinstance(equation, bytes) else equation
    left, arrow, right = text.replace(" ", "").partition("->")
    inner = len(right.replace("...", ""))
    if not arrow:
        return Unknown
    if "..." not in right:
        return inner
    extra = [
        plus(ranks.of(node, position), -len(labels.replace("...", "")))
        for position, labels in enumerate(left.split(","))
        if "..." in labels
    ]
    return plus(largest(extra), inner)


_RULES: Mapping[str, Rule] = {
    "Const": lambda ranks, node: int(np.ndim(node.attrs["value"])),
    "Placeholder": _declared,
    "PlaceholderWithDefault": _ensured,
    "Variable": _declared,
    "VariableV2": _declared,
    "VarHandleOp": fixed(0),
    "ReadVariableOp": _read_variable,
    "ResourceGather": _resource_gather,
    "All": _reduced,
    "Any": _reduced,
    "ArgMax": _same(0, -1),
    "ArgMin": _same(0, -1),
    "BiasAdd": _same(0),
    "BroadcastTo": _shaped_by(1),
    "Concat": _same(1),
    "ConcatV2": _same(0),
    "Cumsum": _same(0),
    "DynamicQuantMatMul": _same(0),
    "Einsum": _einsum,
    "EnsureShape": _ensured,
    "ExpandDims": _same(0, 1),
    "Fill": _shaped_by(0),
    "Gather": lambda ranks, node: plus(ranks.of(node, 0), ranks.of(node, 1), -1),
    "GatherNd": _gathered_nd,
    "GatherV2": _gathered,
    "Max": _reduced,
    "Mean": _reduced,
    "Min": _reduced,
    "OneHot": _same(0, 1),
    "Pack": _same(0, 1),
    "Pad": _same(0),
    "PadV2": _same(0),
    "Prod": _reduced,
    "RandomUniform": _shaped_by(0),
    "Range": fixed(1),
    "Rank": fixed(0),
    "Reshape": _shaped_by(1),
    "Select": _same(1),
    "Shape": fixed(1),
    "Size": fixed(0),
    "Slice": _same(0),
    "Split": _same(1),
    "SplitV": _same(0),
    "Squeeze": _squeezed,
    "StatelessRandomUniform": _shaped_by(0),
    "StridedSlice": _strided,
    "Sum": _reduced,
    "Switch": _same(0),
    "Tile": _same(0),
    "Transpose": _same(0),
    "Unpack": _same(0, -1),
}
