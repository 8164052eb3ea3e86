"""The smallest and the largest value that an integer tensor can hold, by interval arithmetic."""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.passes.matching import plain
from bert_serving.graph_opt.signatures import PASS_THROUGH, input_slots

__all__ = ["INT32", "Interval", "interval_of"]

Interval = Tuple[int, int]
Rule = Callable[[Sequence[Interval]], Optional[Interval]]

LONG = np.dtype("int64")
INT32: Interval = (-(2**31), 2**31 - 1)


def interval_of(
    node: Node, slot: str, known: Mapping[str, Optional[Interval]]
) -> Optional[Interval]:
    """What an output of a node, typed by ``slot``, can hold; None if that can't be told.

    ``known`` has the intervals of the tensors before it, by their names without ``:0``. A dimension
    and a position in an array in memory fit into int32; so do ids, masks and types that are fed.
    """
    if node.op == "Const":
        value = np.asarray(node.attrs["value"])
        return (int(value.min()), int(value.max())) if value.size else (0, 0)
    if node.op in ("Placeholder", "PlaceholderWithDefault"):
        return INT32
    if node.op in ("ArgMax", "ArgMin", "Shape"):
        return (0, INT32[1])
    if node.op == "Cast":
        source = node.attrs["SrcT"]
        if not isinstance(source, np.dtype) or source != LONG:
            return _cast(source)
    rule = _RULES.get(node.op)
    if rule is None:
        return None
    intervals: List[Interval] = []
    for tensor, typed in input_slots(node):
        if isinstance(typed, str) and (typed == slot or node.op == "Cast"):
            interval = known.get(plain(tensor))
            if interval is None:
                return None
            intervals.append(interval)
    return rule(intervals)


def _cast(source: object) -> Optional[Interval]:
    """What a cast to int64 can give: all of a small integer type, anything for a float."""
    if not isinstance(source, np.dtype):
        return None
    if source.kind == "b":
        return (0, 1)
    if source.kind not in "iu":
        return None
    limits = np.iinfo(source)
    return (int(limits.min), int(limits.max))


def _union(intervals: Sequence[Interval]) -> Interval:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def _padded(intervals: Sequence[Interval]) -> Interval:
    """Pad without a value fills with zeros."""
    return _union([*intervals, (0, 0)])


def _sum(intervals: Sequence[Interval]) -> Interval:
    return sum(low for low, _ in intervals), sum(high for _, high in intervals)


def _difference(intervals: Sequence[Interval]) -> Interval:
    (a, b), (c, d) = intervals
    return a - d, b - c


def _product(intervals: Sequence[Interval]) -> Interval:
    (a, b), (c, d) = intervals
    corners = (a * c, a * d, b * c, b * d)
    return min(corners), max(corners)


def _quotient(intervals: Sequence[Interval]) -> Optional[Interval]:
    """Of a positive divisor; whichever way it is rounded."""
    (a, b), (c, d) = intervals
    if c <= 0:
        return None
    low, high = min(a // c, a // d), max(-(-b // c), -(-b // d))
    return low, high


def _modulus(intervals: Sequence[Interval]) -> Optional[Interval]:
    """FloorMod of a positive divisor."""
    _, (c, d) = intervals
    return (0, d - 1) if c > 0 else None


def _negated(intervals: Sequence[Interval]) -> Interval:
    ((a, b),) = intervals
    return -b, -a


def _absolute(intervals: Sequence[Interval]) -> Interval:
    return 0, max(abs(bound) for bound in intervals[0])


_RULES: Dict[str, Rule] = {
    "Abs": _absolute,
    "Add": _sum,
    "AddN": _sum,
    "AddV2": _sum,
    "Div": _quotient,
    "FloorDiv": _quotient,
    "FloorMod": _modulus,
    "Mul": _product,
    "Neg": _negated,
    "OnesLike": lambda intervals: (1, 1),
    "Pad": _padded,
    "Sign": lambda intervals: (-1, 1),
    "Sub": _difference,
    "ZerosLike": lambda intervals: (0, 0),
}
# These only move or choose elements. Range stays between its start and its limit, and a delta of
# int32 keeps the union right. Sum, Prod and Size may exceed any bound.
_UNIONS = (
    "BroadcastTo Cast Concat ConcatV2 EnsureShape ExpandDims Fill Gather GatherNd GatherV2 Max"
    " Maximum Merge Min Minimum OneHot Pack PadV2 Range Reshape Select SelectV2 Slice Split SplitV"
    " Squeeze StridedSlice Switch Tile Transpose Unpack"
)
_RULES.update((op, _union) for op in _UNIONS.split())
_RULES.update((op, _union) for op in PASS_THROUGH)
