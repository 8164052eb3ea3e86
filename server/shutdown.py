"""The order of stopping, in which every request that was accepted is answered:

1. the HTTP process, if there is one, says that it isn't ready any more, takes no new connections
   and finishes the requests that it has;
2. the ventilator takes no new requests and finishes those it has, or answers them with an error
   when the time for it is over;
3. the sink sends the last reply;
4. HTTP, if it wasn't through, passes on the errors that it got in the second step.

If ventilator or sink are lost meanwhile, they are started again, and the order begins anew.

Pure: ``now`` is in seconds on any steady clock. The supervisor does what is decided here, and then
ends the processes.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Dict, List, NamedTuple

__all__ = ["Order", "Shutdown"]

#: Seconds for the last replies to be sent, when no request is left.
FLUSH_TIMEOUT = 3.0


class Order(NamedTuple):
    """A command for the processes of a role."""

    role: str
    command: str
    values: Dict[str, Any]


class _Step(Enum):
    HTTP = "some HTTP requests take longer"
    VENTILATOR = "the ventilator didn't finish in time"
    SINK = "some replies were not fetched in time"
    LATE_HTTP = "some HTTP requests were not answered"
    OVER = ""


class Shutdown:
    """See the module's docstring. ``remarks`` are for the log: what went wrong."""

    def __init__(self, timeout: float, has_http: bool, now: float) -> None:
        """``timeout``: seconds for the requests that are under way."""
        self._end = now + timeout
        self._has_http = has_http  # and it isn't through
        self._step = _Step.HTTP
        self._deadline = self._end
        self.remarks: List[str] = []
        self._orders = [Order("http", "drain", {})]
        if not has_http:
            self._orders = []
            self._drain_ventilator(now)

    @property
    def has_http(self) -> bool:
        """Whether HTTP has requests that aren't answered, or may have."""
        return self._has_http

    @property
    def is_over(self) -> bool:
        """Whether the processes can be ended."""
        return self._step is _Step.OVER

    def orders(self) -> List[Order]:
        """What is to be told since the last call."""
        orders, self._orders = self._orders, []
        return orders

    def reported(self, event: Dict[str, Any], now: float) -> None:
        """A process has reported an event."""
        name = event["event"]
        if name == "http_drained":
            self._has_http = False
            if self._step is _Step.HTTP:
                self._drain_ventilator(now)
            elif self._step is _Step.LATE_HTTP:
                self._step = _Step.OVER
        elif name == "drained" and self._step is _Step.VENTILATOR:
            self._begin(_Step.SINK, now + FLUSH_TIMEOUT)
            self._orders.append(Order("sink", "flush", {"accepted": event["accepted"]}))
        elif name == "flushed" and self._step is _Step.SINK:
            self._finish_http(now)

    def lost_http(self, now: float) -> None:
        """The HTTP process, which isn't replaced any more, has died."""
        self.reported({"event": "http_drained"}, now)

    def look(self, now: float) -> None:
        """Time has passed."""
        if self.is_over or now < self._deadline:
            return
        if self._step is not _Step.HTTP:
            self.remarks.append(self._step.value)
        if self._step is _Step.HTTP:
            self._drain_ventilator(now)
        elif self._step is _Step.SINK:
            self._finish_http(now)
        else:
            self._step = _Step.OVER

    def _begin(self, step: _Step, deadline: float) -> None:
        self._step, self._deadline = step, deadline

    def _drain_ventilator(self, now: float) -> None:
        # It ends them itself at the end of that time.
        self._begin(_Step.VENTILATOR, max(now, self._end) + FLUSH_TIMEOUT)
        self._orders.append(Order("ventilator", "drain", {"timeout": max(0.0, self._end - now)}))

    def _finish_http(self, now: float) -> None:
        if self._has_http:
            self._begin(_Step.LATE_HTTP, now + FLUSH_TIMEOUT)
        else:
            self._step = _Step.OVER
