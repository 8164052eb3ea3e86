"""Which of the rows that wait go to which worker, in batches.

Pure. A worker with an idle stream never waits while rows do. One without gets its next batch
shortly before one of those that it computes ends, as far as can be told from those before, so that
rows that come meanwhile still have a place in it: ``wake_at`` says when.

What runs again goes first: suspects, each to a worker that holds nothing else, then what was
interrupted. Then comes what :mod:`line` says, shared by the streams that are idle.
"""

from __future__ import annotations

from typing import List, Optional

from bert_serving.server.crew import Crew
from bert_serving.server.line import Line
from bert_serving.server.retries import Group, Retries
from bert_serving.server.work import Batch, Dispatch

__all__ = ["Dispatching"]


class Dispatching:
    """Takes rows from ``line`` and ``retries``, and gives them to the ``crew``."""

    def __init__(self, crew: Crew, line: Line, retries: Retries) -> None:
        self._crew = crew
        self._line = line
        self._retries = retries
        self._next_batch = 0

    def batches(self, now: float) -> List[Dispatch]:
        """The batches that are to be sent now, until no worker has a place or no row waits."""
        batches: List[Dispatch] = []
        while self._retries.suspects:
            worker = self._crew.idle()
            if worker is None:
                break
            is_alone = self._crew[worker].streams > 1
            group = self._retries.take_suspect()
            batches.append(self._send(worker, group, is_alone, now, is_suspect=True))
        line, suspects = self._line, self._retries.suspects
        while True:
            worker, opening = self._crew.opening(line.limits, line.tokens, suspects, now)
            next_group = self._next(now, opening.shares) if worker is not None else None
            if worker is None or next_group is None:
                return batches
            batches.append(self._send(worker, next_group, opening.alone, now))

    def wake_at(self) -> Optional[float]:
        """When there is a place for the next batch if nothing happens before; None: never."""
        line = self._line
        if len(line) or self._retries:
            return self._crew.wake_at(line.limits, line.tokens, self._retries.suspects)
        return None

    def _next(self, now: float, shares: int) -> Optional[Group]:
        """The next batch's rows: what waits, or one of so many shares of it."""
        group = self._retries.take_interrupted()
        if group.rows:
            return group
        # Padding counts, too: all that waits isn't limited by its own tokens.
        most = None if shares == 1 else -(-self._line.tokens // shares)
        rows = self._line.take(now, most)
        return Group(tuple(rows)) if rows else None

    def _send(
        self, worker: bytes, group: Group, is_alone: bool, now: float, is_suspect: bool = False
    ) -> Dispatch:
        self._next_batch += 1
        batch = Batch(self._next_batch, group.rows, group.attempt, is_suspect, group.failed_alone)
        self._crew[worker].begin(batch, is_alone, now)
        return Dispatch(worker, batch, is_alone)
