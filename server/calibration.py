"""How many tokens a batch should have: found by a short measurement of the engine.

On a CPU a batch of few tokens leaves its arithmetic waiting for weights, and one of many falls out
of its caches; on a GPU it takes many tokens to keep it busy. Small batches are better to share:
a short request waits for less. So the smallest is taken that is about as fast as the fastest.

The time that passes counts, and on a CPU also the time that its cores are busy: where other
programs run meanwhile, the former says little.

Pure but for the clocks, which may be replaced.
"""

from __future__ import annotations

import time
from typing import Callable, Dict, List, Mapping, Sequence, Set, Tuple

__all__ = [
    "CLOCKS",
    "CPU_BUDGETS",
    "GPU_BUDGETS",
    "ROW_LENGTH",
    "Reading",
    "choose",
    "measure",
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
#: Tokens of each row of these, unless the model takes fewer.
ROW_LENGTH = 32
#: So many sizes are tried in any case, more while a batch takes less than LONGEST seconds.
LEAST_TRIED, LONGEST = 2, 0.7
#: Rounds go on for so many seconds, but there are a few at least: a machine may be busy with
#: something else for a moment.
SECONDS, LEAST_ROUNDS = 1.5, 3
#: What throughput may be lost for a smaller batch.
SLACK = 0.03


def measure(
    run: Callable[[int], object], budgets: Sequence[int], clocks: Sequence[Clock] = CLOCKS
) -> Dict[int, List[Reading]]:
    """What each clock says ``run(tokens)`` takes for the first few budgets, measured in turns."""
    run(budgets[0])  # the first run of all lays out memory
    samples: Dict[int, List[Reading]] = {}
    began = clocks[0]()
    for tokens in budgets:
        if len(samples) >= LEAST_TRIED:
            last = max(samples)
            if samples[last][0][0] * tokens / last > LONGEST:
                break
        samples[tokens] = [_reading(run, tokens, clocks)]
    rounds = 1
    while rounds < LEAST_ROUNDS or clocks[0]() - began < SECONDS:
        for tokens, readings in samples.items():
            readings.append(_reading(run, tokens, clocks))
        rounds += 1
    return samples


def choose(samples: Mapping[int, Sequence[Reading]], slack: float = SLACK) -> int:
    """The smallest budget whose tokens per second are within ``slack`` of the most, by each clock.

    Of each budget the fastest run counts: what disturbs a run makes it slower, never faster. If the
    clocks agree on none, the last one decides: a larger batch never makes worse use of more cores.
    """
    enough: List[Set[int]] = []
    for clock in range(len(next(iter(samples.values()))[0])):
        speeds = {
            tokens: tokens / max(TICK, min(reading[clock] for reading in readings))
            for tokens, readings in samples.items()
        }
        least = (1 - slack) * max(speeds.values())
        enough.append({tokens for tokens, speed in speeds.items() if speed >= least})
    return min(set.intersection(*enough) or enough[-1])


def _reading(run: Callable[[int], object], tokens: int, clocks: Sequence[Clock]) -> Reading:
    began = [clock() for clock in clocks]
    run(tokens)
    return tuple(clock() - start for clock, start in zip(clocks, began))
