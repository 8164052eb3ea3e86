"""Scheduler and assembly together, with all that is between them: workers, and messages that are
under way while anything else happens. Whatever happens in whatever order, each request has one
outcome, every vector is its row's, and nothing is kept of what has ended.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, List, Optional, Set

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bert_serving.client.protocol import ErrorKind
from bert_serving.server.assembly import Assembly, Complete
from bert_serving.server.batch_messages import Broken, Part
from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.crew import GRACE
from bert_serving.server.reply_plan import ReplyPlan
from bert_serving.server.request_messages import (
    Announced,
    Dropped,
    Registered,
    RequestFailed,
    RowLost,
)
from bert_serving.server.retries import MAX_ALONE
from bert_serving.server.scheduler import Scheduler
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
    RowFailed,
    RowsReady,
    Tick,
    Unfit,
    WorkDone,
    WorkerJoined,
    WorkerLost,
    WorkFailed,
)

CLIENTS = st.sampled_from([b"a", b"b"])


class Asked:
    """A request, and what its client got."""

    def __init__(self, client: bytes, total: int, plan: Optional[ReplyPlan], poison: Set[int]):
        self.client = client
        self.total = total
        self.plan = plan
        self.poison = poison
        self.lost: Dict[int, int] = {}  # how many workers, by row, were lost that had it
        self.tokenized = 0
        self.unwanted = False  # its client cancelled it or left
        self.ended_as: Optional[Action] = None  # for the scheduler
        self.rows: List[int] = []
        self.failed: Set[int] = set()
        self.outcomes = 0  # results, last parts or errors


class Worker:
    """What it was sent and hasn't computed, and what it has sent to the sink that isn't there."""

    def __init__(self) -> None:
        self.inbox: Deque[Batch] = deque()
        self.got: List[Batch] = []
        self.to_sink: Deque[Any] = deque()


class Pipeline:
    """Everything is first in, first out, and takes any time."""

    def __init__(self, rows: int) -> None:
        self.scheduler = Scheduler(BatchLimits(rows, 10_000, 1.0), 2, 0.5)
        self.assembly = Assembly()
        self.now = 100.0
        self.requests: Dict[int, Asked] = {}
        self.workers: Dict[bytes, Worker] = {}
        self.of_the_dead: List[Worker] = []  # with messages that reach the sink all the same
        self.to_sink: Deque[Any] = deque()
        self.to_ventilator: Deque[Event] = deque()

    def tell(self, event: Event) -> None:
        for action in self.scheduler.handle(event, self.now):
            if isinstance(action, Dispatch):
                self.workers[action.worker].inbox.append(action.batch)
                self.workers[action.worker].got.append(action.batch)
            elif isinstance(action, RowFailed):
                self.to_sink.append(RowLost(action.handle, action.index, action.message))
            elif not isinstance(action, Unfit):
                assert isinstance(action, (Completed, Failed, Forgotten))
                self._end(action)

    def _end(self, action: Any) -> None:
        asked = self.requests[action.handle]
        assert asked.ended_as is None, "it ends once"
        asked.ended_as = action
        if isinstance(action, Failed):
            why = (action.kind, action.message)
            failed = RequestFailed(action.handle, asked.client, action.handle, *why)
            self.to_sink.append(failed)
        elif isinstance(action, Forgotten):
            self.to_sink.append(Dropped(action.handle))

    def tokenize(self, handle: int, count: int) -> None:
        asked = self.requests[handle]
        first = asked.tokenized
        asked.tokenized = min(asked.total, first + count)
        rows = [
            Row(handle, index, np.full((3, 1 + index), index, np.int32))
            for index in range(first, asked.tokenized)
        ]
        if asked.tokenized == asked.total and asked.ended_as is None:
            message = Registered(handle, asked.client, handle, asked.total, 0, plan=asked.plan)
            self.to_sink.append(message)
        self.tell(RowsReady(handle, tuple(rows)))

    def compute(self, name: bytes) -> None:
        worker = self.workers[name]
        batch = worker.inbox.popleft()
        places = [(row.request, row.index) for row in batch.rows]
        if any(index in self.requests[handle].poison for handle, index in places):
            worker.to_sink.append(Broken(name.decode("ascii"), batch.batch_id, "poison"))
            return
        rows = len(places)
        handles = np.array([handle for handle, _ in places], np.int64)
        indices = np.array([index for _, index in places], np.int32)
        vectors = np.array(places, np.float32)
        ends = (batch.batch_id, name.decode("ascii"))
        part = Part(handles, indices, np.ones(rows, np.int32), vectors, False, self.now, *ends)
        worker.to_sink.append(part)

    def deliver(self, messages: Deque[Any]) -> None:
        """The sink reads one."""
        message = messages.popleft()
        if isinstance(message, Broken):
            worker = message.worker.encode("ascii")
            failed = WorkFailed(worker, message.batch_id, message.message, message.out_of_memory)
            self.to_ventilator.append(failed)
            return
        if isinstance(message, Part):
            done = WorkDone(message.worker.encode("ascii"), message.ends)
            self.to_ventilator.append(done)
        for outcome in self.assembly.handle(message, self.now):
            self._take(outcome)

    def _take(self, outcome: Any) -> None:
        asked = self.requests[outcome.request_id]
        assert outcome.client == asked.client
        assert asked.outcomes == 0, "it was answered already"
        if not isinstance(outcome, Complete):
            asked.outcomes += 1
            return
        part = outcome.part
        rows = list(range(asked.total)) if part is None else part.rows
        failed = set(outcome.details.failed) if outcome.details else set()
        for row, vector in zip(rows, outcome.array.tolist()):
            assert vector == ([0, 0] if row in failed else [outcome.request_id, row])
        assert not set(rows) & set(asked.rows), "a row comes once"
        # A worker's loss counts against what it had, for that may have been the reason.
        assert all(row in asked.poison or asked.lost.get(row, 0) >= MAX_ALONE for row in failed)
        asked.rows += rows
        if part is None or part.is_last:
            asked.outcomes += 1
            assert sorted(asked.rows) == list(range(asked.total))

    def lose(self, name: bytes, arrives: int) -> None:
        """It is gone; the first so many of its messages were on their way."""
        worker = self.workers.pop(name)
        while len(worker.to_sink) > arrives:
            worker.to_sink.pop()
        self.of_the_dead.append(worker)
        for row in (row for batch in worker.got for row in batch.rows):
            lost = self.requests[row.request].lost
            lost[row.index] = lost.get(row.index, 0) + 1
        self.tell(WorkerLost(name, "killed"))

    def channels(self) -> List[Deque[Any]]:
        """From where the sink can read something."""
        workers = [*self.workers.values(), *self.of_the_dead]
        return [one for one in (self.to_sink, *(w.to_sink for w in workers)) if one]

    def finish(self) -> None:
        """Nothing goes wrong any more."""
        for handle, asked in self.requests.items():
            if asked.tokenized < asked.total:
                self.tokenize(handle, asked.total)
        self.workers.setdefault(b"last", Worker())
        self.tell(WorkerJoined(b"last", 2))
        steps = 0
        while self.scheduler.open_requests or self.channels() or self.to_ventilator:
            steps += 1
            assert steps < 10_000, "it doesn't come to an end"
            for name, worker in self.workers.items():
                if worker.inbox:
                    self.compute(name)
            for channel in self.channels():
                self.deliver(channel)
            while self.to_ventilator:
                self.tell(self.to_ventilator.popleft())
            self.now += 0.01
            self.tell(Tick())


class Interleavings(RuleBasedStateMachine):
    """Any order of events."""

    @initialize(rows=st.integers(1, 5))
    def start(self, rows: int) -> None:
        self.pipeline = Pipeline(rows)
        self.joined = 0
        self.join(2, 1)

    @rule(
        total=st.integers(1, 8),
        client=CLIENTS,
        kind=st.sampled_from(["protocol 1", "protocol 2", "stream", "partial"]),
        timeout=st.sampled_from([None, None, 0.3, 1.0]),
        poison=st.one_of(st.just(set()), st.sets(st.integers(0, 7), max_size=3)),
        tokenized=st.sampled_from([0, 8, 8]),
    )
    def ask(
        self,
        total: int,
        client: bytes,
        kind: str,
        timeout: Optional[float],
        poison: Set[int],
        tokenized: int,
    ) -> None:
        pipeline = self.pipeline
        handle = len(pipeline.requests) + 1
        plan = ReplyPlan(kind == "stream", False, 1, pipeline.now, pipeline.now)
        asked = Asked(client, total, None if kind == "protocol 1" else plan, poison)
        pipeline.requests[handle] = asked
        deadline = None if timeout is None else pipeline.now + timeout
        pipeline.tell(Opened(handle, client, total, deadline, kind == "partial"))
        if tokenized:
            pipeline.tokenize(handle, tokenized)
        elif kind == "protocol 1":
            pipeline.to_sink.append(Announced(handle, client, handle))

    @rule(data=st.data(), count=st.integers(1, 8))
    def tokenize(self, data: Any, count: int) -> None:
        requests = self.pipeline.requests
        waiting = [handle for handle, one in requests.items() if one.tokenized < one.total]
        if waiting:
            self.pipeline.tokenize(data.draw(st.sampled_from(waiting)), count)

    @rule(credits=st.integers(1, 3), streams=st.integers(1, 2))
    def join(self, credits: int, streams: int) -> None:
        self.joined += 1
        name = b"worker %d" % self.joined
        self.pipeline.workers[name] = Worker()
        self.pipeline.tell(WorkerJoined(name, credits, streams))

    @rule()
    def compute(self) -> None:
        for name, worker in self.pipeline.workers.items():
            if worker.inbox:
                self.pipeline.compute(name)

    @rule(data=st.data(), messages=st.integers(1, 4))
    def read_at_the_sink(self, data: Any, messages: int) -> None:
        for _ in range(messages):
            channels = self.pipeline.channels()
            if channels:
                self.pipeline.deliver(channels[data.draw(st.integers(0, len(channels) - 1))])

    @precondition(lambda self: self.pipeline.to_ventilator)
    @rule()
    def read_at_the_ventilator(self) -> None:
        self.pipeline.tell(self.pipeline.to_ventilator.popleft())

    @precondition(lambda self: self.pipeline.workers)
    @rule(data=st.data(), arrives=st.integers(0, 3))
    def lose(self, data: Any, arrives: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.pipeline.workers)))
        self.pipeline.lose(name, arrives)

    @precondition(lambda self: self.pipeline.requests)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        handle = data.draw(st.sampled_from(sorted(self.pipeline.requests)))
        self.pipeline.requests[handle].unwanted = True
        self.pipeline.tell(Cancelled(handle))

    @rule(client=CLIENTS)
    def others_come_and_go(self, client: bytes) -> None:
        """While all that was under way is so still, but for the ventilator's messages."""
        for _ in range(4):
            self.ask(1, client, "protocol 1", None, set(), 0)
            handle = len(self.pipeline.requests)
            self.pipeline.requests[handle].unwanted = True
            self.pipeline.tell(Cancelled(handle))
        while self.pipeline.to_sink:
            self.pipeline.deliver(self.pipeline.to_sink)

    @rule(client=CLIENTS)
    def leave(self, client: bytes) -> None:
        for asked in self.pipeline.requests.values():
            if asked.client == client:
                asked.unwanted = True
        self.pipeline.tell(ClientGone(client))

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, GRACE, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.pipeline.now += seconds
        self.pipeline.tell(Tick())

    @invariant()
    def whatever_the_scheduler_takes_for_done_is_answered(self) -> None:
        """Or it will be, when the ventilator's messages of it have arrived at the sink."""
        kinds = (Registered, RowLost)
        under_way = {one.handle for one in self.pipeline.to_sink if isinstance(one, kinds)}
        for handle, asked in self.pipeline.requests.items():
            if isinstance(asked.ended_as, Completed) and handle not in under_way:
                assert asked.outcomes == 1

    @invariant()
    def the_sink_keeps_nothing_of_what_has_ended_there(self) -> None:
        """However late anything of it comes."""
        assembly = self.pipeline.assembly
        assembly.validate()
        assert assembly.open_requests <= len(self.pipeline.requests) - assembly.ended_requests

    def teardown(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        self.pipeline.finish()
        assert self.pipeline.assembly.open_requests == 0
        assert self.pipeline.assembly.of_protocol_1() == []
        assert self.pipeline.assembly.ended_requests == len(self.pipeline.requests)
        for asked in self.pipeline.requests.values():
            assert asked.outcomes == 1 or (asked.unwanted and asked.outcomes == 0)
            if isinstance(asked.ended_as, Failed):
                assert asked.ended_as.kind in (ErrorKind.DEADLINE, ErrorKind.WORKER_FAILED)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
