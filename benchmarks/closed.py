"""Closed loop: clients that each send their next request when the last one is answered.

It tells how much a server can do for a number of clients. Of latencies it tells what such clients
see; what users see who don't wait for each other, :mod:`bert_serving.benchmarks.load` tells.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Tuple

from bert_serving.benchmarks.clients import Child, ClosedLoad, Crew, Threads, Timing
from bert_serving.benchmarks.latency import Latency, summarize
from bert_serving.benchmarks.wire import Target
from bert_serving.benchmarks.workloads import Batch

__all__ = ["ClosedLoad", "ClosedResult", "Timing", "closed_loop", "sum_up"]


#: Requests of each client with which there is a middle.
STEADY = 3


@dataclass(frozen=True)
class ClosedResult:
    """Without the warm-up. The rates are of ``seconds`` in the middle, see :func:`sum_up`.
    ``client_rows_per_second`` is 1.10's figure: of each client the rows of a request by the mean
    latency, and the mean of these over the clients.
    """

    load: ClosedLoad
    seconds: float
    latency: Latency
    errors: Dict[str, int]
    requests_per_second: float
    rows_per_second: float
    tokens_per_second: float
    client_rows_per_second: float
    latencies: Tuple[float, ...] = field(repr=False)


def closed_loop(
    target: Target, batches: Sequence[Sequence[Batch]], load: ClosedLoad
) -> ClosedResult:
    """Put ``load`` on a server; client number n sends ``batches[n]``, in turn.

    Raises BenchmarkError if a client can't connect or its warm-up fails.
    """
    if len(batches) != load.clients:
        raise ValueError("%d clients have %d lists of batches" % (load.clients, len(batches)))
    crews: List[Crew] = []
    try:
        for number in range(min(load.processes, load.clients)):
            mine = batches[number :: load.processes]
            kind = Threads if load.processes == 1 else Child
            crews.append(kind(target, mine, load))
        for crew in crews:
            crew.wait_until_warm()
        for crew in crews:
            crew.go()
        return sum_up(load, [timings for crew in crews for timings in crew.timings()])
    finally:
        for crew in crews:
            crew.close()


def sum_up(load: ClosedLoad, clients: Sequence[Sequence[Timing]]) -> ClosedResult:
    """The result of what was measured, client by client. Pure.

    What is answered while only some clients have requests under way says nothing of so many: rates
    are of the time from when all have their first answer to when the first of them has its last. Of
    a request that is under way for a part of it, so much counts, which is right if as much is under
    way at its begin as at its end. With fewer than ``STEADY`` requests of a client that can't be
    said, and the rates are of all the time.
    """
    timings = [timing for client in clients for timing in client]
    answered = [timing for timing in timings if timing.error is None]
    latencies = tuple(timing.ended - timing.began for timing in answered)
    began = max(client[0].ended for client in clients)
    ended = min(client[-1].ended for client in clients)
    if ended <= began or min(map(len, clients)) < STEADY:
        began, ended = min(one.began for one in timings), max(one.ended for one in timings)
    shares = [
        max(0.0, min(one.ended, ended) - max(one.began, began)) / (one.ended - one.began)
        for one in answered
    ]
    seconds = ended - began
    speeds = []
    for client in clients:
        spent = sum(one.ended - one.began for one in client)
        speeds.append(sum(one.rows for one in client if one.error is None) / spent)
    return ClosedResult(
        load=load,
        seconds=seconds,
        latency=summarize(latencies, len(timings) - len(answered)),
        errors=dict(Counter(one.error for one in timings if one.error is not None)),
        requests_per_second=sum(shares) / seconds,
        rows_per_second=sum(s * one.rows for s, one in zip(shares, answered)) / seconds,
        tokens_per_second=sum(s * one.tokens for s, one in zip(shares, answered)) / seconds,
        client_rows_per_second=sum(speeds) / len(speeds),
        latencies=latencies,
    )
