"""Latencies summed up: mean, percentiles, distribution. Pure; all times in seconds.

A request that failed, or whose answer never came, has no latency but isn't left out either: in
percentiles and in the distribution it counts as one that takes for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

__all__ = ["Latency", "distribution", "percentile", "summarize"]


@dataclass(frozen=True)
class Latency:
    """Of ``requests``, of which ``failed`` did; None: as many failed that there is no such value.

    ``mean`` and ``highest`` are those of the requests that were answered.
    """

    requests: int
    failed: int
    mean: Optional[float]
    median: Optional[float]
    p95: Optional[float]
    p99: Optional[float]
    highest: Optional[float]


def summarize(answered: Sequence[float], failed: int = 0) -> Latency:
    """The summary of the latencies ``answered``, in any order, and of ``failed`` requests more."""
    values = sorted(answered)
    return Latency(
        requests=len(values) + failed,
        failed=failed,
        mean=math.fsum(values) / len(values) if values else None,
        median=percentile(values, 0.5, failed),
        p95=percentile(values, 0.95, failed),
        p99=percentile(values, 0.99, failed),
        highest=values[-1] if values else None,
    )


def percentile(ascending: Sequence[float], share: float, failed: int = 0) -> Optional[float]:
    """The least value that at least ``share`` of all are not above (the nearest-rank definition).

    It is always a value that was measured; None if it lies among the failed ones.
    """
    if not 0 < share <= 1:
        raise ValueError("share must be above 0 and at most 1, but is %r" % share)
    # Rounded first, for 0.99 * 100 is slightly more than 99 in binary.
    rank = math.ceil(round(share * (len(ascending) + failed), 9))
    return ascending[rank - 1] if 0 < rank <= len(ascending) else None


def distribution(
    answered: Sequence[float], failed: int = 0, points: int = 400
) -> List[Tuple[float, float]]:
    """Of the cumulative distribution, pairs (seconds, share of all requests answered by then).

    At most ``points`` of them, at least 2, the last one being that of the slowest answer.
    """
    values = sorted(answered)
    total = len(values) + failed
    step = max(1, math.ceil(len(values) / max(points - 1, 1)))
    ranks = list(range(1, len(values), step)) + ([len(values)] if values else [])
    return [(values[rank - 1], rank / total) for rank in ranks]
