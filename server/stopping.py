"""A stop of the service, from the first time that it is asked for."""

from __future__ import annotations

import logging
from typing import Optional

from bert_serving.server.processes import Event, Processes
from bert_serving.server.shutdown import Shutdown

__all__ = ["Stopping"]

logger = logging.getLogger(__name__)


class Stopping:
    """Does with the processes what :mod:`shutdown` decides.

    ``asked``: how often a stop was asked for; the second time it doesn't wait for requests.
    ``is_finishing``: requests are being finished.
    """

    def __init__(self, drain_timeout: float) -> None:
        self._drain_timeout = drain_timeout
        self._drain_until: Optional[float] = None
        self._shutdown: Optional[Shutdown] = None
        self._http_is_through = False
        self.asked = 0

    @property
    def is_finishing(self) -> bool:
        return self._shutdown is not None

    def is_over(self, was_ready: bool) -> bool:
        """Whether the processes can be ended. Before the service was ready, it has no requests."""
        if self.asked > 1 or (self.asked and not was_ready):
            return True
        return self._shutdown is not None and self._shutdown.is_over

    def begin(self, processes: Processes, now: float) -> None:
        """Ventilator and sink are there: let them finish what was accepted."""
        logger.info("stopping: finishing what was accepted")
        if self._drain_until is None:
            self._drain_until = now + self._drain_timeout
        has_http = any(child.is_ready for child in processes.of("http"))
        self._shutdown = Shutdown(
            max(0.0, self._drain_until - now), has_http and not self._http_is_through, now
        )

    def interrupt(self) -> None:
        """Ventilator or sink are lost; it begins anew when they are there again."""
        if self._shutdown is not None:
            self._http_is_through = not self._shutdown.has_http
            self._shutdown = None

    def reported(self, event: Event, now: float) -> None:
        """A process has reported an event."""
        if event["event"] == "http_drained":
            self._http_is_through = True
        if self._shutdown is not None:
            self._shutdown.reported(event, now)

    def lost_http(self, now: float) -> None:
        """The HTTP process has died, and isn't replaced any more."""
        self.reported({"event": "http_drained"}, now)

    def go_on(self, processes: Processes, now: float) -> None:
        """Give the orders that are due."""
        if self._shutdown is None:
            return
        self._shutdown.look(now)
        for role, command, values in self._shutdown.orders():
            processes.tell(role, command, **values)
        while self._shutdown.remarks:
            logger.warning(self._shutdown.remarks.pop(0))
