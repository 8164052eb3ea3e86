"""What became of each request. Safe to use from several threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import Any, Dict, Iterator

__all__ = ["Tally"]


class Tally:
    """Requests of one kind of client.

    ``sent`` counts those that were begun, ``outcomes`` how they ended: "right", "wrong", or the
    name of an exception. ``longest`` is how many seconds one took.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent = 0
        self.outcomes: "Counter[str]" = Counter()
        self.longest = 0.0
        self._under_way: Dict[int, float] = {}

    @contextmanager
    def request(self) -> Iterator[Any]:
        """Around a request: the block calls what it gets with the outcome, or raises it."""
        began = time.monotonic()
        with self._lock:
            self.sent += 1
            number = self.sent
            self._under_way[number] = began
        outcome = "nothing said"

        def tell(what: str) -> None:
            nonlocal outcome
            outcome = what

        try:
            yield tell
        finally:
            with self._lock:
                self.outcomes[outcome] += 1
                self.longest = max(self.longest, time.monotonic() - began)
                del self._under_way[number]

    def overdue(self, seconds: float) -> int:
        """How many requests have been under way for longer than that."""
        now = time.monotonic()
        with self._lock:
            return sum(now - began > seconds for began in self._under_way.values())

    @property
    def answered(self) -> int:
        with self._lock:
            return sum(self.outcomes.values())

    def report(self) -> Dict[str, Any]:
        """All of it, for JSON."""
        with self._lock:
            return {
                "sent": self.sent,
                "answered": sum(self.outcomes.values()),
                "outcomes": dict(sorted(self.outcomes.items())),
                "longest_seconds": round(self.longest, 2),
            }
