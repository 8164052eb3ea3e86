"""How many tokens a batch should have: found by a short measurement of the engine.

On a CPU a batch of few tokens leaves its arithmetic waiting for weights, and one of many falls out
of its caches; on a GPU it takes many tokens to keep it busy. Small batches are better to share:
a short request waits for less. So the smallest is taken that is about as fast as the fastest.

Pure but for the clock, which may be replaced.
"""

from __future__ import annotations

import time
from typing import Callable, Dict, List, Mapping, Sequence

__all__ = ["CPU_BUDGETS", "GPU_BUDGETS", "ROW_LENGTH", "choose", "measure"]

#: Tokens of the batches that are tried, in this order.
CPU_BUDGETS = (256, 512, 1024, 2048, 4096)
GPU_BUDGETS = (2048, 4096, 8192, 16384, 32768)
#: Tokens of each row of these, unless the model takes fewer.
ROW_LENGTH = 32
#: So many sizes are tried in any case, more while a batch takes less than LONGEST seconds.
LEAST_TRIED, LONGEST = 2, 0.7
#: Rounds go on for so long, but there are a few at least: a machine may be busy with something else
#: for a moment.
SECONDS, LEAST_ROUNDS = 1.5, 3
#: What throughput may be lost for a smaller batch.
SLACK = 0.03


def measure(
    run: Callable[[int], object],
    budgets: Sequence[int],
    clock: Callable[[], float] = time.perf_counter,
) -> Dict[int, List[float]]:
    """Seconds that ``run(tokens)`` takes for each of the first few budgets, measured in turns."""
    run(budgets[0])  # the first run of all lays out memory
    samples: Dict[int, List[float]] = {}
    began = clock()
    for tokens in budgets:
        if len(samples) >= LEAST_TRIED:
            last = max(samples)
            if min(samples[last]) * tokens / last > LONGEST:
                break
        samples[tokens] = [_seconds(run, tokens, clock)]
    rounds = 1
    while rounds < LEAST_ROUNDS or clock() - began < SECONDS:
        for tokens, seconds in samples.items():
            seconds.append(_seconds(run, tokens, clock))
        rounds += 1
    return samples


def choose(samples: Mapping[int, Sequence[float]], slack: float = SLACK) -> int:
    """The smallest budget whose tokens per second are within ``slack`` of the most.

    Of each budget the fastest run counts: what disturbs a run makes it slower, never faster.
    """
    speeds = {tokens: tokens / min(seconds) for tokens, seconds in samples.items()}
    enough = (1 - slack) * max(speeds.values())
    return min(tokens for tokens, speed in speeds.items() if speed >= enough)


def _seconds(run: Callable[[int], object], tokens: int, clock: Callable[[], float]) -> float:
    began = clock()
    run(tokens)
    return clock() - began
