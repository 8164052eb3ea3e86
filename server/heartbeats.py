"""Which processes are alive: each says so twice a second, and one that is silent for long isn't.

Pure: ``now`` is in seconds on any steady clock.

A process says it from a thread of its own, which goes on while the others compute. It may still be
silent and well: some calls, such as reading a very long JSON text, let no other thread run, and the
machine may be too busy to let it run at all. So one that spends processor time in its silence, or
waits for a processor or a disk, gets longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

__all__ = ["BEAT", "Heartbeats"]

#: Seconds from one sign of life to the next.
BEAT = 0.5
#: Seconds of silence after which a process that does nothing counts as hung, and one that is busy.
SILENCE, BUSY_SILENCE = 3.0, 30.0
#: The first for those that all requests go through.
SHORT_SILENCE = 1.75
#: The same while it starts: imports and the loading of models stop all threads at times.
STARTING_SILENCE, BUSY_STARTING_SILENCE = 20.0, 120.0
#: Seconds of silence from which on the processor time is watched, and the share of it that is busy.
SUSPICIOUS, BUSY_SHARE = 0.75, 0.1
#: Whoever didn't look for so many seconds was asleep itself, and so, it may be, was everybody.
ASLEEP = 1.0


@dataclass
class _Pulse:
    heard: float
    silence: float
    is_ready: bool = False
    suspected: Optional[Tuple[float, Optional[float]]] = None  # since when; processor time then


class Heartbeats:
    """``processor_seconds`` tells how many a process has spent; None: nobody knows. ``is_held_up``
    tells whether it would do something now, but for the machine.
    """

    def __init__(
        self,
        processor_seconds: Callable[[str], Optional[float]],
        is_held_up: Callable[[str], bool],
    ) -> None:
        self._processor_seconds = processor_seconds
        self._is_held_up = is_held_up
        self._pulses: Dict[str, _Pulse] = {}
        self._looked_at: Optional[float] = None

    def expect(self, name: str, now: float, silence: float = SILENCE) -> None:
        """A process was started. Once it is ready, it hangs if it does nothing and is silent for so
        many seconds.
        """
        self._pulses[name] = _Pulse(now, silence)

    def forget(self, name: str) -> None:
        """A process is gone."""
        self._pulses.pop(name, None)

    def heard(self, name: str, now: float) -> None:
        """A process gave a sign of life."""
        pulse = self._pulses[name]
        pulse.heard, pulse.suspected = now, None

    def ready(self, name: str) -> None:
        """A process has started."""
        self._pulses[name].is_ready = True

    def hung(self, now: float) -> List[Tuple[str, float]]:
        """The processes that count as hung, and for how many seconds they were silent.

        To be called several times a second, after what was heard meanwhile has been told.
        """
        if self._looked_at is not None and now - self._looked_at > ASLEEP:
            for pulse in self._pulses.values():
                pulse.heard, pulse.suspected = now, None
        self._looked_at = now
        return [
            (name, now - pulse.heard)
            for name, pulse in self._pulses.items()
            if now - pulse.heard >= SUSPICIOUS and self._is_hung(name, pulse, now)
        ]

    def _is_hung(self, name: str, pulse: _Pulse, now: float) -> bool:
        silence = now - pulse.heard
        limits = pulse.silence, BUSY_SILENCE
        if not pulse.is_ready:
            limits = STARTING_SILENCE, BUSY_STARTING_SILENCE
        if pulse.suspected is None:
            pulse.suspected = now, self._processor_seconds(name)
        if silence < limits[0]:
            return False
        since, before = pulse.suspected
        spent = self._processor_seconds(name)
        if before is None or spent is None:
            return True
        is_busy = spent - before > BUSY_SHARE * (now - since) or self._is_held_up(name)
        return silence >= limits[is_busy]
