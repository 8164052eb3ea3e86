"""Which rows are computed when, and by which worker.

Pure: no socket and no clock; ``handle(event, now)`` returns what is to be done. Rows of
different requests share a batch. Workers ask for work by credits, one for each batch that they
are willing to hold; a worker with credit never waits while rows do.

Order of service: requests stand in line by the time since when they wait to be served. A request
of more than ``small_rows`` rows steps back by ``aging`` seconds each time a batch was taken from
it, so that small requests pass it, yet none passes it for longer than that.

A batch whose worker is lost or fails runs again, each of its requests in a batch of its own so
that one request's rows can't spoil another's; a request whose batches failed ``MAX_ATTEMPTS``
times gets an error.

Every request that was opened ends in exactly one of ``Completed``, ``Failed`` and, if its client
is gone, ``Forgotten``.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Deque, Dict, List, Optional, Sequence, Set, Tuple

from bert_serving.client.protocol import ErrorKind
from bert_serving.server.batching import BatchLimits, Row, select_rows
from bert_serving.server.work import (
    Action,
    Batch,
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

__all__ = ["MAX_ATTEMPTS", "Scheduler"]

MAX_ATTEMPTS = 2
#: How many rows in line are looked at for rows of like length, in batches.
WINDOW_BATCHES = 2


@dataclass
class _Request:
    handle: int
    client: bytes
    remaining: int  # rows not computed yet
    waits_since: float
    small: bool
    queue: Deque[Row] = field(default_factory=deque)
    in_line: bool = False


@dataclass
class _Worker:
    credits: int
    running: Dict[int, Batch] = field(default_factory=dict)


class Scheduler:
    """See the module's docstring."""

    def __init__(self, limits: BatchLimits, small_rows: int, aging: float = 0.5) -> None:
        self._limits = limits
        self._small_rows = small_rows
        self._aging = aging
        self._requests: Dict[int, _Request] = {}
        self._workers: Dict[bytes, _Worker] = {}
        self._line: List[Tuple[float, int]] = []  # heap of (waits since, handle)
        self._deadlines: List[Tuple[float, int]] = []  # heap; may name ended requests
        self._again: Deque[Tuple[int, List[Row]]] = deque()  # (attempt, rows of one request)
        self._next_batch = 0

    @property
    def open_requests(self) -> int:
        """How many requests are not computed completely."""
        return len(self._requests)

    @property
    def waiting_rows(self) -> int:
        """How many tokenized rows wait for a worker."""
        queued = sum(len(request.queue) for request in self._requests.values())
        return queued + sum(len(rows) for _, rows in self._again)

    def handle(self, event: Event, now: float) -> List[Action]:
        """What follows from ``event``, at time ``now`` in seconds on any steady clock."""
        ended: List[Action] = []
        if isinstance(event, Opened):
            self._open(event, now)
        elif isinstance(event, RowsReady):
            self._enqueue(event)
        elif isinstance(event, Rejected):
            ended += self._fail(event.handle, event.kind, event.message)
        elif isinstance(event, WorkerJoined):
            # One that joins again has lost what it held.
            ended += self._retry_lost(WorkerLost(event.worker, "the worker started again"))
            self._workers[event.worker] = _Worker(event.credits)
        elif isinstance(event, WorkDone):
            ended += self._complete(event)
        elif isinstance(event, WorkFailed):
            ended += self._retry_failed(event)
        elif isinstance(event, WorkerLost):
            ended += self._retry_lost(event)
        elif isinstance(event, ClientGone):
            ended += self._forget(event.client)
        ended += self._expire(now)
        return ended + self._dispatch(now)

    def fail_all(self, kind: str, message: str) -> List[Action]:
        """End every open request with an error, for example when the server stops."""
        return [a for handle in list(self._requests) for a in self._fail(handle, kind, message)]

    def validate(self) -> None:
        """Assert what always holds; for tests, after every step."""
        owed: Dict[int, int] = dict.fromkeys(self._requests, 0)
        groups: List[Sequence[Row]] = [request.queue for request in self._requests.values()]
        groups += [rows for _, rows in self._again]
        for worker in self._workers.values():
            assert worker.credits >= 0
            groups += [batch.rows for batch in worker.running.values()]
        seen: Set[Tuple[int, int]] = set()
        for row in (row for rows in groups for row in rows if row.request in owed):
            assert (row.request, row.index) not in seen, "a row is scheduled twice"
            seen.add((row.request, row.index))
            owed[row.request] += 1
        for handle, request in self._requests.items():
            assert owed[handle] <= request.remaining, "a row is computed once more"
            assert bool(request.queue) <= request.in_line, "a waiting request is not in line"

    # ------------------------------------------------------------------------------ requests

    def _open(self, event: Opened, now: float) -> None:
        assert event.handle not in self._requests, "handles are given out once"
        small = event.total_rows <= self._small_rows
        self._requests[event.handle] = _Request(
            event.handle, event.client, event.total_rows, now, small
        )
        if event.deadline is not None:
            heapq.heappush(self._deadlines, (event.deadline, event.handle))

    def _enqueue(self, event: RowsReady) -> None:
        request = self._requests.get(event.handle)
        if request is not None:  # it may have failed while its later rows were tokenized
            request.queue.extend(event.rows)
            self._stand_in_line(request)

    def _stand_in_line(self, request: _Request) -> None:
        if request.queue and not request.in_line:
            heapq.heappush(self._line, (request.waits_since, request.handle))
            request.in_line = True

    def _fail(self, handle: int, kind: str, message: str) -> List[Action]:
        if self._requests.pop(handle, None) is None:
            return []
        self._again = deque(entry for entry in self._again if entry[1][0].request != handle)
        return [Failed(handle, kind, message)]

    def _forget(self, client: bytes) -> List[Action]:
        handles = [handle for handle, r in self._requests.items() if r.client == client]
        for handle in handles:
            self._fail(handle, "", "")
        return [Forgotten(handle) for handle in handles]

    def _expire(self, now: float) -> List[Action]:
        message = "the request's time ran out before it was computed"
        actions: List[Action] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, handle = heapq.heappop(self._deadlines)
            actions += self._fail(handle, ErrorKind.DEADLINE, message)
        return actions

    # ------------------------------------------------------------------------------- workers

    def _take_back(self, worker_id: bytes, batch_id: int) -> Optional[Batch]:
        worker = self._workers.get(worker_id)
        if worker is None or batch_id not in worker.running:
            return None  # the worker was given up before its answer came
        worker.credits += 1
        return worker.running.pop(batch_id)

    def _complete(self, event: WorkDone) -> List[Action]:
        batch = self._take_back(event.worker, event.batch_id)
        completed: List[Action] = []
        for row in batch.rows if batch else ():
            request = self._requests.get(row.request)
            if request is not None:
                request.remaining -= 1
                if request.remaining == 0:
                    del self._requests[row.request]
                    completed.append(Completed(row.request))
        return completed

    def _retry_failed(self, event: WorkFailed) -> List[Action]:
        batch = self._take_back(event.worker, event.batch_id)
        return [] if batch is None else self._retry(batch, event.message)

    def _retry_lost(self, event: WorkerLost) -> List[Action]:
        worker = self._workers.pop(event.worker, None)
        batches = list(worker.running.values()) if worker else []
        actions = self._retry(batches[0], event.reason) if batches else []
        for batch in batches[1:]:
            # Computed in the order in which they were sent: these were never begun.
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
        while self._workers:
            worker_id = max(self._workers, key=lambda w: self._workers[w].credits)
            worker = self._workers[worker_id]
            batch = self._next(now) if worker.credits > 0 else None
            if batch is None:
                break
            worker.credits -= 1
            worker.running[batch.batch_id] = batch
            actions.append(Dispatch(worker_id, batch))
        return actions

    # ------------------------------------------------------------------------------- batches

    def _next(self, now: float) -> Optional[Batch]:
        if self._again:
            attempt, rows = self._again.popleft()
        else:
            attempt, rows = 1, self._select(now)
        if not rows:
            return None
        self._next_batch += 1
        rows.sort(key=lambda row: (row.request, row.index))
        return Batch(self._next_batch, tuple(rows), attempt)

    def _select(self, now: float) -> List[Row]:
        """Take the rows of the next batch out of the line."""
        served, window = self._look_ahead()
        if not window:
            return []
        chosen = set(select_rows(window, self._limits))
        position = 0
        for request, looked_at in served:
            taken = 0
            for _ in range(looked_at):
                row = request.queue.popleft()
                if position in chosen:
                    taken += 1
                else:
                    request.queue.append(row)  # behind, to be rotated to the front again
                position += 1
            request.queue.rotate(looked_at - taken)
            if taken and not request.small:
                request.waits_since = now + self._aging
            self._stand_in_line(request)
        return [window[i] for i in chosen]

    def _look_ahead(self) -> Tuple[List[Tuple[_Request, int]], List[Row]]:
        """The first rows in line, and how many of which request; those leave the line."""
        most = WINDOW_BATCHES * self._limits.rows
        served: List[Tuple[_Request, int]] = []
        window: List[Row] = []
        while self._line and len(window) < most:
            _, handle = heapq.heappop(self._line)
            request = self._requests.get(handle)
            if request is None:
                continue  # it ended while it stood in line
            request.in_line = False
            looked_at = min(len(request.queue), most - len(window))
            window.extend(islice(request.queue, looked_at))
            served.append((request, looked_at))
        return served, window
