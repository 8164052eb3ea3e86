"""Replace dropout by its input, which is what it gives at inference.

Before, at rate r, as ``tf.nn.dropout`` of TensorFlow 1.13 to 1.15 writes it::

    (x * (1 / (1 - r))) * Cast(uniform >= r)

before that, with the probability p of being kept::

    (x / p) * Floor(p + uniform)

and in TensorFlow 2::

    SelectV2(uniform >= r, x * (1 / (1 - r)), 0)

After: ``Identity(x)`` under the name of the last operation.

``uniform`` is RandomUniform, or its stateless kin, in [0, 1), possibly through a
``* (max - min) + min``. The scale may be computed in the graph or beforehand, multiply or divide,
and be applied to x, to the mask, or to their product; comparisons and products may have their
operands in either order. What doesn't fit stays: a scale that isn't 1 / (1 - r), another interval,
random numbers that are also used otherwise. So does dropout whose rate is fed at inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.passes.known_values import KnownValues
from bert_serving.graph_opt.passes.navigation import (
    PASSING_ON,
    declared_inputs,
    identity,
    needed_nodes,
    past_identities,
    reads_any,
)
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["Dropout", "find_dropouts", "remove_dropout"]

_RANDOM = (
    "RandomUniform",
    "StatelessRandomUniform",
    "StatelessRandomUniformV2",
)
_ADD = ("Add", "AddV2")
_DIVIDE = ("RealDiv", "Div")
_INVERT = ("Inv", "Reciprocal")
_SELECT = ("Select", "SelectV2")
_PRODUCTS = ("Mul",) + _DIVIDE + _SELECT
# Comparisons: whether they ask for the left operand to be the larger one.
_LARGER: Mapping[str, bool] = {
    "Greater": True,
    "GreaterEqual": True,
    "Less": False,
    "LessEqual": False,
}
# What may be done with the random numbers: bring them into their interval, compare, and nothing
# with their values.
_ON_THE_WAY = PASSING_ON.union(_ADD, ("Mul",))
_HARMLESS = frozenset(_LARGER).union(("Floor", "Rank", "Shape", "ShapeN", "Size"))
# Bytes of a float -> distance from 1 to the next number; of 2 bytes, bfloat16 is the coarser.
_EPSILON = {2: 2.0**-7, 4: 2.0**-23, 8: 2.0**-52}


@dataclass(frozen=True)
class Dropout:
    """One dropout: ``output`` equals ``input`` once ``rate`` is nought (or ``keep`` is one)."""

    output: str
    input: str
    rate: str
    is_keep_probability: bool = False


def remove_dropout(graph: Graph) -> Rewritten:
    """The graph with an Identity in place of each dropout.

    Raises:
        GraphError: an input or output that no node gives.
    """
    fed = declared_inputs(graph)
    replaced, notes = {}, []
    for dropout in find_dropouts(graph):
        if fed and reads_any(graph, dropout.rate, fed):
            notes.append(
                "%s: dropout left alone, its rate %s is fed" % (dropout.output, dropout.rate)
            )
        else:
            replaced[dropout.output] = identity(graph[dropout.output], dropout.input)
    nodes = [replaced.get(node.name, node) for node in graph]
    return Rewritten(graph.replaced(nodes=nodes), tuple(notes))


def find_dropouts(graph: Graph) -> List[Dropout]:
    """Every dropout in a graph, in graph order.

    ``rate`` is the tensor that decides: a constant, placeholder or whatever the rate comes from,
    past any ``1 - ...``.
    """
    finder = _Finder(graph)
    candidates = (finder.match(node) for node in graph if node.op in _PRODUCTS)
    return [dropout for dropout in candidates if dropout is not None]


@dataclass(frozen=True)
class _Probability:
    """``tensor``, or 1 - ``tensor`` if ``complement``."""

    tensor: str
    complement: bool

    def inverted(self) -> _Probability:
        return _Probability(self.tensor, not self.complement)


@dataclass(frozen=True)
class _Scale:
    """What something is multiplied with, or divided by."""

    tensor: str
    divides: bool


# The tensor that is dropped from, the probability of keeping an element, and the scale.
_Parts = Tuple[str, Optional[_Probability], _Scale]


class _Finder:
    """Matches the parts of a dropout, from its last operation back to the random numbers."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known = KnownValues(graph)
        self._readers = graph.consumers()
        self._needed = needed_nodes(graph)
        self._outputs = {node_of(tensor) for tensor in graph.outputs}

    def match(self, node: Node) -> Optional[Dropout]:
        """The dropout that a node is the last operation of."""
        for tensor, keep, scale in self._decomposed(node):
            if keep is not None and self._is_inverse(scale, keep):
                return Dropout(node.name, tensor, keep.tensor, not keep.complement)
        return None

    def _decomposed(self, node: Node) -> Iterator[_Parts]:
        """The ways to read a node as a tensor times a mask times a scale."""
        operands = node.data_inputs
        if node.op in _SELECT:
            condition, left, right = operands
            keep = self._condition(condition)
            if keep is not None and self._is_zero(right):
                yield from ((tensor, keep, scale) for tensor, scale in self._scaled(left))
            elif keep is not None and self._is_zero(left):
                keep = keep.inverted()
                yield from ((tensor, keep, scale) for tensor, scale in self._scaled(right))
            return
        for product, scale in self._factors(node):
            inner = self._node(product)
            if inner.op == "Mul":
                for tensor, mask in _both_ways(inner.data_inputs):
                    yield tensor, self._mask(mask), scale
        if node.op == "Mul":
            for one, other in _both_ways(operands):
                keep = self._mask(other)
                if keep is not None:
                    yield from ((tensor, keep, scale) for tensor, scale in self._scaled(one))
                yield from ((one, self._mask(mask), scale) for mask, scale in self._scaled(other))

    def _scaled(self, tensor: str) -> Iterator[Tuple[str, _Scale]]:
        """The ways to read a tensor as another one times a scale."""
        return self._factors(self._node(tensor))

    def _factors(self, node: Node) -> Iterator[Tuple[str, _Scale]]:
        if node.op == "Mul":
            for tensor, scale in _both_ways(node.data_inputs):
                yield tensor, _Scale(scale, divides=False)
        elif node.op in _DIVIDE:
            tensor, scale = node.data_inputs
            yield tensor, _Scale(scale, divides=True)

    def _mask(self, tensor: str) -> Optional[_Probability]:
        """With which probability a tensor is 1 rather than 0, if it is such a mask."""
        node = self._node(tensor)
        if node.op == "Cast":
            return self._condition(node.data_inputs[0])
        if node.op != "Floor":
            return None
        total = self._node(node.data_inputs[0])
        if total.op in _ADD:
            for keep, uniform in _both_ways(total.data_inputs):
                if self._is_uniform(uniform):
                    return self._probability(keep)
        return None

    def _condition(self, tensor: str) -> Optional[_Probability]:
        """With which probability a comparison with a uniform number is true."""
        node = self._node(tensor)
        if node.op == "LogicalNot":
            keep = self._condition(node.data_inputs[0])
            return None if keep is None else keep.inverted()
        if node.op not in _LARGER:
            return None
        left, right = node.data_inputs
        if self._is_uniform(left):
            probability = self._probability(right)
            return probability.inverted() if _LARGER[node.op] else probability
        if self._is_uniform(right):
            probability = self._probability(left)
            return probability if _LARGER[node.op] else probability.inverted()
        return None

    def _probability(self, tensor: str) -> _Probability:
        tensor, complement = past_identities(self._graph, tensor), False
        while True:
            node = self._graph[tensor]
            if node.op != "Sub" or self._known.scalar(node.data_inputs[0]) != 1:
                return _Probability(tensor, complement)
            tensor = past_identities(self._graph, node.data_inputs[1])
            complement = not complement

    def _is_inverse(self, scale: _Scale, keep: _Probability) -> bool:
        """Whether a scale makes up for what is dropped."""
        value, probability = self._known.get(scale.tensor), self._known.scalar(keep.tensor)
        if value is not None and value.size == 1 and probability is not None:
            if keep.complement:
                probability = 1 - probability
            number = float(value.reshape(()))
            factor = 1 / number if scale.divides and number else number
            # Rounded once where 1 - r and once where 1 / (1 - r) was computed.
            tolerance = 2 * _EPSILON.get(value.dtype.itemsize, 0) * (1 + abs(factor))
            return abs(factor * probability - 1) <= tolerance
        if scale.divides:
            return self._probability(scale.tensor) == keep
        node = self._node(scale.tensor)
        if node.op in _INVERT:
            return self._probability(node.data_inputs[0]) == keep
        if node.op in _DIVIDE and self._known.scalar(node.data_inputs[0]) == 1:
            return self._probability(node.data_inputs[1]) == keep
        return False

    def _is_zero(self, tensor: str) -> bool:
        node = self._node(tensor)
        if node.op == "Const":
            return not np.any(node.attrs["value"])
        if node.op == "Fill":
            return self._known.scalar(node.data_inputs[1]) == 0
        return node.op == "ZerosLike"

    def _is_uniform(self, tensor: str) -> bool:
        """Whether a tensor is random in [0, 1), and used to drop only."""
        node = self._node(tensor)
        for _ in range(2):  # "+ min" and "* (max - min)"
            neutral = 0 if node.op in _ADD else 1 if node.op == "Mul" else None
            for operand, other in _both_ways(node.data_inputs[:2]):
                if neutral is not None and self._known.scalar(other) == neutral:
                    node = self._node(operand)
                    break
        return node.op in _RANDOM and not self._is_data(node)

    def _is_data(self, random: Node) -> bool:
        """Whether more than comparisons reads random numbers."""
        waiting, seen = [random], {random.name}
        while waiting:
            node = waiting.pop()
            if node.name in self._outputs:
                return True
            for reader in self._readers[node.name]:
                if reader.name not in self._needed or reader.op in _HARMLESS:
                    continue
                if reader.op not in _ON_THE_WAY:
                    return True
                if reader.name not in seen:
                    seen.add(reader.name)
                    waiting.append(reader)
        return False

    def _node(self, tensor: str) -> Node:
        return self._graph[past_identities(self._graph, tensor)]


def _both_ways(operands: Sequence[str]) -> Tuple[Sequence[str], ...]:
    return (operands, operands[::-1]) if len(operands) == 2 else ()
