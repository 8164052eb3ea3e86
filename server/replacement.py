"""When a process that was lost is replaced, and when a pipeline that was lost is started again.

Pure: ``now`` is in seconds on any steady clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

__all__ = ["Restarts", "Slot"]

#: Seconds before a process is replaced that couldn't even start, and the most that this grows to:
#: it doubles with each death. Without workers there is no service, so that isn't much.
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.5, 5.0
#: The same for one that died within ``YOUNG`` seconds of being ready. The batch it was given may
#: have been too much for it, and the next one won't be, so this begins low.
FIRST_BACK_OFF_IF_READY, YOUNG = 0.05, 2.0
#: So often in a row a pipeline is started again that was lost before it was up for ``YOUNG`` s.
MOST_RESTARTS = 5


@dataclass(eq=False)
class Slot:
    """A place for a process that is replaced when it dies."""

    role: str
    name: str
    device: int = -1  # a worker's GPU; -1: CPU
    restart_at: Optional[float] = 0.0  # None: it is there
    early_deaths: int = 0  # one after the other

    def is_due(self, now: float) -> bool:
        """Whether a process is to be started in it."""
        return self.restart_at is not None and self.restart_at <= now

    def fill(self) -> None:
        """A process was started."""
        self.restart_at = None

    def lose(self, ready_at: Optional[float], now: float) -> float:
        """The process is gone, which was ready at ``ready_at``, or never.

        Returns after how many seconds the next one is to be started.
        """
        wait = 0.0
        if ready_at is not None and now - ready_at > YOUNG:
            self.early_deaths = 0
        else:
            first = FIRST_BACK_OFF if ready_at is None else FIRST_BACK_OFF_IF_READY
            # The exponent has a bound, for floats have one.
            wait = min(first * 2.0 ** min(self.early_deaths, 16), LONGEST_BACK_OFF)
            self.early_deaths += 1
        self.restart_at = now + wait
        return wait


class Restarts:
    """How often in a row the pipeline was started again without being of use."""

    def __init__(self) -> None:
        self._in_vain = 0

    def may(self, up_since: Optional[float], now: float) -> bool:
        """Whether one that was lost, and was up since then or never, may be started again."""
        is_young = up_since is None or now - up_since <= YOUNG
        self._in_vain = self._in_vain + 1 if is_young else 0
        return self._in_vain <= MOST_RESTARTS
