"""Other orders of service, to compare the scheduler's with. Each stands in for ``Line``."""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Sequence

from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.line import Line
from bert_serving.server.scheduler import AGING

__all__ = ["POLICIES", "Policy"]

SMALL_ROWS = 16
#: Width of the groups of near length.
NEAR = 8

Policy = Callable[[BatchLimits], Line]


class _Other(Line):
    """Keeps what waits in the order in which it came; :meth:`choose` takes a batch of it."""

    def __init__(self, limits: BatchLimits) -> None:
        super().__init__(limits, SMALL_ROWS, 0.0)
        self.waiting: Deque[Row] = deque()
        self.totals: Dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.waiting)

    def open(self, handle: int, client: bytes, total_rows: int, now: float) -> None:
        self.totals[handle] = total_rows

    def add(self, handle: int, rows: Sequence[Row], now: float) -> None:
        self.waiting.extend(rows)

    def close(self, handle: int) -> None:
        del self.totals[handle]

    def take(self, now: float, most: Optional[int] = None) -> List[Row]:
        return sorted(self.choose()) if len(self) else []

    def choose(self) -> List[Row]:
        raise NotImplementedError


def fill(rows: Deque[Row], limits: BatchLimits) -> List[Row]:
    """Take rows from the left as long as they fit."""
    chosen: List[Row] = []
    tokens = longest = 0
    while rows and len(chosen) < limits.rows:
        length = rows[0].length
        longest, tokens = max(longest, length), tokens + length
        if chosen and limits.weighted(len(chosen) + 1, tokens, longest) > limits.tokens:
            break
        chosen.append(rows.popleft())
    return chosen


class FirstCome(_Other):
    """Rows of all requests in their order."""

    def choose(self) -> List[Row]:
        return fill(self.waiting, self.limits)


class _Groups(_Other):
    """Rows in groups by length; ``width`` 1: of equal length."""

    width = 1

    def __init__(self, limits: BatchLimits) -> None:
        super().__init__(limits)
        self.groups: Dict[int, Deque[Row]] = {}
        self.arrived: Dict[int, Deque[int]] = {}  # numbers of the rows in each group
        self.number = 0

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    def add(self, handle: int, rows: Sequence[Row], now: float) -> None:
        for row in rows:
            group = row.length // self.width
            self.groups.setdefault(group, deque()).append(row)
            self.number += 1
            self.arrived.setdefault(group, deque()).append(self.number)

    def choose(self) -> List[Row]:
        group = self.next_group()
        chosen = fill(self.groups[group], self.limits)
        for _ in chosen:
            self.arrived[group].popleft()
        if not self.groups[group]:
            del self.groups[group], self.arrived[group]
        return chosen

    def next_group(self) -> int:
        """That of the row which waits longest."""
        return min(self.arrived, key=lambda group: self.arrived[group][0])


class ExactLengths(_Groups):
    """Only rows of equal length share a batch; no padding at all."""


class NearLengths(_Groups):
    """Rows share a batch whose lengths differ by less than NEAR."""

    width = NEAR


class LargestBatch(_Groups):
    """Of the groups of near length, the one that fills the largest batch."""

    width = NEAR

    def next_group(self) -> int:
        return max(
            self.groups, key=lambda group: (len(self.groups[group]), -self.arrived[group][0])
        )


class BertAsService(_Other):
    """bert-as-service 1.10: parts of a request by rows, one in a batch, small requests first.

    Each batch is padded to ``max_seq_len``: see ``Setting.pad_to``.
    """

    def __init__(self, limits: BatchLimits) -> None:
        super().__init__(limits)
        self.small: Deque[Row] = deque()

    def __len__(self) -> int:
        return len(self.small) + len(self.waiting)

    def add(self, handle: int, rows: Sequence[Row], now: float) -> None:
        (self.small if self.totals[handle] <= SMALL_ROWS else self.waiting).extend(rows)

    def choose(self) -> List[Row]:
        rows = self.small or self.waiting
        chosen = [rows.popleft()]
        while rows and rows[0].request == chosen[0].request and len(chosen) < self.limits.rows:
            chosen.append(rows.popleft())
        return chosen


def ours(limits: BatchLimits) -> Line:
    """The scheduler's own, with its constants."""
    return Line(limits, SMALL_ROWS, AGING)


POLICIES: Dict[str, Policy] = {
    "ours": ours,
    "first come, first served": FirstCome,
    "exact lengths": ExactLengths,
    "near lengths": NearLengths,
    "largest batch": LargestBatch,
    "bert-as-service 1.10": BertAsService,
}
