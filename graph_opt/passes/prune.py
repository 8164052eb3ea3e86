"""Remove what the outputs don't need at inference.

Before::

    x -> dropout(rate) -> Identity -> y        variable -> read -> MatMul
    layer 11 -> layer 12 -> pooler             Assert, summaries, optimizer slots ...

After::

    x -> y                                     variable -> MatMul
    layer 11

Dropout is the identity at inference, so its readers get its input. Operations that only pass on
their input (Identity, StopGradient, ...) go the same way, except one that is itself an output,
whose name must stay. Control inputs order side effects, of which an inference graph has none. At
the end every node that no output reads is dropped, and with it every variable that nothing needs:
the layers above the pooled one, an unused pooler.
"""

from __future__ import annotations

from typing import Dict, List

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.passes.dropout import find_dropouts
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.signatures import PASS_THROUGH

__all__ = ["prune"]


def prune(graph: Graph) -> Rewritten:
    """The graph reduced to what its outputs need at inference.

    Raises:
        GraphError: an input or output that no node gives.
    """
    instead = _bypasses(graph)
    kept: Dict[str, Node] = {}
    waiting = [node_of(tensor) for tensor in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name in kept:
            continue
        node = graph[name]
        inputs = [_resolve(instead, tensor) for tensor in node.data_inputs]
        kept[name] = node if tuple(inputs) == node.inputs else node.with_inputs(inputs)
        waiting.extend(node_of(tensor) for tensor in inputs)
    nodes: List[Node] = [kept[node.name] for node in graph if node.name in kept]
    variables = {name: value for name, value in graph.variables.items() if name in kept}
    return Rewritten(graph.replaced(nodes=nodes, variables=variables))


def _bypasses(graph: Graph) -> Dict[str, str]:
    """Tensor -> the tensor that equals it at inference."""
    instead = {dropout.output: dropout.input for dropout in find_dropouts(graph)}
    for node in graph:
        if node.op in PASS_THROUGH:
            instead[node.name] = node.data_inputs[0]
    return instead


def _resolve(instead: Dict[str, str], tensor: str) -> str:
    while _plain(tensor) in instead:
        tensor = instead[_plain(tensor)]
    return tensor


def _plain(tensor: str) -> str:
    """``"a"`` for ``"a:0"``, which is the same tensor."""
    return tensor[:-2] if tensor.endswith(":0") else tensor
