"""Remove what the outputs don't need at inference.

Before::

    layer 11 -> layer 12 -> pooler -> loss -> gradients -> Adam      saver, summaries, initializers
       |                                       Assert - - -> Relu    (a control input)
       +-> y

After::

    layer 11 -> y                              Relu

A node stays if an output reads it, directly or not, and so do the inputs that the graph declares.
A variable goes with its node. Control inputs order side effects, of which inference has none: what
only they need, e.g. an assertion or the update of a moving average, isn't run. Those stay that say
in which branch of a ``tf.cond`` or loop a needed node runs. Operations may be of any kind.
"""

from __future__ import annotations

import re
from typing import Dict, List

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.passes.navigation import declared_inputs, is_pivot
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["prune"]

_RANDOM = re.compile("(Stateless)?(Parameterized)?(Random|TruncatedNormal|Multinomial)")


def prune(graph: Graph) -> Rewritten:
    """The graph reduced to what its outputs need at inference.

    Raises:
        GraphError: an input or output that no node gives.
    """
    kept: Dict[str, Node] = {}
    waiting = [node_of(tensor) for tensor in graph.outputs]
    waiting.extend(name for name in declared_inputs(graph) if name in graph)
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = _without_control(graph, graph[name])
            waiting.extend(node_of(tensor) for tensor in kept[name].inputs)
    nodes: List[Node] = [kept[node.name] for node in graph if node.name in kept]
    variables = {name: value for name, value in graph.variables.items() if name in kept}
    return Rewritten(
        graph.replaced(nodes=nodes, variables=variables),
        tuple(
            "%s: %s stays, the outputs will differ from run to run" % (node.name, node.op)
            for node in nodes
            if _RANDOM.match(node.op)
        ),
    )


def _without_control(graph: Graph, node: Node) -> Node:
    inputs = [
        tensor
        for tensor in node.inputs
        if not tensor.startswith("^") or is_pivot(graph, node_of(tensor))
    ]
    return node if tuple(inputs) == node.inputs else node.with_inputs(inputs)
