"""Latencies summed up: failures count, percentiles are measured values."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.benchmarks.latency import distribution, percentile, summarize

SECONDS = st.lists(st.floats(0.0, 100.0), max_size=60)


def test_percentiles_of_a_hundred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.01, 0.5, 0.95, 0.99, 1.0)] == [
        1.0,
        50.0,
        95.0,
        99.0,
        100.0,
    ]


def test_failures_take_for_ever() -> None:
    values = [float(number) for number in range(1, 100)]
    assert percentile(values, 0.99, failed=1) == 99.0
    assert percentile(values, 0.99, failed=2) is None


@pytest.mark.parametrize("share", [0.0, 1.1, -1.0])
def test_a_share_is_above_0_and_at_most_1(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        percentile([1.0], share)


@given(SECONDS, st.integers(0, 20), st.floats(0.01, 1.0))
def test_a_percentile_is_the_least_that_covers_the_share(
    values: List[float], failed: int, share: float
) -> None:
    values.sort()
    total = len(values) + failed
    found = percentile(values, share, failed)

    def covered(bound: float) -> float:
        return sum(value <= bound for value in values) / total

    if found is None:
        assert not values or covered(values[-1]) < share
    else:
        assert found in values
        assert covered(found) >= share - 1e-6
        assert all(covered(value) < share + 1e-6 for value in values if value < found)


def test_summary() -> None:
    latency = summarize([0.3, 0.1, 0.2], failed=1)
    assert (latency.requests, latency.failed) == (4, 1)
    assert latency.mean == pytest.approx(0.2)
    assert (latency.median, latency.p95, latency.highest) == (0.2, None, 0.3)


def test_summary_of_nothing() -> None:
    latency = summarize([], failed=2)
    assert (latency.requests, latency.mean, latency.median, latency.highest) == (
        2,
        None,
        None,
        None,
    )


@given(SECONDS, st.integers(0, 20), st.integers(2, 30))
def test_the_distribution_rises_to_the_share_that_was_answered(
    values: List[float], failed: int, points: int
) -> None:
    pairs = distribution(values, failed, points)
    assert len(pairs) <= points
    assert pairs == sorted(pairs)
    for seconds, share in pairs:
        at_most = sum(value <= seconds for value in values) / (len(values) + failed)
        assert share <= at_most + 1e-9
    if values:
        assert pairs[0][0] == min(values)
        assert pairs[-1] == (max(values), len(values) / (len(values) + failed))
