"""The scheduler under a simulated clock, with a measured cost table in place of the engine.

Pure: the same trace gives the same result. Left out are tokenizing and the time that the service
itself takes, but for ``HOP`` on each way between two processes.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple

import numpy as np

from bert_serving.benchmarks.costs import CostModel
from bert_serving.benchmarks.traces import Client, Trace
from bert_serving.server import work
from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.scheduler import Scheduler

__all__ = ["Request", "Result", "Setting", "Summary", "jain", "simulate", "summarize"]

#: Seconds from one process to the next.
HOP = 0.0003
#: Rows that are tokenized at a time.
CHUNK_ROWS = 512


@dataclass(frozen=True)
class Setting:
    """What runs: ``pad_to`` is the length that every batch is padded to, 0: its longest row's.

    ``model`` is for a worker that computes in all its ``streams``, ``alone`` for a batch that is
    begun when no other is computed or waits there (None: the same). ``credits`` are those of a
    stream.
    ``noise`` is the standard deviation of the logarithm of batches' durations.
    """

    model: CostModel
    limits: BatchLimits
    credits: int = 2
    streams: int = 1
    alone: Optional[CostModel] = None
    workers: int = 1
    pad_to: int = 0
    noise: float = 0.1
    seed: int = 0


@dataclass
class Request:
    """``answered`` stays infinite if the simulation ends before."""

    client: int
    tokens: int
    alone: float  # seconds that it takes on an idle server
    sent: float
    answered: float = float("inf")


@dataclass
class Result:
    """What happened. ``busy``: seconds that workers computed, all of them together."""

    requests: List[Request]
    seconds: float
    busy: float = 0.0
    batches: int = 0
    tokens: int = 0
    padded: int = 0
    tokens_of: Dict[int, int] = field(default_factory=dict)  # computed, by client


class _Simulation:
    """One run: a heap of (time, number, what, details)."""

    def __init__(self, trace: Trace, scheduler: Scheduler, setting: Setting) -> None:
        self.trace = trace
        self.scheduler = scheduler
        self.setting = setting
        self.events: List[Tuple[float, int, str, Any]] = []
        self.number = 0
        self.random = np.random.RandomState(setting.seed)
        self.woken_at = float("inf")
        self.requests: Dict[int, Request] = {}
        self.unsent: List[Deque[np.ndarray]] = [deque(one.requests) for one in trace.clients]
        self.waiting: Dict[bytes, Deque[work.Dispatch]] = {}
        self.computing: Dict[bytes, int] = {}
        self.is_alone: Dict[bytes, bool] = {}
        self.features: Dict[int, np.ndarray] = {}
        self.result = Result([], 0.0)

    def push(self, at: float, what: str, details: Any) -> None:
        self.number += 1
        heapq.heappush(self.events, (at, self.number, what, details))

    def run(self) -> Result:
        for i in range(self.setting.workers):
            worker = b"worker %d" % i
            self.waiting[worker], self.computing[worker] = deque(), 0
            self.is_alone[worker] = False
            streams = self.setting.streams
            self.tell(work.WorkerJoined(worker, streams * self.setting.credits, streams), 0.0)
        for i, client in enumerate(self.trace.clients):
            times: Sequence[float] = [0.0] * client.depth
            for at in times if client.times is None else client.times:
                self.push(at, "send", i)
        until = float("inf") if self.trace.seconds is None else self.trace.seconds
        now = 0.0
        while self.events and self.events[0][0] <= until:
            now, _, what, details = heapq.heappop(self.events)
            getattr(self, "on_" + what)(details, now)
        self.result.requests = list(self.requests.values())
        answered = [one.answered for one in self.result.requests if one.answered <= until]
        self.result.seconds = max([now] + answered) if self.trace.seconds is None else until
        return self.result

    def tell(self, event: work.Event, now: float) -> None:
        for action in self.scheduler.handle(event, now):
            if isinstance(action, work.Dispatch):
                self.push(now + HOP, "batch", action)
            elif isinstance(action, work.Completed):
                request = self.requests[action.handle]
                request.answered = now + HOP
                if self.trace.clients[request.client].times is None:
                    self.push(now + HOP, "send", request.client)

        wake_at = self.scheduler.wake_at()
        if wake_at is not None and now < wake_at < self.woken_at:
            self.woken_at = wake_at
            self.push(wake_at, "wake", None)

    def on_wake(self, _: None, now: float) -> None:
        self.woken_at = float("inf")
        self.tell(work.Tick(), now)

    def on_send(self, client: int, now: float) -> None:
        if not self.unsent[client]:
            return
        lengths = self.unsent[client].popleft()
        handle = len(self.requests) + 1
        tokens = int(lengths.sum())
        self.requests[handle] = Request(client, tokens, self.alone(lengths), now)
        identity = self.trace.clients[client].identity.encode() or b"%d" % client
        self.tell(work.Opened(handle, identity, len(lengths)), now)
        rows = [
            Row(handle, index, self.features_of(length))
            for index, length in enumerate(lengths.tolist())
        ]
        for start in range(0, len(rows), CHUNK_ROWS):
            self.tell(work.RowsReady(handle, tuple(rows[start : start + CHUNK_ROWS])), now)

    def on_batch(self, action: work.Dispatch, now: float) -> None:
        self.waiting[action.worker].append(action)
        self.begin(action.worker, now)

    def begin(self, worker: bytes, now: float) -> None:
        """Compute what waits, as far as there are streams."""
        waiting, setting = self.waiting[worker], self.setting
        while waiting and self.computing[worker] < setting.streams:
            if self.computing[worker] and (waiting[0].alone or self.is_alone[worker]):
                return
            action = waiting.popleft()
            self.computing[worker] += 1
            self.is_alone[worker] = action.alone
            self.compute(action, now)

    def compute(self, action: work.Dispatch, now: float) -> None:
        batch, setting = action.batch, self.setting
        rows = batch.rows
        lengths = [row.length for row in rows]
        tokens, longest = sum(lengths), setting.pad_to or max(lengths)
        model = setting.alone if action.alone and setting.alone else setting.model
        if setting.pad_to:
            seconds = model.seconds(len(rows), len(rows) * longest, longest)
        else:
            seconds = model.seconds(len(rows), tokens, longest)
        seconds *= self.random.lognormal(0.0, setting.noise)
        result = self.result
        result.busy += seconds
        result.batches += 1
        result.tokens += tokens
        result.padded += len(rows) * longest
        for row, length in zip(rows, lengths):
            client = self.requests[row[0]].client
            result.tokens_of[client] = result.tokens_of.get(client, 0) + length
        self.push(now + seconds, "computed", (action.worker, batch.batch_id))

    def on_computed(self, details: Tuple[bytes, int], now: float) -> None:
        self.push(now + HOP, "done", details)
        self.computing[details[0]] -= 1
        self.begin(details[0], now)

    def on_done(self, details: Tuple[bytes, int], now: float) -> None:
        self.tell(work.WorkDone(*details), now)

    def alone(self, lengths: np.ndarray) -> float:
        """As if in batches of equal shares, as few as the budget allows."""
        limits = self.setting.limits
        tokens, rows = int(lengths.sum()), len(lengths)
        batches = max(1, -(-tokens // limits.tokens), -(-rows // limits.rows))
        longest = tokens // rows
        each = self.setting.model.seconds(-(-rows // batches), tokens // batches, longest)
        return batches * each

    def features_of(self, length: int) -> np.ndarray:
        if length not in self.features:
            self.features[length] = np.zeros((3, length), np.int32)
        return self.features[length]


def simulate(trace: Trace, scheduler: Scheduler, setting: Setting) -> Result:
    """Run a trace from its start until its end; ``scheduler`` is a fresh one."""
    return _Simulation(trace, scheduler, setting).run()


@dataclass(frozen=True)
class Summary:
    """Latencies in seconds, by the clients' label; the rest concerns all."""

    latency: Dict[str, Tuple[float, float, float]]  # label -> p50, p95, p99
    tokens_per_second: float
    padding: float
    batches: int
    batch_seconds: float
    jain: float
    worst_slowdown: float


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 if all are equal, 1 / n if one has everything."""
    values = np.asarray(shares, float)
    return float(values.sum() ** 2 / (len(values) * (values**2).sum()))


def summarize(result: Result, clients: Sequence[Client]) -> Summary:
    """A request that isn't answered when the simulation ends counts as waiting until then."""
    latencies: Dict[str, List[float]] = {}
    slowdowns: Dict[int, List[float]] = {}
    for request in result.requests:
        latency = min(request.answered, result.seconds) - request.sent
        latencies.setdefault(clients[request.client].label, []).append(latency)
        slowdowns.setdefault(request.client, []).append(latency / request.alone)
    percentiles = {}
    for label, values in latencies.items():
        p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
        percentiles[label] = (p50, p95, p99)
    shares = [
        result.tokens_of.get(client, 0) / seconds
        for client, seconds in _open_seconds(result).items()
        if seconds > 0
    ]
    return Summary(
        percentiles,
        result.tokens / result.seconds,
        1 - result.tokens / result.padded,
        result.batches,
        result.busy / result.batches,
        jain(shares),
        max(float(np.mean(values)) for values in slowdowns.values()),
    )


def _open_seconds(result: Result) -> Dict[int, float]:
    """For how long each client had an open request."""
    spans: Dict[int, List[Tuple[float, float]]] = {}
    for request in result.requests:
        end = min(request.answered, result.seconds)
        spans.setdefault(request.client, []).append((request.sent, end))
    total = {}
    for client, intervals in spans.items():
        seconds, reached = 0.0, 0.0
        for start, end in sorted(intervals):
            seconds += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        total[client] = seconds
    return total
