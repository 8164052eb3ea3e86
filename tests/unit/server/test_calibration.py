from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.calibration import (
    CPU_BUDGETS,
    GPU_BUDGETS,
    LEAST_ROUNDS,
    LEAST_TRIED,
    LONGEST,
    SECONDS,
    SPLITS,
    Reading,
    Shape,
    choose,
    least_split,
    measure,
    shapes,
    splits,
)

DURATIONS = st.floats(1e-3, 10)


class Machine:
    """Its clock goes on only while it runs a batch; ``seconds`` are those of a number of tokens."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.now = 0.0
        self.ran: List[Shape] = []
        self._seconds = seconds

    def run(self, shape: Shape) -> None:
        self.ran.append(shape)
        self.now += self._seconds(shape.tokens)

    def clock(self) -> float:
        return self.now


def measured(machine: Machine, streams: int = 1) -> Dict[Shape, List[Reading]]:
    return measure(machine.run, shapes(CPU_BUDGETS, streams), (machine.clock,))


def once(seconds: Dict[int, float]) -> Dict[Shape, List[Reading]]:
    """One run of each, by one clock."""
    return {Shape(1, tokens): [(each,)] for tokens, each in seconds.items()}


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({256: 0.10, 512: 0.2, 1024: 0.4}, 256),  # all the same
        ({256: 0.10, 512: 0.16, 1024: 0.32}, 512),  # the smaller of two that are the fastest
        ({256: 0.10, 512: 0.16, 1024: 0.30}, 1024),
        ({256: 0.10, 512: 0.16, 1024: 0.315}, 512),  # within 3 % of the fastest
        ({512: 0.16}, 512),
    ],
)
def test_the_smallest_that_is_about_as_fast_as_the_fastest(
    seconds: Dict[int, float], chosen: int
) -> None:
    assert choose(once(seconds)) == Shape(1, chosen)


@given(
    seconds=st.dictionaries(st.sampled_from(CPU_BUDGETS), DURATIONS, min_size=1),
    noise=st.lists(st.floats(0, 5), min_size=1, max_size=5),
)
def test_what_disturbs_some_runs_changes_nothing(
    seconds: Dict[int, float], noise: List[float]
) -> None:
    noisy = {
        Shape(1, tokens): [(each + extra,) for extra in [*noise, 0.0]]
        for tokens, each in seconds.items()
    }
    assert choose(noisy) == choose(once(seconds))


@pytest.mark.parametrize(
    ("readings", "chosen"),
    [
        ({256: (0.10, 0.20), 512: (0.21, 0.36)}, 512),  # the machine was busy with something else
        ({256: (0.13, 0.20), 512: (0.20, 0.40)}, 512),  # cores that wait for each other
        ({256: (0.10, 0.20), 512: (0.20, 0.40)}, 256),  # both are content with the smaller
        ({256: (0.10, 0.20), 512: (0.24, 0.40)}, 256),
        ({256: (0.001, 0.0), 512: (0.001, 0.0)}, 512),  # a clock that stood still
    ],
)
def test_both_clocks_count(readings: Dict[int, Reading], chosen: int) -> None:
    samples = {Shape(1, tokens): [reading] for tokens, reading in readings.items()}
    assert choose(samples).tokens == chosen


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({(1, 512): 0.20, (2, 256): 0.18, (2, 512): 0.36}, (2, 256)),  # two at a time are faster
        ({(1, 512): 0.18, (2, 256): 0.20, (2, 512): 0.38}, (1, 512)),
        ({(1, 512): 0.18, (2, 256): 0.20, (2, 512): 0.36}, (2, 512)),
        ({(1, 512): 0.20, (2, 256): 0.20, (2, 512): 0.40}, (2, 256)),  # all the same
        ({(1, 256): 0.10, (2, 256): 0.20, (2, 512): 0.40}, (2, 256)),
        ({(1, 256): 0.13, (2, 256): 0.22, (2, 512): 0.40}, (2, 512)),
    ],
)
def test_streams_and_threads_are_compared(seconds: Any, chosen: Any) -> None:
    assert choose({Shape(*shape): [(each,)] for shape, each in seconds.items()}) == chosen


@pytest.mark.parametrize(
    ("seconds", "split"),
    [
        ({(2, 32): 0.10, (1, 64): 0.10, (2, 64): 0.2, (1, 128): 0.2}, 32),
        ({(2, 32): 0.10, (1, 64): 0.09, (2, 64): 0.2, (1, 128): 0.2}, 64),
        ({(2, 32): 0.10, (1, 64): 0.09, (2, 64): 0.2, (1, 128): 0.18}, 256),
    ],
)
def test_the_fewest_tokens_with_which_streams_are_as_fast(seconds: Any, split: int) -> None:
    samples = {Shape(*shape): [(each, each)] for shape, each in seconds.items()}
    assert least_split(samples, Shape(2, 256)) == split


def test_what_is_tried() -> None:
    assert splits(3)[:2] == [(3, SPLITS[0]), (1, 3 * SPLITS[0])]
    assert shapes((256, 512), 1) == [(1, 256), (1, 512)]
    assert shapes((256, 512), 4) == [(1, 256), (1, 512), (4, 256), (4, 512)]


@given(seconds=st.dictionaries(st.sampled_from(GPU_BUDGETS), DURATIONS, min_size=1))
def test_little_is_lost(seconds: Dict[int, float]) -> None:
    chosen = choose(once(seconds), slack=0.03).tokens
    best = max(tokens / each for tokens, each in seconds.items())
    assert chosen / seconds[chosen] >= 0.97 * best


def test_sizes_take_turns_after_a_run_that_does_not_count() -> None:
    machine = Machine(lambda tokens: tokens / 1000)
    samples = measured(machine)
    assert [shape.tokens for shape in machine.ran[:4]] == [256, 256, 512, 256]
    assert samples == {
        (1, 256): [pytest.approx((0.256,))] * 3,
        (1, 512): [pytest.approx((0.512,))] * 3,
    }


def test_a_fast_machine_tries_all_sizes_for_the_time_there_is() -> None:
    machine = Machine(lambda tokens: tokens / 1e6)
    samples = measured(machine)
    assert list(samples) == shapes(CPU_BUDGETS, 1)
    assert len({len(seconds) for seconds in samples.values()}) == 1
    assert SECONDS <= machine.now < SECONDS + 2 * sum(CPU_BUDGETS) / 1e6


@pytest.mark.parametrize("streams", [1, 2])
def test_a_slow_machine_tries_a_few_sizes_a_few_times(streams: int) -> None:
    machine = Machine(lambda tokens: tokens / 50)
    samples = measured(machine, streams)
    assert list(samples) == shapes(CPU_BUDGETS[:LEAST_TRIED], streams)
    assert {len(seconds) for seconds in samples.values()} == {LEAST_ROUNDS}


@given(speed=st.floats(100, 1e5))
def test_no_batch_takes_long_but_those_that_are_tried_in_any_case(speed: float) -> None:
    machine = Machine(lambda tokens: tokens / speed)
    for shape in list(measured(machine))[LEAST_TRIED:]:
        assert shape.tokens / speed <= LONGEST * 1.001


@given(
    base=st.floats(1e-4, 1e-3), start=st.floats(0, 0.2), cache=st.sampled_from((512, 1024, 4096))
)
def test_the_choice_suits_the_machine(base: float, start: float, cache: int) -> None:
    """A batch costs something in itself, and its tokens more beyond what a cache holds."""

    def seconds(tokens: int) -> float:
        return start + tokens * base + max(0, tokens - cache) * base / 2

    samples = measured(Machine(seconds))
    chosen = choose(samples).tokens
    speeds = [shape.tokens / seconds(shape.tokens) for shape in samples]
    assert chosen / seconds(chosen) >= 0.97 * max(speeds)
