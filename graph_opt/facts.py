"""Counting what is in a graph: nodes, and weights and tensors by dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, Mapping, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.signatures import SIGNATURES, output_dtypes

__all__ = ["UNKNOWN", "GraphFacts", "Tally", "facts_of"]

#: The dtype of an operation that is in no table, in a graph from elsewhere.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Tally:
    """How many arrays of a dtype, and their bytes in all."""

    count: int
    nbytes: int


@dataclass(frozen=True)
class GraphFacts:
    """A graph in numbers. ``weights`` are constants and variables, by dtype; ``tensors`` counts
    every output of every node.
    """

    nodes: int
    nbytes: int
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    weights: Mapping[str, Tally]
    tensors: Mapping[str, int]


def facts_of(graph: Graph) -> GraphFacts:
    """Count; no variable is loaded."""
    weights: Dict[str, Tally] = {}
    for dtype, nbytes in _weights(graph):
        old = weights.get(dtype, Tally(0, 0))
        weights[dtype] = Tally(old.count + 1, old.nbytes + nbytes)
    tensors: Dict[str, int] = {}
    for dtype in _tensors(graph):
        tensors[dtype] = tensors.get(dtype, 0) + 1
    return GraphFacts(
        nodes=len(graph),
        nbytes=graph.nbytes(),
        inputs=graph.inputs,
        outputs=graph.outputs,
        weights=dict(sorted(weights.items(), key=lambda item: -item[1].nbytes)),
        tensors=dict(sorted(tensors.items(), key=lambda item: -item[1])),
    )


def _weights(graph: Graph) -> Iterator[Tuple[str, int]]:
    for node in graph:
        if node.op == "Const":
            value = np.asarray(node.attrs["value"])
            yield _name(value.dtype), int(value.nbytes)
    for variable in graph.variables.values():
        yield _name(variable.dtype), variable.nbytes


def _tensors(graph: Graph) -> Iterator[str]:
    for node in graph:
        if node.op not in SIGNATURES:
            yield UNKNOWN
            continue
        for dtype in output_dtypes(node.op, node.attrs):
            yield _name(dtype)


def _name(dtype: object) -> str:
    """``"string"`` for objects, which is what TensorFlow's strings are here."""
    name = str(getattr(dtype, "name", dtype))
    return "string" if name == "object" else name
