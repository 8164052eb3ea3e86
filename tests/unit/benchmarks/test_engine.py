"""The bare engine's measurement, with a clock that is made up."""

from __future__ import annotations

from typing import Iterator, List

import pytest

from bert_serving.benchmarks.engine import Efficiency, Shape, fastest, seconds_each


class Work:
    """Takes the given durations in turn, on a clock of its own."""

    def __init__(self, durations: List[float]) -> None:
        self.now = 0.0
        self.runs = 0
        self._durations: Iterator[float] = iter(durations)

    def __call__(self) -> None:
        self.runs += 1
        self.now += next(self._durations)

    def clock(self) -> float:
        return self.now


def test_the_first_run_is_no_measurement() -> None:
    work = Work([100.0] + [2.0] * 10)
    assert seconds_each(work, 6.0, work.clock) == 2.0
    assert work.runs == 4


def test_it_is_the_median_of_at_least_three() -> None:
    work = Work([1.0, 5.0, 9.0, 6.0])
    assert seconds_each(work, 0.1, work.clock) == 6.0


def test_the_fastest_shape_of_a_length() -> None:
    shapes = [Shape(16, 1, 100.0), Shape(16, 8, 300.0), Shape(16, 64, 200.0), Shape(32, 8, 900.0)]
    assert fastest(shapes, 16) == shapes[1]


def test_the_ratio_is_that_of_rounds() -> None:
    # A machine that got five times slower in the middle of it.
    found = Efficiency(16, 8, (100.0, 100.0, 20.0), (90.0, 80.0, 16.0), failed=0)
    assert found.ratio == pytest.approx(0.8)
