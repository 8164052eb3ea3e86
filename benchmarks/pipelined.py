"""Clients that keep several requests under way each, to see what the plumbing can carry.

One thread sends and receives for all of them, as for :mod:`bert_serving.benchmarks.load`.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Dict, Sequence

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.wire import Target, Wire
from bert_serving.benchmarks.workloads import Batch
from bert_serving.client.frames import encode_texts
from bert_serving.client.protocol import ErrorReply, InfoReply

__all__ = ["PipelinedLoad", "PipelinedResult", "pipelined"]


@dataclass(frozen=True)
class PipelinedLoad:
    """``clients`` have ``window`` requests under way each, for ``warm_up`` and then ``seconds``.

    After each they wait for the answers; ``timeout`` is how long.
    """

    clients: int
    window: int
    seconds: float
    warm_up: float = 0.5
    timeout: float = 60.0


@dataclass(frozen=True)
class PipelinedResult:
    """After the warm-up, from the first request to the last answer. ``busy`` is the share of that
    time in which the generator's thread computed.
    """

    requests_per_second: float
    rows_per_second: float
    busy: float


def pipelined(target: Target, batches: Sequence[Batch], load: PipelinedLoad) -> PipelinedResult:
    """Put ``load`` on a server; requests take ``batches`` in turn.

    Raises BenchmarkError if a request fails or isn't answered in time.
    """
    with Wire(target, load.clients) as wire:
        wire.wait_until_ready(load.timeout)
        _burst(wire, batches, load, load.warm_up)
        return _burst(wire, batches, load, load.seconds)


def _burst(
    wire: Wire, batches: Sequence[Batch], load: PipelinedLoad, seconds: float
) -> PipelinedResult:
    """Send for ``seconds``, and wait for the last answer."""
    payloads = [encode_texts(batch.texts) for batch in batches]
    rows = [len(batch.texts) for batch in batches]
    client_of: Dict[int, int] = {}  # of the requests under way
    errors: "Counter[str]" = Counter()
    sent_rows = following = 0

    def send(client: int) -> int:
        turn = following % len(rows)
        client_of[following] = client
        wire.send(client, following, payloads[turn], rows[turn])
        return rows[turn]

    cpu, start = time.thread_time(), time.monotonic()
    last = start
    for number in range(load.clients * load.window):
        sent_rows += send(number % load.clients)
        following += 1
    while client_of and time.monotonic() < start + seconds + load.timeout:
        for at, number, reply in wire.receive(0.1):
            if isinstance(reply, InfoReply):  # asked twice for the configuration
                continue
            if isinstance(reply, ErrorReply):
                errors[reply.kind] += 1
            client, last = client_of.pop(number), at
            if at < start + seconds:
                sent_rows += send(client)
                following += 1
    if client_of:
        errors["no answer"] = len(client_of)
    if errors:
        raise BenchmarkError("requests failed: %s" % dict(errors))
    passed = last - start
    busy = (time.thread_time() - cpu) / passed
    return PipelinedResult(following / passed, sent_rows / passed, busy)
