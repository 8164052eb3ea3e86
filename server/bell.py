"""How other threads and signal handlers ask the supervisor for something."""

from __future__ import annotations

import os
import threading

__all__ = ["Bell"]


class Bell:
    """A pipe: whoever waits at ``fd`` reads there what was asked for, in bytes."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        # Reentrant, for a signal handler may interrupt ring() itself.
        self._lock = threading.RLock()
        self._is_closed = False

    def ring(self, what: bytes) -> None:
        """Ask; safe in signal handlers. Nothing happens if nobody listens any more."""
        with self._lock:
            if not self._is_closed:
                os.write(self._write_fd, what)

    def close(self) -> None:
        """Safe to call twice."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self.fd)
                os.close(self._write_fd)
