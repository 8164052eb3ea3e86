"""Recognizing dropout, the way TensorFlow writes it into training graphs.

``tf.nn.dropout`` of TensorFlow 1.13 to 1.15, at rate r::

    (x * (1 / (1 - r))) * Cast(uniform >= r)

and before that, with the probability p of being kept::

    (x / p) * Floor(p + uniform)

where ``uniform`` comes from RandomUniform, in [0, 1), possibly through a ``* (max - min) + min``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Set

from bert_serving.graph_opt.graph import Graph, Node, node_of

__all__ = ["Dropout", "find_dropouts"]

_AFFINE = ("Add", "AddV2", "Mul")


@dataclass(frozen=True)
class Dropout:
    """One dropout: ``output`` equals ``input`` once ``rate`` is nought (or ``keep`` is one)."""

    output: str
    input: str
    rate: str
    is_keep_probability: bool = False


def find_dropouts(graph: Graph) -> List[Dropout]:
    """Every dropout in a graph, in graph order."""
    found = []
    for node in graph:
        if node.op == "Mul" and len(node.data_inputs) == 2:
            left, right = node.data_inputs
            match = _match(graph, node, left, right) or _match(graph, node, right, left)
            if match:
                found.append(match)
    return found


def _match(graph: Graph, node: Node, scaled: str, mask: str) -> Optional[Dropout]:
    top, divided = graph[mask], graph[scaled]
    if top.op == "Cast":
        compare = graph[top.inputs[0]]
        if compare.op != "GreaterEqual" or not _is_uniform(graph, compare.inputs[0]):
            return None
        rate = compare.inputs[1]
        if divided.op != "Mul":
            return None
        for scale, tensor in (divided.inputs[::-1], divided.inputs):
            if _is_inverse_keep(graph, scale, rate):
                return Dropout(node.name, tensor, rate)
        return None
    if top.op == "Floor" and divided.op == "RealDiv":
        added = graph[top.inputs[0]]
        keep = divided.inputs[1]
        if added.op not in ("Add", "AddV2") or keep not in added.inputs:
            return None
        others = [tensor for tensor in added.inputs if tensor != keep]
        if len(others) == 1 and _is_uniform(graph, others[0]):
            return Dropout(node.name, divided.inputs[0], keep, is_keep_probability=True)
    return None


def _is_inverse_keep(graph: Graph, tensor: str, rate: str) -> bool:
    """Whether a tensor is ``1 / (1 - rate)``."""
    divide = graph[tensor]
    if divide.op != "RealDiv" or not _is_one(graph, divide.inputs[0]):
        return False
    keep = graph[divide.inputs[1]]
    return keep.op == "Sub" and _is_one(graph, keep.inputs[0]) and keep.inputs[1] == rate


def _is_one(graph: Graph, tensor: str) -> bool:
    node = graph[tensor]
    return node.op == "Const" and node.attrs["value"].size == 1 and float(node.attrs["value"]) == 1


def _is_uniform(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is RandomUniform, possibly scaled and shifted."""
    seen: Set[str] = set()
    waiting = [tensor]
    while waiting:
        node = graph[waiting.pop()]
        if node.op == "RandomUniform":
            return True
        if node.op in _AFFINE and node.name not in seen:
            seen.add(node.name)
            waiting.extend(node_of(name) for name in node.data_inputs)
    return False
