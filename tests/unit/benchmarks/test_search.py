"""The search for a rate, with servers that are simulated."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.benchmarks.arrivals import poisson_arrivals
from bert_serving.benchmarks.latency import summarize
from bert_serving.benchmarks.search import highest_rate


@given(st.floats(0.5, 5000.0), st.floats(10.0, 400.0), st.floats(0.01, 0.5))
def test_it_ends_within_the_resolution(limit: float, first: float, resolution: float) -> None:
    tried: List[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    search = highest_rate(holds, first, resolution)
    assert search.held is not None
    assert search.failed is not None
    assert search.held <= limit < search.failed
    assert search.failed / search.held <= 1 + resolution
    assert {search.held, search.failed} <= set(tried)
    assert len(tried) == len(set(tried)), "a rate was measured twice"


def test_nothing_holds() -> None:
    search = highest_rate(lambda rate: False, 100.0, 0.1)
    assert search.held is None
    assert search.failed == pytest.approx(100 / 1024)


def test_everything_holds() -> None:
    search = highest_rate(lambda rate: True, 100.0, 0.1)
    assert search.held == pytest.approx(100 * 1024)
    assert search.failed is None


@pytest.mark.parametrize(("first", "resolution"), [(0.0, 0.1), (1.0, 0.0), (-1.0, 0.1)])
def test_its_arguments_are_positive(first: float, resolution: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        highest_rate(lambda rate: True, first, resolution)


def p99_of_a_queue(rate: float, service: float) -> float:
    """99th percentile of one server that takes ``service`` seconds a request, in order."""
    free, waits = 0.0, []
    for due in poisson_arrivals(rate, 400.0, seed=7):
        free = max(free, due) + service
        waits.append(free - due)
    found = summarize(waits).p99
    assert found is not None
    return found


def test_a_queue_is_loaded_below_its_capacity_and_near_its_bound() -> None:
    service, bound = 0.01, 0.1
    search = highest_rate(lambda rate: p99_of_a_queue(rate, service) <= bound, 5.0, 0.02)
    assert search.held is not None
    # An M/D/1 queue's wait exceeds nine services in 1 % of cases at about 80 % load.
    assert 70 < search.held < 90
