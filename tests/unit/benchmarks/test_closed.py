"""What a closed loop makes of its clients' timings."""

from __future__ import annotations

from typing import Optional

import pytest

from bert_serving.benchmarks.closed import ClosedLoad, Timing, closed_loop, sum_up
from bert_serving.benchmarks.wire import Target

LOAD = ClosedLoad(clients=2, repeats=4)


def timing(began: float, ended: float, error: Optional[str] = None) -> Timing:
    return Timing(began, ended, error, rows=10, tokens=200)


def test_rates_and_latencies() -> None:
    clients = [[timing(5.0, 6.0), timing(6.0, 7.0)], [timing(5.5, 7.5), timing(7.5, 9.0)]]
    result = sum_up(LOAD, clients)
    assert result.seconds == 4.0
    assert result.rows_per_second == pytest.approx(10.0)
    assert result.tokens_per_second == pytest.approx(200.0)
    assert result.latency.mean == pytest.approx(5.5 / 4)
    # 1.10's figure: 10 rows in 1 s, and 10 in 1.75 s on average.
    assert result.client_rows_per_second == pytest.approx((10 + 10 / 1.75) / 2)


def test_failed_requests_are_no_throughput() -> None:
    clients = [[timing(0.0, 1.0), timing(1.0, 2.0, "RequestTimeout")]]
    result = sum_up(LOAD, clients)
    assert result.rows_per_second == pytest.approx(5.0)
    assert result.errors == {"RequestTimeout": 1}
    assert (result.latency.requests, result.latency.failed) == (2, 1)
    assert result.latency.p99 is None


@pytest.mark.parametrize(("repeats", "warm_up"), [(2, 2), (3, -1), (0, 0)])
def test_something_is_measured(repeats: int, warm_up: int) -> None:
    with pytest.raises(ValueError, match="warm-up"):
        ClosedLoad(1, repeats, warm_up)


def test_every_client_has_batches() -> None:
    with pytest.raises(ValueError, match="2 clients have 1"):
        closed_loop(Target("localhost", 1, 2), [[]], LOAD)
