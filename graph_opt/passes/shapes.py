"""Symbolic shapes of tensors, and values of the small integer tensors that hold shapes.

Nothing is guessed: a shape is known as far as it follows from the nodes, an operation without a
rule gives an unknown one, and every size that can't be computed is a symbol of its own. Where a
graph runs only if two sizes are equal (the elements of a Reshape, the inner dimensions of a
product), they count as equal everywhere.

What is taken for granted is what a batch is: it isn't empty, and open first dimensions of the fed
inputs, where these have at least two dimensions, are one number.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Set, Tuple

from bert_serving.graph_opt.graph import Graph, Node, node_of, output_index
from bert_serving.graph_opt.passes.dimensions import Dim, Shape, cancelled, product
from bert_serving.graph_opt.passes.matching import plain
from bert_serving.graph_opt.passes.shape_rules import tensor_shape
from bert_serving.graph_opt.passes.shape_values import shape_value

__all__ = ["Shapes"]

# What is learned from a node may tell more about the nodes before it. A few rounds go a long way.
_ROUNDS = 4
_BRANCHES = ("Merge", "RefMerge", "RefSwitch", "Switch")


class Shapes:
    """Shapes and shape values of a graph's tensors.

    ``equal``: what is taken for granted beside that, symbol -> the size that it equals.
    """

    def __init__(self, graph: Graph, equal: Optional[Mapping[str, Dim]] = None) -> None:
        self._graph = graph
        self._shapes: Dict[str, Optional[Shape]] = {}
        self._values: Dict[str, Optional[Shape]] = {}
        self._equal: Dict[str, Dim] = dict(equal or {})  # symbol -> what it equals
        order = graph.topological()
        self._places = {node.name: place for place, node in enumerate(order)}
        self._needed = _needed(graph)
        for _ in range(_ROUNDS):
            known = len(self._equal)
            for node in order:
                self._shapes[node.name] = self._resolved(tensor_shape(self, node))
                self._values[node.name] = self._resolved(shape_value(self, node))
            if len(self._equal) == known:
                break

    @property
    def graph(self) -> Graph:
        """The graph that the shapes are of."""
        return self._graph

    def shape(self, tensor: str) -> Optional[Shape]:
        """A tensor's shape, or None where not even its rank is known."""
        return None if output_index(tensor) else self._shapes[plain(tensor)]

    def rank(self, tensor: str) -> Optional[int]:
        """How many dimensions a tensor has; None if unknown."""
        shape = self.shape(tensor)
        return None if shape is None else len(shape)

    def value(self, tensor: str) -> Optional[Tuple[Dim, ...]]:
        """The elements of an integer tensor of rank 0 or 1, as sizes; None if unknown."""
        return None if output_index(tensor) else self._values[plain(tensor)]

    def numbers(self, tensor: str) -> Optional[List[int]]:
        """The elements of an integer tensor of rank 0 or 1, if all are numbers."""
        value = self.value(tensor)
        if value is None or not all(dim.known for dim in value):
            return None
        return [dim.factor for dim in value]

    def learn(self, node: Node, one: Dim, other: Dim) -> None:
        """Take two sizes for equal because a node runs only if they are."""
        if node.name not in self._needed:
            return
        left, right = cancelled(self._dim(one), self._dim(other))
        if left.factor != 1 or len(left.symbols) != 1:
            left, right = right, left
        if left.factor != 1 or len(left.symbols) != 1:
            return
        if right.factor == 1 and len(right.symbols) == 1:
            # The symbol that comes up first stands for both.
            left, right = sorted((left, right), key=self._place, reverse=True)
        if len(right.symbols) <= 1 and left != right:
            self._equal[left.symbols[0]] = right

    def _place(self, dim: Dim) -> int:
        return self._places.get(node_of(dim.symbols[0]), -1)

    def _resolved(self, dims: Optional[Tuple[Dim, ...]]) -> Optional[Tuple[Dim, ...]]:
        return None if dims is None else tuple(map(self._dim, dims))

    def _dim(self, dim: Dim) -> Dim:
        while any(symbol in self._equal for symbol in dim.symbols):
            parts = [self._equal.get(symbol, Dim(1, (symbol,))) for symbol in dim.symbols]
            dim = product([Dim(dim.factor)] + parts)
        return dim


def _needed(graph: Graph) -> Set[str]:
    """Names of the nodes that run at every inference; none if branches aren't resolved."""
    needed: Set[str] = set()
    waiting = [node_of(tensor) for tensor in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(node_of(tensor) for tensor in graph[name].inputs)
    return set() if any(graph[name].op in _BRANCHES for name in needed) else needed
