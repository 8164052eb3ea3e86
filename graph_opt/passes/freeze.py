"""Turn variables into constants.

Before: ``VariableV2 "bert/embeddings/word_embeddings"``, its value in a file of the model.

After: ``Const "bert/embeddings/word_embeddings"`` with the value as an attribute.

Every variable of the graph is read, so run this after what drops the variables that nothing needs.
"""

from __future__ import annotations

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["freeze"]


def freeze(graph: Graph) -> Rewritten:
    """The graph with each VariableV2 replaced by a Const of the same name.

    Raises:
        GraphError: a variable node without a value, or one of another shape or dtype.
        ModelError: a variable's file is damaged.
    """
    nodes = [_frozen(graph, node) if node.op == "VariableV2" else node for node in graph]
    return Rewritten(graph.replaced(nodes=nodes, variables={}))


def _frozen(graph: Graph, node: Node) -> Node:
    variable = graph.variables.get(node.name)
    if variable is None:
        raise GraphError("the variable node %r has no value" % node.name)
    dtype = np.dtype(node.attrs["dtype"])
    value = variable.load()
    if tuple(value.shape) != tuple(node.attrs["shape"]) or value.dtype != dtype:
        raise GraphError(
            "the variable %r is %s %s, its value %s %s"
            % (node.name, dtype, tuple(node.attrs["shape"]), value.dtype, value.shape)
        )
    return Node(node.name, "Const", (), {"dtype": dtype, "value": value})
