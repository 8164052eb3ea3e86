"""Finding one's way in a training graph: what the cleanup passes ask of it.

Nothing here minds cycles (``tf.while_loop`` makes some) or operations it doesn't know.
"""

from __future__ import annotations

from typing import Container, Iterable, Mapping, Set, Tuple

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node, node_of, output_index
from bert_serving.graph_opt.passes.matching import plain

__all__ = [
    "PASSING_ON",
    "constant",
    "declared_inputs",
    "identity",
    "is_pivot",
    "needed_nodes",
    "past_identities",
    "reads_any",
    "redirected",
    "unique_name",
]

# Operations whose only output is their first input, as far as inference is concerned.
PASSING_ON = frozenset(
    (
        "CheckNumerics",
        "CheckNumericsV2",
        "DebugGradientIdentity",
        "DebugIdentity",
        "EnsureShape",
        "Identity",
        "PreventGradient",
        "Print",
        "RefIdentity",
        "Snapshot",
        "StopGradient",
    )
)
_SWITCH = ("RefSwitch", "Switch")
_MERGE = ("Merge", "RefMerge")
_LOOP = frozenset(("Enter", "LoopCond", "NextIteration", "RefEnter", "RefNextIteration"))


def declared_inputs(graph: Graph) -> Tuple[str, ...]:
    """Node names of the inputs that a graph declares; none if it leaves open which are fed."""
    # Without a declaration, the inputs are those of the nodes that are placeholders.
    return tuple(node_of(name) for name in graph.replaced(nodes=()).inputs)


def needed_nodes(graph: Graph) -> Set[str]:
    """Names of the nodes that the outputs read, directly or not; control inputs don't count.

    Raises:
        GraphError: an output, or an input of what is needed, that no node gives.
    """
    return _ancestors(graph, graph.outputs)


def reads_any(graph: Graph, tensor: str, names: Iterable[str]) -> bool:
    """Whether a tensor comes, directly or not, from any of the nodes called ``names``."""
    return not _ancestors(graph, [tensor]).isdisjoint(names)


def past_identities(graph: Graph, tensor: str) -> str:
    """The tensor that a chain of identities passes on, without an explicit ``:0``."""
    seen: Set[str] = set()
    while tensor not in seen:
        seen.add(tensor)
        node = graph[tensor]
        if node.op in PASSING_ON or node.op == "IdentityN":
            tensor = node.data_inputs[output_index(tensor)]
    return plain(tensor)


def is_pivot(graph: Graph, name: str) -> bool:
    """Whether a control input from this node says in which branch or loop its reader runs.

    Such an edge must stay where the branch or loop stays: without it a constant in a branch never
    taken would be computed, and one in a loop would belong to no iteration.
    """
    node = graph[name]
    if node.op in _MERGE:
        return any(graph[tensor].op in _LOOP for tensor in node.data_inputs)
    if node.op == "Identity":
        return graph[node.data_inputs[0]].op in _SWITCH
    return node.op in _LOOP


def identity(node: Node, tensor: str, dtype: object = None) -> Node:
    """An Identity of ``tensor`` in place of a node, with its name and control inputs.

    ``dtype`` is that of the tensor, if the node says it elsewhere than in its attribute ``T``.
    """
    dtype = node.attrs.get("T") if dtype is None else dtype
    attrs = {} if dtype is None else {"T": dtype}
    control = [name for name in node.inputs if name.startswith("^")]
    return Node(node.name, "Identity", (tensor, *control), attrs)


def redirected(node: Node, instead: Mapping[str, str], gone: Container[str]) -> Node:
    """A node that reads other tensors: those that ``instead`` names, in place of the keys.

    Control inputs from nodes that are ``gone`` come from the nodes read in their place.

    Raises:
        GraphError: a tensor is there in place of itself.
    """
    data = [_resolved(instead, tensor) for tensor in node.data_inputs]
    control = [
        "^" + node_of(_resolved(instead, tensor[1:])) if node_of(tensor) in gone else tensor
        for tensor in node.inputs
        if tensor.startswith("^")
    ]
    inputs = tuple(data + list(dict.fromkeys(control)))
    return node if inputs == node.inputs else node.with_inputs(inputs)


def constant(name: str, value: np.ndarray) -> Node:
    """A Const; the array is made read-only."""
    value.setflags(write=False)
    return Node(name, "Const", (), {"dtype": value.dtype, "value": value})


def unique_name(graph: Graph, name: str) -> str:
    """``name``, with a number after it if the graph has such a node."""
    unique, count = name, 0
    while unique in graph:
        count += 1
        unique = "%s_%d" % (name, count)
    return unique


def _ancestors(graph: Graph, tensors: Iterable[str]) -> Set[str]:
    names: Set[str] = set()
    waiting = list(tensors)
    while waiting:
        node = graph[waiting.pop()]
        if node.name not in names:
            names.add(node.name)
            waiting.extend(node.data_inputs)
    return names


def _resolved(instead: Mapping[str, str], tensor: str) -> str:
    seen: Set[str] = set()
    while plain(tensor) in instead:
        if tensor in seen:
            raise GraphError("a cycle of identities runs through %r" % tensor)
        seen.add(tensor)
        tensor = instead[plain(tensor)]
    return tensor
