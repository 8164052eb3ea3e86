"""How many tokens a batch should have, and how many batches be computed at a time: found by a short
measurement of the engine.

On a CPU a batch of few tokens leaves its arithmetic waiting for weights, and one of many falls out
of its caches; on a GPU it takes many tokens to keep it busy. Small batches are better to share:
a short request waits for less. So of those about as fast as the fastest, the smallest is taken.

The time that passes counts, and on a CPU also the time that its cores are busy: where other
programs run meanwhile, the former says little.

Pure but for the clocks, which may be replaced.
"""

from __future__ import annotations

import time
from typing import Callable, Dict, List, Mapping, NamedTuple, Sequence, Set, Tuple

__all__ = [
    "CLOCKS",
    "CPU_BUDGETS",
    "GPU_BUDGETS",
    "ROW_LENGTH",
    "Reading",
    "Shape",
    "choose",
    "least_split",
    "measure",
    "shapes",
    "splits",
]

Clock = Callable[[], float]
#: Seconds that a run took by each clock.
Reading = Tuple[float, ...]
CLOCKS: Tuple[Clock, ...] = (time.perf_counter, time.process_time)
#: The least that a clock may say: some stand still for as long.
TICK = 1e-6

#: Tokens of the batches that are tried, in this order.
CPU_BUDGETS = (256, 512, 1024, 2048, 4096)
GPU_BUDGETS = (2048, 4096, 8192, 16384, 32768)
#: Tokens for each stream, to find out with how few they are still as fast as all threads together.
SPLITS = (32, 64, 128)
#: Tokens of each row of these, unless the model takes fewer.
ROW_LENGTH = 32
#: So many sizes are tried in any case, more while a batch takes less than LONGEST seconds.
LEAST_TRIED, LONGEST = 2, 0.35
#: Rounds go on for so many seconds, but there are a few at least: a machine may be busy with
#: something else for a moment.
SECONDS, LEAST_ROUNDS = 1.5, 3
#: What throughput may be lost for smaller batches.
SLACK = 0.03


class Shape(NamedTuple):
    """``streams`` batches of ``tokens`` tokens each, computed at a time."""

    streams: int
    tokens: int


def shapes(budgets: Sequence[int], streams: int) -> List[Shape]:
    """What is tried on a device that can compute so many batches at a time."""
    return [Shape(one, tokens) for one in sorted({1, streams}) for tokens in budgets]


def splits(streams: int) -> List[Shape]:
    """As many tokens in so many streams and by all threads together."""
    return [Shape(*one) for n in SPLITS for one in ((streams, n), (1, streams * n))]


def measure(
    run: Callable[[Shape], object],
    tried: Sequence[Shape],
    clocks: Sequence[Clock] = CLOCKS,
    seconds: float = SECONDS,
) -> Dict[Shape, List[Reading]]:
    """What each clock says ``run`` takes for the first few sizes, measured in turns.

    Rounds go on for so many ``seconds``.
    """
    run(tried[0])  # the first run of all lays out memory
    samples: Dict[Shape, List[Reading]] = {}
    began = clocks[0]()
    for shape in tried:
        smaller = [one for one in samples if one.streams == shape.streams]
        if len(smaller) >= LEAST_TRIED:
            last = max(smaller)
            if samples[last][0][0] * shape.tokens / last.tokens > LONGEST:
                continue
        samples[shape] = [_reading(run, shape, clocks)]
    rounds = 1
    while rounds < LEAST_ROUNDS or clocks[0]() - began < seconds:
        for shape, readings in samples.items():
            readings.append(_reading(run, shape, clocks))
        rounds += 1
    return samples


def choose(samples: Mapping[Shape, Sequence[Reading]], slack: float = SLACK) -> Shape:
    """Of those whose tokens per second are within ``slack`` of the most, by each clock, one with
    streams if there is any, and of those the smallest.

    Of each the fastest run counts: what disturbs a run makes it slower, never faster. If the
    clocks agree on none, the last one decides.
    """
    enough: List[Set[Shape]] = []
    for speeds in _speeds(samples):
        least = (1 - slack) * max(speeds.values())
        enough.append({shape for shape, speed in speeds.items() if speed >= least})
    candidates = set.intersection(*enough) or enough[-1]
    # Streams suffer less than threads that share a batch when others take time of the cores, as the
    # service's own processes do.
    return min(candidates, key=lambda shape: (-shape.streams, shape.tokens))


def least_split(
    samples: Mapping[Shape, Sequence[Reading]], chosen: Shape, slack: float = SLACK
) -> int:
    """The fewest tokens with which a stream is, by each clock, within ``slack`` of its share of all
    threads together; those ``chosen`` for a batch if none are.
    """
    speeds = _speeds(samples)
    enough = [
        shape.tokens
        for shape in samples
        if shape.streams == chosen.streams
        and all(
            one[shape] >= (1 - slack) * one[Shape(1, shape.streams * shape.tokens)]
            for one in speeds
        )
    ]
    return min(enough, default=chosen.tokens)


def _speeds(samples: Mapping[Shape, Sequence[Reading]]) -> List[Dict[Shape, float]]:
    """Tokens per second by each clock."""
    found = []
    for clock in range(len(next(iter(samples.values()))[0])):
        best = {shape: max(TICK, min(one[clock] for one in samples[shape])) for shape in samples}
        found.append({shape: shape.streams * shape.tokens / best[shape] for shape in samples})
    return found


def _reading(run: Callable[[Shape], object], shape: Shape, clocks: Sequence[Clock]) -> Reading:
    began = [clock() for clock in clocks]
    run(shape)
    return tuple(clock() - start for clock, start in zip(clocks, began))
