"""The number of dimensions of a tensor, found from the nodes that lead to it."""

from __future__ import annotations

from typing import Callable, Dict, Mapping, Sequence

import numpy as np

from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.signatures import SIGNATURES

__all__ = ["tensor_ranks"]

Rule = Callable[[Graph, Node, Sequence[int]], int]


def tensor_ranks(graph: Graph) -> Dict[str, int]:
    """Node name -> rank of its output, for a graph whose variables are frozen or not.

    Raises:
        GraphError: a shape of unknown length, or a placeholder of unknown rank.
        UnsupportedOp: an operation without a rule.
    """
    ranks: Dict[str, int] = {}
    for node in graph.topological():
        if not SIGNATURES[node.op].outputs:
            continue
        inputs = [ranks[graph[tensor].name] for tensor in node.data_inputs]
        rule = _RULES.get(node.op)
        if rule is None and len(inputs) not in (1, 2):
            raise UnsupportedOp(node.name, node.op, "rank inference")
        # Elementwise operations broadcast.
        ranks[node.name] = rule(graph, node, inputs) if rule else max(inputs)
    return ranks


def _declared(graph: Graph, node: Node, inputs: Sequence[int]) -> int:
    shape = node.attrs.get("shape")
    if shape is None:
        raise GraphError("%s %r has no known rank" % (node.op, node.name))
    return len(shape)


def _reduced(graph: Graph, node: Node, inputs: Sequence[int]) -> int:
    if node.attrs.get("keep_dims"):
        return inputs[0]
    axes = graph[node.data_inputs[1]]
    if axes.op != "Const":
        raise GraphError("%s %r reduces axes that aren't constant" % (node.op, node.name))
    return inputs[0] - int(np.size(axes.attrs["value"]))


def _length(graph: Graph, tensor: str, reader: Node) -> int:
    """How many elements a shape tensor has."""
    node = graph[tensor]
    if node.op == "Const":
        return int(np.size(node.attrs["value"]))
    if node.op == "Pack":
        return len(node.data_inputs)
    raise GraphError("%s %r takes a shape of unknown length" % (reader.op, reader.name))


def _gathered_nd(graph: Graph, node: Node, inputs: Sequence[int]) -> int:
    indices = graph[node.data_inputs[1]]
    if indices.op != "Pack":
        raise GraphError("GatherNd %r takes indices of unknown depth" % node.name)
    return inputs[1] - 1 + inputs[0] - len(indices.data_inputs)


_RULES: Mapping[str, Rule] = {
    "Const": lambda graph, node, inputs: int(np.ndim(node.attrs["value"])),
    "Placeholder": _declared,
    "VariableV2": _declared,
    "ConcatV2": lambda graph, node, inputs: inputs[0],
    "ExpandDims": lambda graph, node, inputs: inputs[0] + 1,
    "GatherNd": _gathered_nd,
    "GatherV2": lambda graph, node, inputs: inputs[0] - 1 + inputs[1],
    "Max": _reduced,
    "Mean": _reduced,
    "Pack": lambda graph, node, inputs: inputs[0] + 1,
    "RandomUniform": lambda graph, node, inputs: _length(graph, node.data_inputs[0], node),
    "Range": lambda graph, node, inputs: 1,
    "Reshape": lambda graph, node, inputs: _length(graph, node.data_inputs[1], node),
    "SelectV2": lambda graph, node, inputs: max(inputs),
    "Shape": lambda graph, node, inputs: 1,
    "Sum": _reduced,
    "Transpose": lambda graph, node, inputs: inputs[0],
}
