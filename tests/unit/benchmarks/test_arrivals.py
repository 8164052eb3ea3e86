"""Poisson arrivals: independent exponential gaps, seeded."""

from __future__ import annotations

import numpy as np
import pytest

from bert_serving.benchmarks.arrivals import poisson_arrivals


def test_they_ascend_within_the_time() -> None:
    times = poisson_arrivals(200.0, 30.0, seed=1)
    assert (np.diff(times) > 0).all()
    assert times[0] >= 0
    assert times[-1] < 30.0


def test_count_and_gaps_are_those_of_the_process() -> None:
    times = poisson_arrivals(100.0, 1000.0, seed=2)
    # The number's standard deviation is its root, 316; four of them.
    assert abs(len(times) - 100_000) < 1265
    gaps = np.diff(times)
    # An exponential distribution's mean and deviation are equal; its median is ln 2 of them.
    assert gaps.mean() == pytest.approx(0.01, rel=0.02)
    assert gaps.std() == pytest.approx(0.01, rel=0.02)
    assert np.median(gaps) == pytest.approx(0.01 * np.log(2), rel=0.02)
    # Independent of each other.
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


def test_the_seed_decides() -> None:
    first = poisson_arrivals(50.0, 10.0, seed=3)
    np.testing.assert_array_equal(first, poisson_arrivals(50.0, 10.0, seed=3))
    other = poisson_arrivals(50.0, 10.0, seed=4)
    assert len(first) != len(other) or (first != other).any()


def test_another_rate_stretches_the_same_arrivals() -> None:
    slow, fast = poisson_arrivals(10.0, 100.0, seed=5), poisson_arrivals(20.0, 100.0, seed=5)
    np.testing.assert_allclose(slow, 2 * fast[: len(slow)])


@pytest.mark.parametrize(("rate", "seconds"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_rate_and_time_are_positive(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        poisson_arrivals(rate, seconds, seed=0)
