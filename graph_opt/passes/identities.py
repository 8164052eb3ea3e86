"""Leave out operations that only pass on their input.

Before::

    x -> Identity -> StopGradient -> CheckNumerics -> y         variable -> read -> MatMul

After::

    x -> y                                                      variable -> MatMul

A placeholder with a default that isn't among the declared inputs passes on its default; one that
is becomes a plain placeholder, since it is fed. An operation that is itself an output becomes an
Identity, whose name stays. The control inputs of what is left out go with it: they order side
effects, of which inference has none. An Identity that a ``tf.cond`` or ``tf.while_loop`` hangs on
by control inputs stays.
"""

from __future__ import annotations

from typing import Dict, Iterator, Set, Tuple

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.passes.navigation import (
    PASSING_ON,
    declared_inputs,
    identity,
    is_pivot,
    redirected,
)
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["remove_identities"]

_DEFAULT = "PlaceholderWithDefault"


def remove_identities(graph: Graph) -> Rewritten:
    """The graph without identities, apart from outputs and inputs.

    Raises:
        GraphError: identities that read each other in a circle, or an input that no node gives.
    """
    inputs = frozenset(declared_inputs(graph))
    outputs = {node_of(tensor) for tensor in graph.outputs}
    pivots = set(_pivots(graph))
    instead: Dict[str, str] = {}
    gone: Set[str] = set()
    for node in graph:
        if node.name not in inputs and node.name not in pivots:
            pairs = tuple(_passed_on(node))
            instead.update(pairs)
            if pairs and node.name not in outputs:
                gone.add(node.name)
    nodes = []
    for node in graph:
        if node.name in gone:
            continue
        if node.name in inputs and node.op == _DEFAULT:
            node = Node(node.name, "Placeholder", (), node.attrs)
        elif node.name in outputs and node.name in instead and node.op != "IdentityN":
            node = identity(node, node.data_inputs[0], node.attrs.get("dtype"))
        nodes.append(redirected(node, instead, gone))
    return Rewritten(graph.replaced(nodes=nodes))


def _passed_on(node: Node) -> Iterator[Tuple[str, str]]:
    """Tensor of a node -> the tensor that it equals."""
    if node.op == "IdentityN":
        for index, tensor in enumerate(node.data_inputs):
            yield "%s:%d" % (node.name, index) if index else node.name, tensor
    elif node.op in PASSING_ON or node.op == _DEFAULT:
        yield node.name, node.data_inputs[0]


def _pivots(graph: Graph) -> Iterator[str]:
    """The nodes that a branch or loop hangs on, and those that hang on it."""
    for node in graph:
        for tensor in node.inputs:
            if tensor.startswith("^") and is_pivot(graph, node_of(tensor)):
                yield node.name
                yield node_of(tensor)
