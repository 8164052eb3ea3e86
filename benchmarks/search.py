"""The highest rate at which a condition holds, by doubling and bisection. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Optional

__all__ = ["Search", "highest_rate"]

#: Factor of the rate in the steps that look for an interval to bisect.
STEP = 2.0
#: Steps down from the first rate, and up from it, after which the search gives up.
MOST_STEPS = 10


@dataclass(frozen=True)
class Search:
    """``held`` is the highest rate tried that held, ``failed`` the lowest above it that didn't.

    ``held`` is None if none held down to a 1,024th of the first, ``failed`` if all did up to 1,024
    times it. Otherwise failed / held is at most 1 + ``resolution``.
    """

    held: Optional[float]
    failed: Optional[float]
    resolution: float


def highest_rate(holds: Callable[[float], bool], first: float, resolution: float) -> Search:
    """Search by calling ``holds`` with rates, beginning with ``first``.

    It is assumed that whatever holds at a rate holds at lower ones too. Where measurements waver
    around the bound, the result is one crossing of it.
    """
    if first <= 0 or resolution <= 0:
        raise ValueError(
            "first and resolution must be positive, but are %r and %r" % (first, resolution)
        )
    held: Optional[float] = None
    failed: Optional[float] = None
    rate = first
    for _ in range(MOST_STEPS + 1):
        if holds(rate):
            held = rate
            rate *= STEP
        else:
            failed = rate
            rate /= STEP
        if held is not None and failed is not None:
            break
    while held is not None and failed is not None and failed / held > 1 + resolution:
        # The geometric mean: the resolution is relative.
        middle = math.sqrt(held * failed)
        if holds(middle):
            held = middle
        else:
            failed = middle
    return Search(held, failed, resolution)
