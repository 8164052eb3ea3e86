"""Counts of how often values fell into which range. Pure.

In the form that Prometheus wants: for each bound, how many values were at most that.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Any, Dict, List, Sequence

__all__ = ["BATCH_ROWS", "SECONDS", "Histogram"]

#: Bounds of rows in a batch, and of durations.
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts of values by ascending ``bounds``; what is above the last one counts as infinite."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def report(self) -> Dict[str, Any]:
        """``buckets``, pairs of a bound and how many values were at most that; ``sum``, ``count``.

        The last bound is "+Inf", for JSON has no infinite number.
        """
        bounds: List[Any] = [*self._bounds, "+Inf"]
        counts = list(accumulate(self._counts))
        return {
            "buckets": [list(pair) for pair in zip(bounds, counts)],
            "sum": self._sum,
            "count": counts[-1],
        }
