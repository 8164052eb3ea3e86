"""What an open loop makes of its requests, without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Optional

import numpy as np
import pytest

from bert_serving.benchmarks.load import (
    OpenLoad,
    Record,
    Sent,
    is_trustworthy,
    sum_up,
    take,
)
from bert_serving.benchmarks.workloads import Batch
from bert_serving.client.protocol import ErrorReply, InfoReply, Reply, VectorsReply

BATCH = Batch(["a", "b"], tokens=6)
LOAD = OpenLoad(rate=10.0, seconds=10.0, warm_up=2.0, clients=3, timeout=5.0, seed=0)


def vectors(number: int, rows: int = 2) -> VectorsReply:
    return VectorsReply(number, np.zeros((rows, 4), np.float32))


def sent(due: float, taken: Optional[float], error: Optional[str] = None, late: float = 0) -> Sent:
    return Sent(due, BATCH, due + late, taken, error)


def test_latency_counts_from_when_a_request_was_due() -> None:
    # A generator that was held up for a second, and a server that answers at once.
    result = sum_up(Record(LOAD, [sent(3.0, 4.1, late=1.0), sent(4.0, 4.1, late=0.0)], busy=0.1))
    assert sorted(result.latencies) == pytest.approx([0.1, 1.1])
    assert result.late_highest == pytest.approx(1.0)


def test_a_stall_of_the_server_shows_in_all_requests_that_were_due() -> None:
    # It answers in 10 ms, but for a pause of 5 s: half of the requests were due within.
    dues = [2 + 0.01 * number for number in range(800)]
    requests = [sent(due, (7.0 if 2.0 <= due < 7.0 else due) + 0.01) for due in dues]
    latency = sum_up(Record(LOAD, requests, busy=0.1)).latency
    assert latency.mean == pytest.approx(0.01 + 5 / 2 * 500 / 800, rel=0.01)
    assert latency.p95 is not None
    assert latency.p95 > 4


def test_the_warm_up_does_not_count() -> None:
    result = sum_up(Record(LOAD, [sent(1.9, 1.95), sent(2.0, 2.5)], busy=0.1))
    assert result.latency.requests == 1
    assert result.latencies == (0.5,)


def test_failed_and_unanswered_requests_are_counted_by_kind() -> None:
    requests = [sent(3, 3.1), sent(4, None), sent(5, 5.1, "deadline"), sent(6, None)]
    result = sum_up(Record(LOAD, requests, busy=0.1))
    assert result.errors == {"no answer": 2, "deadline": 1}
    assert (result.latency.requests, result.latency.failed) == (4, 3)
    assert result.latency.median is None
    assert result.requests_per_second == pytest.approx(1 / 8)


def test_a_request_that_was_never_sent_is_unanswered() -> None:
    result = sum_up(Record(LOAD, [Sent(3.0, BATCH), sent(4.0, 4.1)], busy=0.1))
    assert result.errors == {"no answer": 1}


def test_rates_are_of_what_was_answered_in_time() -> None:
    requests = [sent(1.0, 2.5), sent(3.0, 4.0), sent(9.0, 10.5)]
    result = sum_up(Record(LOAD, requests, busy=0.1))
    assert result.requests_per_second == pytest.approx(2 / 8)
    assert result.rows_per_second == pytest.approx(4 / 8)
    assert result.tokens_per_second == pytest.approx(12 / 8)


def test_no_request_at_all() -> None:
    result = sum_up(Record(LOAD, [], busy=0.0))
    assert (result.latency.requests, result.latency.p99, result.late_p99) == (0, None, 0.0)


def waiting(count: int = 2) -> List[Sent]:
    return [Sent(float(number), BATCH, float(number)) for number in range(count)]


def test_an_answer_is_taken_once() -> None:
    requests = waiting()
    assert take(requests, 1, vectors(1), 1.5)
    assert not take(requests, 1, vectors(1), 1.7)
    assert (requests[1].taken, requests[1].error) == (1.5, None)
    assert requests[0].taken is None


@pytest.mark.parametrize("number", [-1, 2, 10**9])
def test_an_answer_to_no_request(number: int) -> None:
    assert not take(waiting(), number, vectors(number), 1.0)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (ErrorReply(0, "worker_failed", "it broke"), "worker_failed"),
        (vectors(0, rows=3), "wrong answer"),
        (InfoReply(0, {}), "wrong answer"),
    ],
)
def test_an_answer_that_is_none(reply: Reply, error: str) -> None:
    requests = waiting()
    assert take(requests, 0, reply, 1.0)
    assert requests[0].error == error


def test_a_generator_that_is_busy_or_late_is_not_trusted() -> None:
    good = sum_up(Record(LOAD, [sent(3.0, 3.1)], busy=0.2))
    assert is_trustworthy(good)
    assert not is_trustworthy(replace(good, generator_busy=0.95))
    assert not is_trustworthy(replace(good, late_p99=0.05))
