"""Which rows are computed when, and by which worker.

Pure: no socket and no clock; ``handle(event, now)`` returns what is to be done. Rows of
different requests share a batch; :mod:`line` has the order of service.

Workers ask for work by credits, one for each batch that they are willing to hold; some compute
several at a time, in as many streams. A worker with an idle stream never waits while rows do. One
without gets its next batch shortly before one of those ends, as far as can be told from those
before, so that rows that come meanwhile still have a place in it: ``wake_at`` says when.

A batch whose worker is lost or fails runs again, each of its requests in a batch of its own so
that one request's rows can't spoil another's; a request whose batches failed ``MAX_ATTEMPTS``
times gets an error.

Every request that was opened ends in exactly one of ``Completed``, ``Failed`` and, if its client
is gone or wants it no longer, ``Forgotten``.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, List, Optional, Set, Tuple

from bert_serving.client.protocol import ErrorKind
from bert_serving.server import work
from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.holding import AHEAD, NEVER, Holder, Opening
from bert_serving.server.line import LEAD_BATCHES, Line
from bert_serving.server.work import (
    Action,
    Batch,
    Cancelled,
    ClientGone,
    Completed,
    Dispatch,
    Event,
    Failed,
    Forgotten,
    Opened,
    Rejected,
    RowsReady,
    WorkDone,
    WorkerJoined,
    WorkerLost,
    WorkFailed,
)

__all__ = ["AGING", "MAX_ATTEMPTS", "Scheduler"]

MAX_ATTEMPTS = 2
#: For how many seconds others may go before a request or a client.
AGING = 0.5


@dataclass
class _Request:
    client: bytes
    remaining: int  # rows not computed yet


class Scheduler:
    """See the module's docstring."""

    def __init__(
        self,
        limits: BatchLimits,
        small_rows: int,
        aging: float = AGING,
        lead_batches: float = LEAD_BATCHES,
        ahead: float = AHEAD,
        line: Optional[Line] = None,
        split_tokens: int = 0,
    ) -> None:
        """``line``: another order of service, for comparisons; ``ahead`` 1: at once.

        Workers' streams share what waits if each gets ``split_tokens`` tokens at least.
        """
        self._limits = limits
        self._split_tokens = split_tokens
        self._ahead = ahead
        self._requests: Dict[int, _Request] = {}
        self._clients: Dict[bytes, Set[int]] = {}  # handles of open requests
        self._workers: Dict[bytes, Holder] = {}
        self._line = Line(limits, small_rows, aging, lead_batches) if line is None else line
        self._deadlines: List[Tuple[float, int]] = []  # heap; may name ended requests
        self._again: Deque[Tuple[int, List[Row]]] = deque()  # (attempt, rows of one request)
        self._next_batch = 0
        self._handlers: Dict[type, Callable[..., List[Action]]] = {
            Opened: self._open,
            RowsReady: self._enqueue,
            Rejected: self._reject,
            WorkerJoined: self._join,
            WorkDone: self._complete,
            WorkFailed: self._retry_failed,
            WorkerLost: self._retry_lost,
            ClientGone: self._forget,
            Cancelled: self._cancel,
            work.Tick: lambda event, now: [],
        }

    @property
    def open_requests(self) -> int:
        """How many requests are not computed completely."""
        return len(self._requests)

    @property
    def waiting_tokens(self) -> int:
        """How many tokens the rows have that wait for the first time."""
        return self._line.tokens

    @property
    def waiting_rows(self) -> int:
        """How many tokenized rows wait for a worker."""
        return len(self._line) + sum(len(rows) for _, rows in self._again)

    def running(self) -> Dict[bytes, int]:
        """How many batches each worker holds."""
        return {name: len(worker.running) for name, worker in self._workers.items()}

    def handle(self, event: Event, now: float) -> List[Action]:
        """What follows from ``event``, at time ``now`` in seconds on any steady clock."""
        actions = self._handlers[type(event)](event, now)
        if self._deadlines and self._deadlines[0][0] <= now:
            actions += self._expire(now)
        if len(self._line) or self._again:
            actions += self._dispatch(now)
        return actions

    def wake_at(self) -> Optional[float]:
        """When to call :meth:`handle` with a Tick unless something happens before; None: never."""
        if not self.waiting_rows:
            return None
        times = [
            worker.opening(self._limits, self._ahead, self.waiting_tokens).at
            for worker in self._workers.values()
            if worker.credits
        ]
        first = min(times, default=NEVER)
        return None if first == NEVER else first

    def fail_all(self, kind: str, message: str) -> List[Action]:
        """End every open request with an error, for example when the server stops."""
        return [a for handle in list(self._requests) for a in self._fail(handle, kind, message)]

    def validate(self) -> None:
        """Assert what always holds; for tests, after every step."""
        self._line.validate()
        owed: Dict[int, int] = dict.fromkeys(self._requests, 0)
        rows = self._line.rows() + [row for _, group in self._again for row in group]
        for worker in self._workers.values():
            assert worker.credits >= 0
            rows += [row for batch in worker.running.values() for row in batch.rows]
        seen: Set[Tuple[int, int]] = set()
        for row in (row for row in rows if row.request in owed):
            assert (row.request, row.index) not in seen, "a row is scheduled twice"
            seen.add((row.request, row.index))
            owed[row.request] += 1
        for handle, request in self._requests.items():
            assert owed[handle] <= request.remaining, "a row is computed once more"
            assert handle in self._clients[request.client]
        assert sum(map(len, self._clients.values())) == len(self._requests)

    # ------------------------------------------------------------------------------ requests

    def _open(self, event: Opened, now: float) -> List[Action]:
        assert event.handle not in self._requests, "handles are given out once"
        self._requests[event.handle] = _Request(event.client, event.total_rows)
        self._clients.setdefault(event.client, set()).add(event.handle)
        self._line.open(event.handle, event.client, event.total_rows, now)
        if event.deadline is not None:
            heapq.heappush(self._deadlines, (event.deadline, event.handle))
        return []

    def _enqueue(self, event: RowsReady, now: float) -> List[Action]:
        if event.handle in self._requests:  # it may have failed while these were tokenized
            self._line.add(event.handle, event.rows, now)
        return []

    def _reject(self, event: Rejected, now: float) -> List[Action]:
        return self._fail(event.handle, event.kind, event.message)

    def _end(self, handle: int) -> None:
        request = self._requests.pop(handle)
        handles = self._clients[request.client]
        handles.remove(handle)
        if not handles:
            del self._clients[request.client]
        self._line.close(handle)
        if self._again:
            self._again = deque(entry for entry in self._again if entry[1][0].request != handle)

    def _fail(self, handle: int, kind: str, message: str) -> List[Action]:
        if handle not in self._requests:
            return []
        self._end(handle)
        return [Failed(handle, kind, message)]

    def _forget(self, event: ClientGone, now: float) -> List[Action]:
        handles = sorted(self._clients.get(event.client, ()))
        for handle in handles:
            self._end(handle)
        return [Forgotten(handle) for handle in handles]

    def _cancel(self, event: Cancelled, now: float) -> List[Action]:
        if event.handle not in self._requests:
            return []
        self._end(event.handle)
        return [Forgotten(event.handle)]

    def _expire(self, now: float) -> List[Action]:
        message = "the request's time ran out before it was computed"
        actions: List[Action] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, handle = heapq.heappop(self._deadlines)
            actions += self._fail(handle, ErrorKind.DEADLINE, message)
        return actions

    # ------------------------------------------------------------------------------- workers

    def _take_back(self, worker_id: bytes, batch_id: int, now: float) -> Optional[Batch]:
        worker = self._workers.get(worker_id)
        if worker is None or batch_id not in worker.running:
            return None  # the worker was given up before its answer came
        return worker.finish(batch_id, self._limits, now)

    def _join(self, event: WorkerJoined, now: float) -> List[Action]:
        # One that joins again has lost what it held.
        actions = self._retry_lost(WorkerLost(event.worker, "the worker started again"), now)
        self._workers[event.worker] = Holder(event.credits, event.streams, self._split_tokens)
        return actions

    def _complete(self, event: WorkDone, now: float) -> List[Action]:
        batch = self._take_back(event.worker, event.batch_id, now)
        if batch is None:
            return []
        completed: List[Action] = []
        for handle, count in Counter([row[0] for row in batch.rows]).items():
            request = self._requests.get(handle)
            if request is not None:
                request.remaining -= count
                if request.remaining == 0:
                    self._end(handle)
                    completed.append(Completed(handle))
        return completed

    def _retry_failed(self, event: WorkFailed, now: float) -> List[Action]:
        batch = self._take_back(event.worker, event.batch_id, now)
        return [] if batch is None else self._retry(batch, event.message)

    def _retry_lost(self, event: WorkerLost, now: float) -> List[Action]:
        worker = self._workers.pop(event.worker, None)
        actions: List[Action] = []
        if worker is None:
            return actions
        for batch_id, batch in worker.running.items():
            if batch_id in worker.began:
                actions += self._retry(batch, event.reason)
            else:
                self._run_again(self._open_rows(batch), batch.attempt)
        return actions

    def _retry(self, batch: Batch, reason: str) -> List[Action]:
        groups = self._open_rows(batch)
        if batch.attempt < MAX_ATTEMPTS:
            self._run_again(groups, batch.attempt + 1)
            return []
        message = "computing it failed %d times, at last: %s" % (batch.attempt, reason)
        return [a for h in groups for a in self._fail(h, ErrorKind.WORKER_FAILED, message)]

    def _open_rows(self, batch: Batch) -> Dict[int, List[Row]]:
        """The rows of a batch that are still wanted, by request."""
        groups: Dict[int, List[Row]] = {}
        for row in batch.rows:
            if row.request in self._requests:
                groups.setdefault(row.request, []).append(row)
        return groups

    def _run_again(self, groups: Dict[int, List[Row]], attempt: int) -> None:
        self._again.extend((attempt, rows) for rows in groups.values())

    def _dispatch(self, now: float) -> List[Action]:
        actions: List[Action] = []
        while True:
            worker_id, opening = self._opening(now)
            batch = self._next(now, opening.shares) if worker_id is not None else None
            if batch is None or worker_id is None:
                return actions
            self._workers[worker_id].begin(batch, opening.alone, now)
            actions.append(Dispatch(worker_id, batch, opening.alone))

    def _opening(self, now: float) -> Tuple[Optional[bytes], Opening]:
        """The place for the next batch: of workers with one, that of the one with most credits."""
        best, found, most = None, Opening(NEVER), 0
        for worker_id, worker in self._workers.items():
            if worker.credits > most:
                opening = worker.opening(self._limits, self._ahead, self.waiting_tokens)
                if opening.at <= now:
                    best, found, most = worker_id, opening, worker.credits
        return best, found

    def _next(self, now: float, shares: int) -> Optional[Batch]:
        """The next batch: what waits, or one of so many shares of it."""
        if self._again:
            attempt, rows = self._again.popleft()
        else:
            # Padding counts, too: all that waits isn't limited by its own tokens.
            most = None if shares == 1 else -(-self.waiting_tokens // shares)
            attempt, rows = 1, self._line.take(now, most)
        if not rows:
            return None
        self._next_batch += 1
        return Batch(self._next_batch, tuple(rows), attempt)
