"""How busy a machine is before anything is measured on it: others' work spoils ratios too, for two
sides suffer differently from sharing cores.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Tuple

__all__ = ["busy_share", "share_between"]

#: Seconds to watch the machine for.
WATCH = 1.0


def busy_share() -> float:
    """The share of all cores' time, from 0 to 1, that is used during a second from now."""
    first = Path("/proc/stat").read_text(encoding="ascii")
    time.sleep(WATCH)
    return share_between(first, Path("/proc/stat").read_text(encoding="ascii"))


def share_between(first: str, second: str) -> float:
    """Of two readings of /proc/stat; waiting for disks and time taken by a hypervisor is no use.

    The columns are user, nice, system, idle, iowait, irq, softirq and steal (proc(5)).
    """
    before, after = _times(first), _times(second)
    passed = [late - early for early, late in zip(before, after)]
    used = passed[0] + passed[1] + passed[2] + passed[5] + passed[6]
    return used / sum(passed) if sum(passed) else 0.0


def _times(text: str) -> Tuple[int, ...]:
    """Ticks of all cores together since the machine started."""
    words = text.split("\n", 1)[0].split()
    return tuple(int(word) for word in words[1:9])
