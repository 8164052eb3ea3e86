"""Which rows are computed when, and by which worker.

Pure: no socket and no clock; ``handle(event, now)`` returns what is to be done. Rows of
different requests share a batch; :mod:`line` has the order of service.

Workers ask for work by credits, one for each batch that they are willing to hold; some compute
several at a time, in as many streams. :mod:`dispatching` puts batches together for them.

A batch whose worker is lost or fails runs again, divided until the row is found that can't be
computed, as :mod:`retries` says; that row's request gets an error or, if it takes ``partial``
results, goes on without it. Where memory was too small, batches get smaller (:mod:`budget`). If
there is no worker for too long, requests get errors; :mod:`crew` finds that, and those that hang.

Every request that was opened ends in exactly one of ``Completed``, ``Failed`` and, if its client
is gone or wants it no longer, ``Forgotten``.
"""

from __future__ import annotations

from collections import Counter
from typing import Callable, Dict, List, Optional, Set, Tuple

from bert_serving.client.protocol import ErrorKind
from bert_serving.server import work
from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.budget import Budget
from bert_serving.server.crew import Crew
from bert_serving.server.dispatching import Dispatching
from bert_serving.server.holding import AHEAD
from bert_serving.server.ledger import Ledger
from bert_serving.server.line import LEAD_BATCHES, Line
from bert_serving.server.retries import Retries
from bert_serving.server.work import (
    Action,
    Batch,
    Cancelled,
    ClientGone,
    Completed,
    Event,
    Failed,
    Forgotten,
    LimitsChanged,
    Opened,
    Rejected,
    RowFailed,
    RowsReady,
    WorkDone,
    WorkerJoined,
    WorkerLost,
    WorkFailed,
)

__all__ = ["AGING", "MOST_FAILED", "Scheduler"]

WORKER_FAILED = ErrorKind.WORKER_FAILED
TOO_LATE = "the request's time ran out before it was computed"
#: For how many seconds others may go before a request or a client.
AGING = 0.5
#: How many rows of a request may fail: with more, something else is wrong than the rows.
MOST_FAILED = 16


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
        worker_timeout: float = 0.0,
    ) -> None:
        """``line``: another order of service, for comparisons; ``ahead`` 1: at once.

        Workers' streams share what waits if each gets ``split_tokens`` tokens at least. A batch
        may take ``worker_timeout`` seconds at least; 0: as long as it likes.
        """
        self.limits = limits  # the present ones of a batch
        self._budget = Budget(limits)
        self._requests = Ledger()
        self._crew = Crew(ahead, split_tokens, worker_timeout)
        self._line = Line(limits, small_rows, aging, lead_batches) if line is None else line
        self._retries = Retries()
        self._dispatching = Dispatching(self._crew, self._line, self._retries)
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
            work.Tick: self._tick,
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
        return len(self._line) + len(self._retries.rows())

    def running(self) -> Dict[bytes, int]:
        """How many batches each worker holds."""
        return self._crew.running()

    def handle(self, event: Event, now: float) -> List[Action]:
        """What follows from ``event``, at time ``now`` in seconds on any steady clock."""
        actions = self._handlers[type(event)](event, now)
        for handle in self._requests.expired(now):
            actions += self._fail(handle, ErrorKind.DEADLINE, TOO_LATE)
        if len(self._line) or self._retries:
            actions += self._dispatching.batches(now)
        return actions

    def wake_at(self) -> Optional[float]:
        """When to call :meth:`handle` with a Tick unless something happens before; None: never."""
        return self._dispatching.wake_at()

    def fail_all(self, kind: str, message: str) -> List[Action]:
        """End every open request with an error, for example when the server stops."""
        return [a for handle in list(self._requests) for a in self._fail(handle, kind, message)]

    def validate(self) -> None:
        """Assert what always holds; for tests, after every step."""
        self._line.validate()
        owed: Dict[int, int] = dict.fromkeys(self._requests, 0)
        rows = self._line.rows() + self._retries.rows()
        for worker in self._crew.holders():
            assert worker.credits >= 0
            rows += [row for batch in worker.running.values() for row in batch.rows]
        seen: Set[Tuple[int, int]] = set()
        for row in (row for row in rows if row.request in owed):
            assert (row.request, row.index) not in seen, "a row is scheduled twice"
            seen.add((row.request, row.index))
            owed[row.request] += 1
        for handle in self._requests:
            assert owed[handle] <= self._requests[handle].remaining, "a row is computed once more"
        self._requests.validate()

    # ------------------------------------------------------------------------------ requests

    def _open(self, event: Opened, now: float) -> List[Action]:
        self._requests.open(event)
        owner = event.client
        if event.user:
            owner += b"\0" + event.user.encode("utf-8", "surrogatepass")
        self._line.open(event.handle, owner, event.total_rows, now)
        absence = self._crew.absence(now)
        return [] if absence is None else self._fail(event.handle, WORKER_FAILED, absence)

    def _enqueue(self, event: RowsReady, now: float) -> List[Action]:
        if event.handle in self._requests:  # it may have failed while these were tokenized
            self._line.add(event.handle, event.rows, now)
        return []

    def _reject(self, event: Rejected, now: float) -> List[Action]:
        return self._fail(event.handle, event.kind, event.message, event.retry_after)

    def _end(self, handle: int) -> None:
        self._requests.end(handle)
        self._line.close(handle)
        if self._retries:
            self._retries.drop(handle)

    def _fail(
        self, handle: int, kind: str, message: str, retry_after: Optional[float] = None
    ) -> List[Action]:
        if handle not in self._requests:
            return []
        self._end(handle)
        return [Failed(handle, kind, message, retry_after)]

    def _forget(self, event: ClientGone, now: float) -> List[Action]:
        handles = self._requests.of(event.client)
        for handle in handles:
            self._end(handle)
        return [Forgotten(handle) for handle in handles]

    def _cancel(self, event: Cancelled, now: float) -> List[Action]:
        if event.handle not in self._requests:
            return []
        self._end(event.handle)
        return [Forgotten(event.handle)]

    # ------------------------------------------------------------------------------- workers

    def _join(self, event: WorkerJoined, now: float) -> List[Action]:
        # One that joins again has lost what it held.
        actions = self._retry_lost(WorkerLost(event.worker, "the worker started again"), now)
        self._crew.join(event.worker, event.credits, event.streams)
        return actions

    def _complete(self, event: WorkDone, now: float) -> List[Action]:
        batch = self._crew.finish(event.worker, event.batch_id, self.limits, now)
        if batch is None:
            return []
        completed: List[Action] = []
        for handle, count in Counter([row[0] for row in batch.rows]).items():
            completed += self._count_off(handle, count)
        return completed

    def _count_off(self, handle: int, rows: int) -> List[Action]:
        """So many rows of a request, if it is open, are computed or given up."""
        request = self._requests.get(handle)
        if request is None:
            return []
        request.remaining -= rows
        if request.remaining:
            return []
        self._end(handle)
        return [Completed(handle)]

    def _tick(self, event: work.Tick, now: float) -> List[Action]:
        # Only now: what the workers have told in the meantime was heard before.
        actions: List[Action] = list(self._crew.unfit(self.limits, now))
        absence = self._crew.absence(now)
        if absence is not None:
            actions += self.fail_all(WORKER_FAILED, absence)
        if self._budget.grow(now):
            actions += self._change_limits()
        return actions

    # ---------------------------------------------------------------------------- what fails

    def _retry_failed(self, event: WorkFailed, now: float) -> List[Action]:
        has_failed = not event.out_of_memory  # a batch of another size may succeed
        batch = self._crew.finish(event.worker, event.batch_id, self.limits, now, has_failed)
        if batch is None:
            return []
        if has_failed:
            return self._retry(batch, event.message)
        actions = self._change_limits() if self._budget.shrink(batch, now) else []
        if len(batch.rows) == 1:
            return actions + self._retry(batch, event.message)
        self._retries.add_halves(batch, self._open_rows(batch))
        return actions

    def _retry_lost(self, event: WorkerLost, now: float) -> List[Action]:
        worker = self._crew.lose(event.worker, event.reason, now)
        actions: List[Action] = []
        if worker is None:
            return actions
        for batch_id, batch in reversed(list(worker.running.items())):  # the first goes first again
            if batch_id in worker.began and batch_id != event.unsent:
                actions += self._retry(batch, event.reason)
            else:
                self._retries.add_interrupted(batch, self._open_rows(batch))
        return actions

    def _retry(self, batch: Batch, reason: str) -> List[Action]:
        actions: List[Action] = []
        for row in self._retries.add_failed(batch, self._open_rows(batch)):
            message = "text %d can't be computed: it failed %d times, at last: %s"
            actions += self._give_up(row, message % (row.index, batch.attempt, reason))
        return actions

    def _give_up(self, row: Row, message: str) -> List[Action]:
        request = self._requests[row.request]
        request.failed += 1
        if not request.partial or request.failed == min(request.total, MOST_FAILED + 1):
            return self._fail(row.request, WORKER_FAILED, message)
        action = RowFailed(row.request, row.index, message)
        return [action, *self._count_off(row.request, 1)]

    def _open_rows(self, batch: Batch) -> List[Row]:
        """The rows of a batch that are still wanted."""
        return [row for row in batch.rows if row.request in self._requests]

    def _change_limits(self) -> List[Action]:
        self.limits = self._line.limits = self._budget.limits
        return [LimitsChanged(self.limits)]
