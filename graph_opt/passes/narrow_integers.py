"""Use int32 for token ids, masks, indices and shapes where every value fits.

Before::

    Placeholder "input_ids" int64 -> GatherV2 (Tindices int64)
    Shape (out_type int64) -> Pack (T int64) -> Reshape (Tshape int64)

After: the same nodes with int32, constants converted.

Two ends of an edge have the same dtype, and so have all inputs that share an attribute: the int64
attributes of the graph fall into groups that change together or not at all. A group is narrowed
only if the range of each of its tensors is known and within int32:

* a placeholder's, by the contract that this pass makes: the ids, masks and types of a batch are fed
  as int32;
* a Shape's, because a dimension of int32 arrays in memory stays below 2**31;
* a constant's, by its smallest and largest element;
* a result's, by interval arithmetic, for the operations in the table below.

Anything else, e.g. a float cast to int64 or an integer sum, has no known range and keeps its group
in int64.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.signatures import PASS_THROUGH, input_slots, output_slots

__all__ = ["INT32", "narrow_integers"]

Interval = Tuple[int, int]
# An attribute of a node: (node name, attribute name).
Slot = Tuple[str, str]

INT32: Interval = (-(2**31), 2**31 - 1)
LONG = np.dtype("int64")
SHORT = np.dtype("int32")


def narrow_integers(graph: Graph) -> Rewritten:
    """The graph with int64 narrowed to int32 in every group of attributes where the values fit.

    Raises:
        UnsupportedOp: an operation without a signature.
    """
    groups = _Groups()
    ranges: Dict[str, Optional[Interval]] = {}
    blocked: List[Slot] = []
    for node in graph.topological():
        for tensor, slot in input_slots(node):
            if isinstance(slot, str) and _is_long(node, slot):
                groups.join((node.name, slot), _source(graph, tensor))
            elif not isinstance(slot, str) and slot == LONG:
                blocked.append(_source(graph, tensor))  # the reader's own dtype never varies
        for slot in output_slots(node)[:1]:
            if isinstance(slot, str) and _is_long(node, slot):
                interval = _interval(node, ranges)
                ranges[node.name] = interval
                groups.join((node.name, slot), (node.name, slot))
                if interval is None or interval[0] < INT32[0] or interval[1] > INT32[1]:
                    blocked.append((node.name, slot))
    # Whoever reads an output relies on its dtype.
    blocked.extend(_source(graph, tensor) for tensor in graph.outputs)
    wide = {groups.root(slot) for slot in blocked}
    narrowed: Dict[str, List[str]] = {}
    for name, attribute in groups.slots():
        if groups.root((name, attribute)) not in wide:
            narrowed.setdefault(name, []).append(attribute)
    return Rewritten(
        graph.replaced(
            nodes=[
                _narrow(node, narrowed[node.name]) if node.name in narrowed else node
                for node in graph
            ]
        )
    )


def _narrow(node: Node, attributes: Sequence[str]) -> Node:
    changed = node.with_attrs(**dict.fromkeys(attributes, SHORT))
    if node.op != "Const":
        return changed
    value = np.asarray(node.attrs["value"]).astype(SHORT)
    value.setflags(write=False)
    return changed.with_attrs(value=value)


def _is_long(node: Node, attribute: str) -> bool:
    return np.dtype(node.attrs[attribute]) == LONG


def _source(graph: Graph, tensor: str) -> Slot:
    """The slot that types a tensor where it is made."""
    node = graph[tensor]
    slot = output_slots(node)[0]
    return (node.name, slot if isinstance(slot, str) else "")


class _Groups:
    """Disjoint sets of slots."""

    def __init__(self) -> None:
        self._parents: Dict[Slot, Slot] = {}

    def root(self, slot: Slot) -> Slot:
        self._parents.setdefault(slot, slot)
        while self._parents[slot] != slot:
            slot = self._parents[slot]
        return slot

    def join(self, one: Slot, other: Slot) -> None:
        self._parents[self.root(one)] = self.root(other)

    def slots(self) -> List[Slot]:
        return list(self._parents)


def _interval(node: Node, ranges: Mapping[str, Optional[Interval]]) -> Optional[Interval]:
    """Smallest and largest value that an int64 node can give; None where unknown."""
    if node.op == "Const":
        value = np.asarray(node.attrs["value"])
        return (int(value.min()), int(value.max())) if value.size else (0, 0)
    if node.op == "Placeholder":
        return INT32
    if node.op == "Shape":
        return (0, INT32[1])
    if node.op == "Cast" and np.dtype(node.attrs["SrcT"]) != LONG:
        return _cast_interval(np.dtype(node.attrs["SrcT"]))
    rule = _RULES.get(node.op)
    if rule is None:
        return None
    known = []
    for tensor, slot in input_slots(node):
        if isinstance(slot, str) and (slot == output_slots(node)[0] or node.op == "Cast"):
            interval = ranges.get(node_of(tensor))
            if interval is None:
                return None
            known.append(interval)
    return rule(known)


def _cast_interval(source: np.dtype) -> Optional[Interval]:
    """What a cast to int64 can give: all of a small integer type, anything for a float."""
    if source.kind == "b":
        return (0, 1)
    if source.kind not in "iu":
        return None
    limits = np.iinfo(source)
    return (int(limits.min), int(limits.max))


def _union(intervals: Sequence[Interval]) -> Interval:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def _sum(intervals: Sequence[Interval]) -> Interval:
    (a, b), (c, d) = intervals
    return a + c, b + d


def _difference(intervals: Sequence[Interval]) -> Interval:
    (a, b), (c, d) = intervals
    return a - d, b - c


def _product(intervals: Sequence[Interval]) -> Interval:
    (a, b), (c, d) = intervals
    corners = (a * c, a * d, b * c, b * d)
    return min(corners), max(corners)


_RULES: Dict[str, Callable[[Sequence[Interval]], Interval]] = {
    "Add": _sum,
    "AddV2": _sum,
    "Mul": _product,
    "Sub": _difference,
}
# These only move or choose elements. Range stays between its start and its limit, and a delta of
# int32 keeps the union right.
_RULES.update(
    (op, _union)
    for op in (
        "Cast",
        "ConcatV2",
        "ExpandDims",
        "GatherNd",
        "GatherV2",
        "Max",
        "Maximum",
        "Minimum",
        "Pack",
        "Range",
        "Reshape",
        "SelectV2",
        "Transpose",
    )
    + PASS_THROUGH
)
