"""A stop of the service, from the first time that it is asked for."""

from __future__ import annotations

import logging
from typing import Optional

from bert_serving.server.processes import Event, Processes
from bert_serving.server.shutdown import Shutdown

__all__ = ["Stopping"]

logger = logging.getLogger(__name__)

#: Seconds beyond the time for what was accepted in which a ventilator and a sink that were lost may
#: come back, to tell that there is none left.
COME_BACK_WITHIN = 10.0


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
        self._is_given_up = False
        self.asked = 0

    @property
    def is_finishing(self) -> bool:
        return self._shutdown is not None

    def is_over(self, was_ready: bool) -> bool:
        """Whether the processes can be ended. Before the service was ready, it has no requests."""
        if self.asked > 1 or (self.asked and not was_ready) or self._is_given_up:
            return True
        return self._shutdown is not None and self._shutdown.is_over

    def begin(self, processes: Processes, now: float) -> None:
        """Ventilator and sink are there: let them finish what was accepted."""
        logger.info("stopping: finishing what was accepted")
        drain_until = self._end(now)
        has_http = any(child.is_ready for child in processes.of("http"))
        self._shutdown = Shutdown(
            max(0.0, drain_until - now), has_http and not self._http_is_through, now
        )

    def _end(self, now: float) -> float:
        """When the time for what was accepted is over; it runs from the first call on."""
        if self._drain_until is None:
            self._drain_until = now + self._drain_timeout
        return self._drain_until

    def _wait_for_pipeline(self, now: float) -> None:
        if self.asked and not self._is_given_up and now >= self._end(now) + COME_BACK_WITHIN:
            logger.warning("ventilator and sink didn't come back in time")
            self._is_given_up = True

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
        """Give the orders that are due, or give up when nobody comes who could take them."""
        if self._shutdown is None:
            self._wait_for_pipeline(now)
            return
        self._shutdown.look(now)
        for role, command, values in self._shutdown.orders():
            processes.tell(role, command, **values)
        while self._shutdown.remarks:
            logger.warning(self._shutdown.remarks.pop(0))
