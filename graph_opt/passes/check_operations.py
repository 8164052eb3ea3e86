"""Refuse a graph with an operation on the way to its outputs that the optimizer doesn't know.

Before::

    x -> FusedBatchNormV3 -> y

After: UnsupportedOp, which names the node and its operation. A graph of known operations stays as
it is. It comes after pruning, for nobody cares what a training graph does beside its outputs, and
before the passes that must know what every operation does to shapes and dtypes.
"""

from __future__ import annotations

from bert_serving.graph_opt.errors import UnsupportedOp
from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.signatures import SIGNATURES

__all__ = ["check_operations"]


def check_operations(graph: Graph) -> Rewritten:
    """The graph itself.

    Raises:
        UnsupportedOp: an operation is unknown.
    """
    for node in graph:
        if node.op not in SIGNATURES:
            raise UnsupportedOp(node.name, node.op, "the optimizer")
    return Rewritten(graph)
