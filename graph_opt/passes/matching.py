"""What passes that look for patterns share: reading through identities, and editing a graph."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.signatures import PASS_THROUGH

__all__ = ["Edit", "Readers", "constant_of", "plain", "scalar_of", "source"]


def plain(tensor: str) -> str:
    """``"a"`` for ``"a:0"``, which is the same tensor."""
    return tensor[:-2] if tensor.endswith(":0") else tensor


def source(graph: Graph, tensor: str) -> str:
    """The tensor that a tensor equals, through Identity, StopGradient and the like."""
    tensor = plain(tensor)
    while ":" not in tensor and graph[tensor].op in PASS_THROUGH:
        tensor = plain(graph[tensor].data_inputs[0])
    return tensor


def constant_of(graph: Graph, tensor: str) -> Optional[np.ndarray]:
    """The value of a tensor that is a Const, or one behind an Identity; otherwise None."""
    node = graph[source(graph, tensor)]
    return np.asarray(node.attrs["value"]) if node.op == "Const" else None


def scalar_of(graph: Graph, tensor: str) -> Optional[float]:
    """The value of a constant number of rank 0; otherwise None."""
    value = constant_of(graph, tensor)
    if value is None or value.ndim or value.dtype.kind not in "fiu" or not np.isfinite(value):
        return None
    return float(value)


class Readers:
    """Who reads each node, and whether a group of nodes is read by nobody else."""

    def __init__(self, graph: Graph) -> None:
        self._readers = graph.consumers()
        self._outputs = {node_of(tensor) for tensor in graph.outputs}

    def of(self, name: str) -> List[Node]:
        """The nodes that read any output of a node."""
        return self._readers[node_of(name)]

    def is_output(self, name: str) -> bool:
        """Whether an output of the graph comes from a node."""
        return node_of(name) in self._outputs

    def only(self, name: str) -> Optional[Node]:
        """The one node that reads a node that is no output; None if there are more, or none."""
        readers = self.of(name)
        return readers[0] if len(readers) == 1 and not self.is_output(name) else None

    def leaks(self, inside: Iterable[str], root: str) -> List[str]:
        """Which of the nodes inside, other than the root, somebody outside needs."""
        group = set(inside) | {root}
        return sorted(
            name
            for name in group - {root}
            if self.is_output(name) or not all(self._within(node, group) for node in self.of(name))
        )

    def _within(self, node: Node, group: Set[str]) -> bool:
        """Whether a node is one of the group, or hands a value on to the group alone."""
        if node.name in group:
            return True
        if node.op not in PASS_THROUGH or self.is_output(node.name):
            return False
        return all(self._within(reader, group) for reader in self.of(node.name))


class Edit:
    """Changes to a graph, made all at once by :meth:`graph`."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._names: Set[str] = set(graph.nodes)
        self._replaced: Dict[str, Node] = {}
        self._added: Dict[str, List[Node]] = {}
        self._instead: Dict[str, str] = {}

    @property
    def touched(self) -> bool:
        """Whether there is anything to change."""
        return bool(self._replaced or self._added or self._instead)

    def add(
        self, anchor: str, op: str, inputs: Sequence[str], attrs: Mapping[str, Any], name: str
    ) -> str:
        """Add a node beside another one, under a name not yet taken; returns the name."""
        unique, count = name, 0
        while unique in self._names:
            count += 1
            unique = "%s_%d" % (name, count)
        self._names.add(unique)
        self._added.setdefault(node_of(anchor), []).append(Node(unique, op, tuple(inputs), attrs))
        return unique

    def constant(self, anchor: str, value: Any, dtype: Any, name: str) -> str:
        """Add a Const beside another node; its array is read-only."""
        array = np.array(value, dtype=dtype)
        array.setflags(write=False)
        return self.add(anchor, "Const", (), {"dtype": array.dtype, "value": array}, name)

    def replace(self, node: Node) -> None:
        """Put a node in the place of the one of its name."""
        self._replaced[node.name] = node

    def redirect(self, tensor: str, other: str, dtype: np.dtype) -> None:
        """Let the readers of a tensor read another one, which equals it.

        A tensor that is an output of the graph keeps its name, as an Identity.
        """
        if plain(tensor) in {plain(output) for output in self._graph.outputs}:
            self.replace(Node(plain(tensor), "Identity", (other,), {"T": np.dtype(dtype)}))
        self._instead[plain(tensor)] = other

    def graph(self) -> Graph:
        """The changed graph, without the nodes and variables that only replaced nodes read."""
        nodes: Dict[str, Node] = {}
        for node in self._graph:
            for added in self._added.get(node.name, ()):
                nodes[added.name] = self._rewired(added)
            nodes[node.name] = self._rewired(self._replaced.get(node.name, node))
        live = self._live(nodes)
        return self._graph.replaced(
            nodes=[node for node in nodes.values() if node.name in live],
            variables={
                name: variable for name, variable in self._graph.variables.items() if name in live
            },
        )

    def _rewired(self, node: Node) -> Node:
        inputs = [self._resolved(tensor) for tensor in node.inputs]
        # The Identity that stands for a redirected output isn't redirected itself.
        return node if tuple(inputs) == node.inputs else node.with_inputs(inputs)

    def _resolved(self, tensor: str) -> str:
        while plain(tensor) in self._instead:
            tensor = self._instead[plain(tensor)]
        return tensor

    def _live(self, nodes: Mapping[str, Node]) -> Set[str]:
        """What the outputs need, and what nobody needed before either."""
        readers = self._graph.consumers()
        waiting = [name for name in self._graph.nodes if not readers[name]]
        waiting += [node_of(tensor) for tensor in self._graph.outputs]
        waiting += [name for name in self._graph.inputs if name in nodes]
        live: Set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in live:
                live.add(name)
                waiting.extend(node_of(tensor) for tensor in nodes[name].inputs)
        return live
