"""How many elements the shapes in a graph have, which is the rank of what is shaped by them."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, output_index
from bert_serving.graph_opt.signatures import VARIABLE_OPS

__all__ = ["Count", "KnownRanks", "Rule", "Unknown", "fixed", "largest", "plus"]

# What a rank or a length that can't be told is.
Unknown = None
Count = Optional[int]


class KnownRanks:
    """The ranks of the nodes visited so far."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: Dict[str, int] = {}
        self._lengths: Dict[str, Count] = {}

    def of(self, node: Node, position: int) -> Count:
        """The rank of an input."""
        return self.known.get(node.data_inputs[position])

    def constant(self, node: Node, position: int) -> Optional[np.ndarray]:
        """The value of an input that is constant."""
        source = self.graph[node.data_inputs[position]]
        while source.op == "Identity":
            source = self.graph[source.data_inputs[0]]
        return np.asarray(source.attrs["value"]) if source.op == "Const" else None

    def length(self, node: Node, position: int) -> Count:
        """How many elements an input of rank 1, e.g. a shape, has."""
        tensor = node.data_inputs[position]
        if tensor not in self._lengths:
            self._lengths[tensor] = self._length(tensor)
        return self._lengths[tensor]

    def _length(self, tensor: str) -> Count:
        node = self.graph[tensor]
        if node.op == "Const":
            return int(np.size(node.attrs["value"]))
        if node.op in ("Placeholder",) + VARIABLE_OPS:
            shape = node.attrs.get("shape")
            return shape[0] if shape is not None and len(shape) == 1 else Unknown
        if node.op == "Merge" and output_index(tensor):
            return Unknown
        rule = _LENGTHS.get(node.op)
        return rule(self, node) if rule else Unknown


Rule = Callable[[KnownRanks, Node], Count]


def largest(several: List[Count]) -> Count:
    """The largest, if all are known."""
    known = [rank for rank in several if rank is not Unknown]
    return max(known) if known and len(known) == len(several) else Unknown


def plus(*terms: Count) -> Count:
    """The sum, if all are known."""
    known = [term for term in terms if term is not Unknown]
    return sum(known) if len(known) == len(terms) else Unknown


def fixed(rank: int) -> Rule:
    """The rule of what always has the same rank or length."""
    return lambda ranks, node: rank


def _sum_of_lengths(ranks: KnownRanks, node: Node) -> Count:
    skipped = 0 if node.op == "Concat" else len(node.data_inputs) - 1
    return plus(
        *[
            ranks.length(node, position)
            for position in range(len(node.data_inputs))
            if position != skipped
        ]
    )


def _longest(ranks: KnownRanks, node: Node) -> Count:
    """Length of an elementwise result; a scalar operand counts as one element."""
    return largest(
        [
            1 if ranks.of(node, position) == 0 else ranks.length(node, position)
            for position in range(len(node.data_inputs))
        ]
    )


def _sliced_length(ranks: KnownRanks, node: Node) -> Count:
    bounds = [ranks.constant(node, position) for position in (1, 2, 3)]
    length = ranks.length(node, 0)
    begin, end, stride = bounds
    if length is Unknown or begin is None or end is None or stride is None or stride.size != 1:
        return Unknown
    if any(node.attrs.get(mask) for mask in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")):
        return Unknown
    first = None if node.attrs.get("begin_mask", 0) & 1 else int(begin[0])
    last = None if node.attrs.get("end_mask", 0) & 1 else int(end[0])
    return len(range(length)[slice(first, last, int(stride[0]))])


def _slice_length(ranks: KnownRanks, node: Node) -> Count:
    begin, size = ranks.constant(node, 1), ranks.constant(node, 2)
    if size is None or size.size != 1:
        return Unknown
    if int(size[0]) != -1:
        return int(size[0])
    return Unknown if begin is None else plus(ranks.length(node, 0), -int(begin[0]))


def _gathered_length(ranks: KnownRanks, node: Node) -> Count:
    return ranks.length(node, 1) if ranks.of(node, 1) == 1 else Unknown


def _filled_length(position: int) -> Rule:
    """Of what is made to a shape or a count of one constant element."""

    def rule(ranks: KnownRanks, node: Node) -> Count:
        shape = ranks.constant(node, position)
        if shape is None or shape.size != 1 or int(shape.ravel()[0]) < 0:
            return Unknown
        return int(shape.ravel()[0])

    return rule


def _reshaped_length(ranks: KnownRanks, node: Node) -> Count:
    shape = ranks.constant(node, 1)
    if shape is not None and shape.size == 1 and int(shape[0]) == -1:
        rank = ranks.of(node, 0)
        return 1 if rank == 0 else ranks.length(node, 0) if rank == 1 else Unknown
    return _filled_length(1)(ranks, node)


def _range_length(ranks: KnownRanks, node: Node) -> Count:
    bounds = [ranks.constant(node, position) for position in range(3)]
    if any(bound is None for bound in bounds):
        return Unknown
    return len(np.arange(*[np.asarray(bound).item() for bound in bounds]))


# How many elements a tensor of rank 1 has.
_LENGTHS: Dict[str, Rule] = {
    "BroadcastTo": _filled_length(1),
    "Concat": _sum_of_lengths,
    "ConcatV2": _sum_of_lengths,
    "ExpandDims": fixed(1),  # of a scalar, if the result is to have rank 1
    "Fill": _filled_length(0),
    "Gather": _gathered_length,
    "GatherV2": _gathered_length,
    "Pack": lambda ranks, node: len(node.data_inputs),
    "Range": _range_length,
    "Reshape": _reshaped_length,
    "Shape": lambda ranks, node: ranks.of(node, 0),
    "Slice": _slice_length,
    "StridedSlice": _sliced_length,
    "Transpose": lambda ranks, node: ranks.length(node, 0),
}
_ELEMENTWISE = (
    "Add AddV2 Cast Equal FloorDiv FloorMod Greater Identity Less Maximum Minimum Mul Neg OnesLike"
    " SelectV2 Sub ZerosLike"
)
_LENGTHS.update((op, _longest) for op in _ELEMENTWISE.split())
