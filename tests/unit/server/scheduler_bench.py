"""A scheduler under a fake clock, with what stands for the ventilator and its workers."""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from bert_serving.client.protocol import ErrorKind
from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.crew import GRACE
from bert_serving.server.retries import MAX_ALONE, PARTS
from bert_serving.server.scheduler import MOST_FAILED, Scheduler
from bert_serving.server.work import (
    Action,
    Batch,
    Completed,
    Dispatch,
    Event,
    Failed,
    LimitsChanged,
    Opened,
    RowFailed,
    RowsReady,
    Tick,
    Unfit,
    WorkDone,
    WorkerJoined,
    WorkerLost,
    WorkFailed,
)

__all__ = ["Bench", "handles_in"]

Place = Tuple[int, int]


def make_row(handle: int, index: int, length: int = 8) -> Row:
    return Row(handle, index, np.full((3, length), index, np.int32))


class Request:
    """What the bench knows of a request that it opened."""

    def __init__(self, client: bytes, total: int, deadline: Optional[float]) -> None:
        self.client = client
        self.total = total
        self.deadline = deadline
        self.tokenized = 0
        self.ended: Optional[Action] = None
        self.computed: Set[int] = set()
        self.given_up: Set[int] = set()
        self.poisonous: Set[int] = set()  # rows that fail whenever they are computed
        self.partial = False
        self.failures: Dict[int, int] = {}
        self.failures_alone: Dict[int, int] = {}

    @property
    def most_failures(self) -> int:
        """In company, the request by itself, in parts of parts, and the row by itself."""
        parts, rows = 0, self.total
        while rows > 1:
            parts, rows = parts + 1, -(-rows // PARTS)
        return 1 + 1 + parts + MAX_ALONE - 1


class Bench:
    """A scheduler with its surroundings."""

    def __init__(
        self,
        rows: int = 4,
        tokens: int = 10_000,
        small_rows: int = 2,
        aging: float = 0.5,
        padding_weight: float = 1.0,
        ahead: float = 1.0,
        split_tokens: int = 0,
        worker_timeout: float = 0.0,
    ) -> None:
        self.limits = BatchLimits(rows, tokens, padding_weight)
        self.split_tokens = split_tokens
        self.scheduler = Scheduler(
            self.limits,
            small_rows,
            aging,
            ahead=ahead,
            split_tokens=split_tokens,
            worker_timeout=worker_timeout,
        )
        self.now = 100.0
        self.requests: Dict[int, Request] = {}
        self.credits: Dict[bytes, int] = {}
        self.streams: Dict[bytes, int] = {}
        self.held: Dict[bytes, Dict[int, Batch]] = {}
        self.alone: Dict[int, bool] = {}  # of each batch
        self.unfit: Set[bytes] = set()
        self.without_workers_since: Optional[float] = None
        #: Whether a row that isn't poisonous never fails by itself more often than once.
        self.only_poison_fails = False
        self.batches: List[Tuple[bytes, Batch]] = []

    # ---------------------------------------------------------------------------- stimuli

    def open(
        self,
        total: int,
        lengths: Optional[List[int]] = None,
        client: bytes = b"client",
        timeout: Optional[float] = None,
        tokenized: bool = True,
        partial: bool = False,
        user: str = "",
    ) -> int:
        handle = len(self.requests) + 1
        deadline = None if timeout is None else self.now + timeout
        self.requests[handle] = Request(client, total, deadline)
        self.requests[handle].partial = partial
        self.send(Opened(handle, client, total, deadline, partial, user))
        if tokenized:
            self.tokenize(handle, lengths or [8] * total)
        return handle

    def tokenize(self, handle: int, lengths: List[int]) -> None:
        request = self.requests[handle]
        start = request.tokenized
        request.tokenized += len(lengths)
        assert request.tokenized <= request.total
        rows = [make_row(handle, start + i, length) for i, length in enumerate(lengths)]
        self.send(RowsReady(handle, tuple(rows)))

    def join(self, worker: bytes = b"w0", credits: int = 1, streams: int = 1) -> None:
        self.credits[worker] = credits
        self.streams[worker] = streams
        self.held[worker] = {}
        self.without_workers_since = None
        self.send(WorkerJoined(worker, credits, streams))

    def done(self, worker: bytes = b"w0", stream: int = 0) -> Batch:
        """The worker finishes the batch that it got first, or another that it computes."""
        batch = self._release(worker, stream)
        self.unfit.discard(worker)
        for row in batch.rows:
            self.requests[row.request].computed.add(row.index)
        self.send(WorkDone(worker, batch.batch_id))
        return batch

    def fail(self, worker: bytes = b"w0", stream: int = 0, message: str = "boom") -> Batch:
        batch = self._release(worker, stream)
        self._count_failure(batch)
        self.send(WorkFailed(worker, batch.batch_id, message))
        return batch

    def run_out_of_memory(self, worker: bytes = b"w0", stream: int = 0) -> Batch:
        batch = self._release(worker, stream)
        self.unfit.discard(worker)
        if len(batch.rows) == 1:
            self._count_failure(batch)
        self.send(WorkFailed(worker, batch.batch_id, "out of memory", out_of_memory=True))
        return batch

    def answer(self, worker: bytes = b"w0", kills: bool = False) -> None:
        """The worker ends its first batch, as well as the rows allow."""
        batch = next(iter(self.held[worker].values()))
        if not self.is_poisonous(batch):
            self.done(worker)
        elif kills:
            self.lose(worker, "it was killed")
            self.join(worker + b"'")
        else:
            self.fail(worker)

    def is_poisonous(self, batch: Batch) -> bool:
        return any(row.index in self.requests[row.request].poisonous for row in batch.rows)

    def lose_at_start(self, worker: bytes, reason: str) -> None:
        """It never joined."""
        if not self.held and self.without_workers_since is None:
            self.without_workers_since = self.now
        self.send(WorkerLost(worker, reason))

    def lose(self, worker: bytes = b"w0", reason: str = "gone") -> List[Batch]:
        computing = self.computing(worker)
        batches = list(self.held.pop(worker).values())
        del self.credits[worker]
        self.unfit.discard(worker)
        if not self.held:
            self.without_workers_since = self.now
        # It begins them in order: the others were never begun.
        for batch in batches[:computing]:
            self._count_failure(batch)
        self.send(WorkerLost(worker, reason))
        return batches

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.send(Tick())

    def send(self, event: Event) -> List[Action]:
        actions = self.scheduler.handle(event, self.now)
        for action in actions:
            self._note(action)
        self.check()
        return actions

    def finish(self, kills: bool = False) -> None:
        """All rows get tokenized, all workers answer; poison kills them or only fails."""
        for handle, request in list(self.requests.items()):
            missing = request.total - request.tokenized
            if missing:
                self.tokenize(handle, [8] * missing)
        self.join(b"last", 1)
        while any(self.held.values()):
            for worker in [worker for worker, batches in self.held.items() if batches]:
                self.answer(worker, kills)

    def end_of(self, handle: int) -> Optional[Action]:
        return self.requests[handle].ended

    # ----------------------------------------------------------------------------- checks

    def check(self) -> None:
        self.scheduler.validate()
        for worker, batches in self.held.items():
            assert len(batches) <= self.credits[worker]
        self._check_workers()
        assert self.scheduler.open_requests == sum(
            request.ended is None for request in self.requests.values()
        )
        for request in self.requests.values():
            if request.ended is None and request.deadline is not None:
                assert self.now < request.deadline

    def _check_workers(self) -> None:
        able = [w for w in self.held if len(self.held[w]) < self.credits[w] and w not in self.unfit]
        free = [w for w in able if not self.has_suspect(w)]
        suspects = self.scheduler._retries.suspects
        assert not suspects or all(self.held[w] for w in able), "a suspect waits for nothing"
        if not suspects and self.scheduler.waiting_rows:
            places = [w for w in free if self.has_place(w)]
            assert not any(self.has_idle_stream(w) for w in places), "a stream waits, as rows do"
            wake_at = self.scheduler.wake_at()
            assert (wake_at is not None) == bool(places)
            assert wake_at is None or wake_at > self.now, "it is time for a batch"

    def has_suspect(self, worker: bytes) -> bool:
        return any(batch.suspect for batch in self.held[worker].values())

    def computing(self, worker: bytes) -> int:
        """How many of the batches it holds, from the first, it has begun."""
        alone = [self.alone[batch_id] for batch_id in self.held[worker]]
        if not alone or alone[0]:
            return len(alone[:1])
        return min(self.streams[worker], (alone + [True]).index(True))

    def has_place(self, worker: bytes) -> bool:
        """Whether it can be told when the next batch would be begun."""
        alone, begun = list(map(self.alone.get, self.held[worker])), self.computing(worker)
        is_little = self.scheduler.waiting_tokens < self.split_tokens
        return not (any(alone[begun:]) or (alone[:1] == [True] and alone[1:] and is_little))

    def has_idle_stream(self, worker: bytes) -> bool:
        """Whether the next batch ought to be begun at once."""
        held, begun = self.held[worker], self.computing(worker)
        if not held:
            return True
        is_much = self.scheduler.waiting_tokens >= self.split_tokens
        is_free = begun == len(held) < self.streams[worker]
        return is_free and is_much and not self.alone[next(iter(held))]

    def _note(self, action: Action) -> None:
        if isinstance(action, Dispatch):
            self.alone[action.batch.batch_id] = action.alone
            self._note_batch(action.worker, action.batch)
            return
        if isinstance(action, Unfit):
            assert action.worker in self.held
            self.unfit.add(action.worker)
            return
        if isinstance(action, LimitsChanged):
            assert 0 < action.limits.tokens <= self.limits.tokens
            assert action.limits == self.scheduler.limits
            return
        request = self.requests[action.handle]
        assert request.ended is None, "a request ended twice"
        if isinstance(action, RowFailed):
            assert request.partial
            self._check_given_up(request, action.index, action.message)
            request.given_up.add(action.index)
            return
        request.ended = action
        if isinstance(action, Completed):
            assert request.computed | request.given_up == set(range(request.total))
            assert not request.computed & request.given_up
            assert request.computed, "a request of which nothing is left fails"
        elif isinstance(action, Failed) and action.kind == ErrorKind.WORKER_FAILED:
            if "no worker is running" in action.message:
                assert not self.held
                assert self.without_workers_since is not None
                assert self.now >= self.without_workers_since + GRACE
                return
            index = int(action.message.split()[1])
            self._check_given_up(request, index, action.message)
            if request.partial:
                failed = len(request.given_up) + 1
                assert failed == min(request.total, MOST_FAILED + 1)

    def _check_given_up(self, request: Request, index: int, message: str) -> None:
        assert message.startswith("text %d can't be computed" % index)
        assert request.failures_alone[index] == MAX_ALONE
        assert index not in request.computed | request.given_up
        if self.only_poison_fails:
            assert index in request.poisonous

    def _note_batch(self, worker: bytes, batch: Batch) -> None:
        places = [(row.request, row.index) for row in batch.rows]
        assert places == sorted(set(places))
        assert len(batch.rows) <= self.limits.rows
        lengths = [row.length for row in batch.rows]
        weighted = self.limits.weighted(len(lengths), sum(lengths), max(lengths))
        assert len(lengths) == 1 or weighted <= self.limits.tokens + 1e-6
        elsewhere: Set[Place] = set()
        for batches in self.held.values():
            for other in batches.values():
                assert other.batch_id != batch.batch_id
                elsewhere |= {(row.request, row.index) for row in other.rows}
        assert not elsewhere & set(places), "a row is computed twice at a time"
        for row in batch.rows:
            request = self.requests[row.request]
            assert request.ended is None, "rows of an ended request are computed"
            assert row.index not in request.computed, "a row is computed again for nothing"
            assert row.index not in request.given_up
            assert row.features[0, 0] == row.index
        if batch.attempt > 1:
            assert len({row.request for row in batch.rows}) == 1
        assert not self.has_suspect(worker), "a batch beside a suspect"
        assert not (batch.suspect and self.held[worker]), "a suspect beside a batch"
        self.held[worker][batch.batch_id] = batch
        self.batches.append((worker, batch))

    def _release(self, worker: bytes, stream: int) -> Batch:
        batches = self.held[worker]
        return batches.pop(list(batches)[stream])

    def _count_failure(self, batch: Batch) -> None:
        for row in batch.rows:
            request = self.requests[row.request]
            failures, alone = request.failures, request.failures_alone
            failures[row.index] = failures.get(row.index, 0) + 1
            if len(batch.rows) == 1:
                alone[row.index] = alone.get(row.index, 0) + 1
            assert failures[row.index] <= request.most_failures


def handles_in(batch: Batch) -> List[int]:
    return sorted({row.request for row in batch.rows})
