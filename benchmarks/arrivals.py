"""When requests of independent users come: a Poisson process. Pure."""

from __future__ import annotations

import numpy as np

__all__ = ["poisson_arrivals"]


def poisson_arrivals(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Ascending times in [0, seconds), float64 [number of arrivals], ``rate`` a second on average.

    The gaps of a Poisson process are independent and exponential with mean 1 / rate. The same
    seed gives the same arrivals, and at another rate the same ones stretched.
    """
    if rate <= 0 or seconds <= 0:
        raise ValueError("rate and seconds must be positive, but are %r and %r" % (rate, seconds))
    random = np.random.RandomState(seed)
    times = np.empty(0)
    reached = 0.0
    while reached < seconds:
        # A fixed size, so that the stream of random numbers doesn't depend on rate and seconds.
        gaps = random.standard_exponential(1024) / rate
        times = np.concatenate([times, reached + np.cumsum(gaps)])
        reached = float(times[-1])
    return times[times < seconds]
