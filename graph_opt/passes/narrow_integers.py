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
* that of a Shape or an ArgMax, because a dimension of int32 arrays in memory stays below 2**31;
* a constant's, by its smallest and largest element;
* a result's, by interval arithmetic (``intervals.py``).

Anything else, e.g. a float cast to int64 or an integer sum, has no known range and keeps its group
in int64. So does what an operation without a signature reads or gives, and what is an output.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, output_index
from bert_serving.graph_opt.passes.intervals import INT32, Interval, interval_of
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.signatures import (
    DEFAULT_DTYPES,
    SIGNATURES,
    Slot,
    input_slots,
    output_slots,
)

__all__ = ["INT32", "narrow_integers"]

# An attribute of a node: (node name, attribute name).
Typed = Tuple[str, str]

LONG = np.dtype("int64")
SHORT = np.dtype("int32")


def narrow_integers(graph: Graph) -> Rewritten:
    """The graph with int64 narrowed to int32 in every group of attributes where the values fit.

    Raises:
        GraphError: a malformed graph.
    """
    groups, blocked = _group(graph)
    wide = {groups.root(typed) for typed in blocked}
    narrowed: Dict[str, List[str]] = {}
    for name, attribute in groups.members():
        if groups.root((name, attribute)) not in wide:
            narrowed.setdefault(name, []).append(attribute)
    if not narrowed:
        return Rewritten(graph)
    nodes = [
        _narrow(node, narrowed[node.name]) if node.name in narrowed else node for node in graph
    ]
    return Rewritten(graph.replaced(nodes=nodes))


def _group(graph: Graph) -> Tuple[_Groups, List[Typed]]:
    """The int64 attributes by groups, and those that must stay."""
    groups, blocked = _Groups(), []
    # Whoever reads an output relies on its dtype.
    for tensor in graph.outputs:
        blocked.append(_source(graph, tensor))
    ranges: Dict[str, Optional[Interval]] = {}
    for node in graph.topological():
        if node.op not in SIGNATURES:
            blocked.extend(_source(graph, tensor) for tensor in node.data_inputs)
            continue
        for tensor, slot in input_slots(node):
            if not _is_long(node, slot):
                continue
            source = _source(graph, tensor)
            if isinstance(slot, str):
                groups.join((node.name, slot), source)
            if not isinstance(slot, str) or not source[1]:
                blocked.append(source)  # the dtype of one of the two never varies
        for index, slot in enumerate(output_slots(node)):
            if isinstance(slot, str) and _is_long(node, slot):
                interval = interval_of(node, slot, ranges)
                ranges["%s:%d" % (node.name, index) if index else node.name] = interval
                groups.join((node.name, slot), (node.name, slot))
                if interval is None or interval[0] < INT32[0] or interval[1] > INT32[1]:
                    blocked.append((node.name, slot))
    return groups, blocked


def _narrow(node: Node, attributes: Sequence[str]) -> Node:
    changed = node.with_attrs(**dict.fromkeys(attributes, SHORT))
    if node.op != "Const":
        return changed
    value = np.asarray(node.attrs["value"]).astype(SHORT)
    value.setflags(write=False)
    return changed.with_attrs(value=value)


def _is_long(node: Node, slot: Slot) -> bool:
    dtype: Any = slot
    if isinstance(slot, str):
        dtype = node.attrs[slot] if slot in node.attrs else DEFAULT_DTYPES.get(slot)
    return isinstance(dtype, np.dtype) and dtype == LONG


def _source(graph: Graph, tensor: str) -> Typed:
    """The attribute that types a tensor where it is made; "" where none does."""
    node = graph[tensor]
    slots = output_slots(node) if node.op in SIGNATURES else ()
    index = output_index(tensor)
    slot = slots[index] if index < len(slots) else None
    return (node.name, slot if isinstance(slot, str) else "")


class _Groups:
    """Disjoint sets of attributes."""

    def __init__(self) -> None:
        self._parents: Dict[Typed, Typed] = {}

    def root(self, typed: Typed) -> Typed:
        self._parents.setdefault(typed, typed)
        while self._parents[typed] != typed:
            typed = self._parents[typed]
        return typed

    def join(self, one: Typed, other: Typed) -> None:
        self._parents[self.root(one)] = self.root(other)

    def members(self) -> List[Typed]:
        return list(self._parents)
