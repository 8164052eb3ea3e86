"""What a closed loop makes of its clients' timings."""

from __future__ import annotations

from typing import List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.benchmarks.closed import ClosedLoad, Timing, closed_loop, sum_up
from bert_serving.benchmarks.wire import Target

LOAD = ClosedLoad(clients=2, repeats=4)


def timing(began: float, ended: float, error: Optional[str] = None) -> Timing:
    return Timing(began, ended, error, rows=10, tokens=200)


def test_rates_and_latencies() -> None:
    clients = [[timing(5.0, 6.0), timing(6.0, 7.0)], [timing(5.5, 7.5), timing(7.5, 9.0)]]
    result = sum_up(LOAD, clients)
    assert result.seconds == 4.0
    assert result.requests_per_second == pytest.approx(1.0)
    assert result.rows_per_second == pytest.approx(10.0)
    assert result.tokens_per_second == pytest.approx(200.0)
    assert result.latency.mean == pytest.approx(5.5 / 4)
    # 1.10's figure: 10 rows in 1 s, and 10 in 1.75 s on average.
    assert result.client_rows_per_second == pytest.approx((10 + 10 / 1.75) / 2)


def test_what_only_the_last_clients_get_does_not_count() -> None:
    """One is done after 4 s; the other is then served three times as fast."""
    first = [timing(float(i), i + 1.0) for i in range(4)]
    second = first + [timing(4 + i / 3, 4 + (i + 1) / 3) for i in range(9)]
    result = sum_up(LOAD, [first, second])
    assert result.seconds == 3.0
    assert result.requests_per_second == pytest.approx(2.0)


@pytest.mark.parametrize("count", [2, 5])
def test_clients_served_one_after_the_other_are_counted_right(count: int) -> None:
    """As a server does that computes whole requests in their order: one a second."""
    clients = [
        [timing(max(0.0, i + count * (n - 1) + 1.0), i + count * n + 1.0) for n in range(4)]
        for i in range(count)
    ]
    assert sum_up(LOAD, clients).requests_per_second == pytest.approx(1.0)


def test_clients_one_after_the_other() -> None:
    first, second = [timing(0.0, 1.0)] * 3, [timing(1.0, 4.0)] * 3
    assert sum_up(LOAD, [first, second]).seconds == 4.0


@given(
    durations=st.lists(st.lists(st.integers(1, 3), min_size=4, max_size=9), min_size=1, max_size=5)
)
def test_clients_that_never_pause_are_counted_in_full(durations: List[List[int]]) -> None:
    """Whatever their requests' durations, each of n clients has one under way at any time."""
    clients = []
    for mine in durations:
        ends = [sum(mine[:count]) for count in range(len(mine) + 1)]
        clients.append([Timing(a, b, None, b - a, 1) for a, b in zip(ends, ends[1:])])
    assert sum_up(LOAD, clients).rows_per_second == pytest.approx(len(clients))


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
