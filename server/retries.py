"""What runs again after a worker was lost or failed, and how it is divided.

Pure. A batch that a worker was computing when it was lost, or that it could not compute, is
suspect: one of its rows may be poisonous, that is, kill whoever computes it. Its rows run again

1. each request's by themselves, so that one request can't take others down;
2. those of a request that failed again in ``PARTS`` parts, and a part that failed likewise, until
   a row that fails is by itself;
3. a row that failed by itself once more: it may have been another's fault. If it wasn't, the row
   is given up.

A row of a request of n is so computed at most 3 + ceil(log(n) / log(PARTS)) times. Parts are many
rather than two, for each failure may cost a worker, whose replacement takes seconds, while a part
costs what computing its rows does. They are tried one after another, depth first, so that where
every row fails, that is found out after one row rather than after all.

What is suspect is computed by a worker that holds nothing else (``Batch.suspect``): then whatever
happens to that worker is nobody else's doing, and nobody else's harm.

Where memory was too small, nothing is suspect: the batch runs again in halves, which doesn't count,
until a row that is by itself needs too much. What a lost worker held and had not begun runs again
as it is.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import Deque, List, NamedTuple, Sequence, Tuple

from bert_serving.server.batching import Row
from bert_serving.server.work import Batch

__all__ = ["MAX_ALONE", "PARTS", "Group", "Retries", "divide", "halve"]

PARTS = 16
#: How often a row by itself is computed.
MAX_ALONE = 2


class Group(NamedTuple):
    """Rows to compute together, ordered by request and index."""

    rows: Tuple[Row, ...]
    attempt: int = 1  # one more than the number of times that they failed
    failed_alone: int = 0  # how often the row failed by itself


def divide(batch: Batch, rows: Sequence[Row]) -> Tuple[List[Group], List[Row]]:
    """What is to run again after a batch failed, and the rows that are given up.

    ``rows`` are those of the batch that are still wanted, in its order.
    """
    groups: List[Group] = []
    poisonous: List[Row] = []
    is_of_one_request = batch.rows[0].request == batch.rows[-1].request
    for _, same in groupby(rows, key=lambda row: row.request):
        mine = tuple(same)
        attempt = batch.attempt + 1
        if len(batch.rows) == 1:
            failed_alone = batch.failed_alone + 1
            if failed_alone == MAX_ALONE:
                poisonous += mine
            else:
                groups.append(Group(mine, attempt, failed_alone))
        elif batch.attempt == 1 or not is_of_one_request:
            groups.append(Group(mine, attempt))
        else:
            size = -(-len(mine) // PARTS)
            parts = (mine[start : start + size] for start in range(0, len(mine), size))
            groups += [Group(part, attempt) for part in parts]
    return groups, poisonous


def halve(batch: Batch, rows: Sequence[Row]) -> List[Group]:
    """What is to run again after memory was too small for a batch of several rows."""
    middle = (len(rows) + 1) // 2
    halves = (tuple(rows[:middle]), tuple(rows[middle:]))
    return [Group(half, batch.attempt) for half in halves if half]


class Retries:
    """Groups that wait: ``suspects`` for a worker of their own, ``interrupted`` ones for any."""

    def __init__(self) -> None:
        self._suspects: Deque[Group] = deque()
        self._interrupted: Deque[Group] = deque()

    def __bool__(self) -> bool:
        return bool(self._suspects or self._interrupted)

    @property
    def suspects(self) -> int:
        """How many groups wait for a worker that holds nothing else."""
        return len(self._suspects)

    def rows(self) -> List[Row]:
        """The rows that wait."""
        groups = list(self._suspects) + list(self._interrupted)
        return [row for group in groups for row in group.rows]

    def add_failed(self, batch: Batch, rows: Sequence[Row]) -> List[Row]:
        """A batch failed, of which these rows are still wanted; returns those to be given up.

        What runs again goes before what waits already.
        """
        groups, poisonous = divide(batch, rows)
        self._suspects.extendleft(reversed(groups))
        return poisonous

    def add_halves(self, batch: Batch, rows: Sequence[Row]) -> None:
        """There was too little memory for a batch, of which these rows are still wanted."""
        self._suspects.extendleft(reversed(halve(batch, rows)))

    def add_interrupted(self, batch: Batch, rows: Sequence[Row]) -> None:
        """A batch was never begun, of which these rows are still wanted."""
        if rows:
            group = Group(tuple(rows), batch.attempt, batch.failed_alone)
            (self._suspects if batch.suspect else self._interrupted).appendleft(group)

    def take_suspect(self) -> Group:
        """The next of the suspects."""
        return self._suspects.popleft()

    def take_interrupted(self) -> Group:
        """The next of the others; empty if none waits."""
        return self._interrupted.popleft() if self._interrupted else Group(())

    def drop(self, handle: int) -> None:
        """The request of that handle has ended."""
        self._suspects = _without(self._suspects, handle)
        self._interrupted = _without(self._interrupted, handle)


def _without(groups: Deque[Group], handle: int) -> Deque[Group]:
    kept: Deque[Group] = deque()
    for group in groups:
        rows = tuple(row for row in group.rows if row.request != handle)
        if rows:
            kept.append(group._replace(rows=rows))
    return kept
