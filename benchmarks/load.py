"""Open loop: requests are sent when independent users would send them, not when answers come.

Latency counts from the time at which a request was *due*. A server that stalls, or a generator that
is late itself, therefore can't hide how long users would have waited ("coordinated omission").

One thread sends and receives for all simulated clients. How busy it was and how late it sent
stands in the result, so that one can tell its limits from the server's.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from bert_serving.benchmarks.arrivals import poisson_arrivals
from bert_serving.benchmarks.latency import Latency, percentile, summarize
from bert_serving.benchmarks.wire import Target, Wire
from bert_serving.benchmarks.workloads import Batch
from bert_serving.client.frames import encode_texts
from bert_serving.client.protocol import ErrorReply, InfoReply, Reply, VectorsReply

__all__ = ["LoadResult", "OpenLoad", "Record", "Sent", "is_trustworthy", "open_loop", "sum_up"]

#: Longest time without a look at the clock and the progress, in seconds.
TICK = 0.1
#: A generator busier than this can't be trusted to have kept its schedule.
MOST_BUSY = 0.8
#: A 99th percentile of lateness above this share of the median latency distorts the result,
MOST_LATE = 0.1
#: unless it is within what any program has to wait for a processor, in seconds.
ALWAYS_LATE = 0.001

Progress = Callable[[float], None]


@dataclass(frozen=True)
class OpenLoad:
    """What to send: ``rate`` requests a second for ``seconds``, of which the first ``warm_up``
    don't count, from ``clients`` simulated clients. Answers are waited for up to ``timeout``
    seconds after the last request was due.
    """

    rate: float
    seconds: float
    warm_up: float
    clients: int
    timeout: float
    seed: int


@dataclass
class Sent:
    """A request: when it was ``due`` and ``sent`` and its answer ``taken``, in seconds from the
    start. It has failed if ``error`` names a kind of failure.
    """

    due: float
    batch: Batch
    sent: Optional[float] = None
    taken: Optional[float] = None
    error: Optional[str] = None


@dataclass(frozen=True)
class Record:
    """A run: every request, and the share of its time that the generator's thread was busy."""

    load: OpenLoad
    requests: List[Sent]
    busy: float
    unexpected: int = 0  # replies that no request waited for


@dataclass(frozen=True)
class LoadResult:
    """Of the requests that were due after the warm-up.

    The rates count what was answered within that time. ``errors`` has the number of failed
    requests by kind; "no answer" is one of them. ``late_*`` is how long after they were due
    requests were sent. ``latencies`` are those of the answered requests, in no order.
    """

    load: OpenLoad
    latency: Latency
    errors: Dict[str, int]
    requests_per_second: float
    rows_per_second: float
    tokens_per_second: float
    generator_busy: float
    late_mean: float
    late_p99: float
    late_highest: float
    unexpected: int
    latencies: Tuple[float, ...] = field(repr=False)


def open_loop(
    target: Target,
    batches: Sequence[Batch],
    load: OpenLoad,
    progress: Progress = lambda share: None,
    ready_within: float = 30.0,
) -> LoadResult:
    """Put ``load`` on a server; requests take ``batches`` in turn.

    ``progress`` is told the share of the time that has passed. Raises BenchmarkError if the server
    doesn't answer at all.
    """
    return sum_up(_run(target, batches, load, progress, ready_within))


def _run(
    target: Target, batches: Sequence[Batch], load: OpenLoad, progress: Progress, ready: float
) -> Record:
    due = poisson_arrivals(load.rate, load.seconds, load.seed).tolist()
    requests = [Sent(time, batches[number % len(batches)]) for number, time in enumerate(due)]
    # Before the clock starts: the generator only copies bytes later.
    payloads = [encode_texts(batch.texts) for batch in batches]
    unexpected = 0
    with Wire(target, load.clients) as wire:
        wire.wait_until_ready(ready)
        cpu = time.thread_time()
        start = time.monotonic()
        told = start
        following, outstanding = 0, 0
        while following < len(requests) or outstanding:
            now = time.monotonic() - start
            while following < len(requests) and requests[following].due <= now:
                request = requests[following]
                payload = payloads[following % len(payloads)]
                wire.send(following % load.clients, following, payload, len(request.batch.texts))
                now = request.sent = time.monotonic() - start
                following += 1
                outstanding += 1
            if following == len(requests) and now > load.seconds + load.timeout:
                break
            until = requests[following].due if following < len(requests) else math.inf
            for at, number, reply in wire.receive(min(max(until - now, 0.0), TICK)):
                if take(requests, number, reply, at - start):
                    outstanding -= 1
                elif not isinstance(reply, InfoReply):  # asked twice for the configuration
                    unexpected += 1
            if now + start - told > TICK:
                told = now + start
                progress(min(now / load.seconds, 1.0))
        passed = time.monotonic() - start
        busy = (time.thread_time() - cpu) / passed if passed > 0 else 0.0
    return Record(load, requests, busy, unexpected)


def take(requests: Sequence[Sent], number: int, reply: Reply, at: float) -> bool:
    """Note that request ``number`` was answered; False if it didn't wait for an answer."""
    if not 0 <= number < len(requests):
        return False
    request = requests[number]
    if request.sent is None or request.taken is not None:
        return False
    request.taken = at
    if isinstance(reply, ErrorReply):
        request.error = reply.kind
    elif not isinstance(reply, VectorsReply) or len(reply.array) != len(request.batch.texts):
        request.error = "wrong answer"
    return True


def sum_up(record: Record) -> LoadResult:
    """The result of a run. Pure."""
    load = record.load
    counted = [request for request in record.requests if request.due >= load.warm_up]
    answered = [one for one in counted if one.taken is not None and one.error is None]
    errors = Counter(
        "no answer" if request.taken is None else str(request.error)
        for request in counted
        if request.taken is None or request.error is not None
    )
    latencies = tuple(one.taken - one.due for one in answered if one.taken is not None)
    window = load.seconds - load.warm_up
    # What was due during the warm-up and answered later is work that was done all the same.
    done = [
        one
        for one in record.requests
        if one.error is None and one.taken is not None and load.warm_up <= one.taken < load.seconds
    ]
    late = sorted(one.sent - one.due for one in counted if one.sent is not None)
    return LoadResult(
        load=load,
        latency=summarize(latencies, sum(errors.values())),
        errors=dict(errors),
        requests_per_second=len(done) / window,
        rows_per_second=sum(len(one.batch.texts) for one in done) / window,
        tokens_per_second=sum(one.batch.tokens for one in done) / window,
        generator_busy=record.busy,
        late_mean=sum(late) / len(late) if late else 0.0,
        late_p99=percentile(late, 0.99) or 0.0,
        late_highest=late[-1] if late else 0.0,
        unexpected=record.unexpected,
        latencies=latencies,
    )


def is_trustworthy(result: LoadResult) -> bool:
    """Whether the load generator was fast enough for the result to be the server's."""
    median = result.latency.median
    on_time = median is None or result.late_p99 <= max(MOST_LATE * median, ALWAYS_LATE)
    return on_time and result.generator_busy <= MOST_BUSY
