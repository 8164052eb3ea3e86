"""The ventilator's way to the sink: what becomes of requests that isn't vectors."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import zmq

from bert_serving.client import multipart
from bert_serving.client.protocol import Request
from bert_serving.server.request_messages import RequestFailed
from bert_serving.server.stats import Statistics

__all__ = ["Answers", "asks_again"]


def asks_again(request: Request) -> bool:
    """Whether its client does, if request or reply are lost with a connection."""
    return request.options is not None


class Answers:
    """A socket to ``endpoint``; errors are counted."""

    def __init__(self, context: zmq.Context, endpoint: str, statistics: Statistics) -> None:
        self._statistics = statistics
        self._sink = context.socket(zmq.PUSH)
        self._sink.set_hwm(0)
        self._sink.setsockopt(zmq.LINGER, 1000)
        self._sink.connect(endpoint)

    def close(self) -> None:
        self._sink.close()

    def send(self, message: Any) -> None:
        """Tell the sink; ``message`` is one of its own."""
        multipart.send(self._sink, message.frames())

    def fail(
        self,
        handle: Optional[int],
        request: Request,
        kind: str,
        message: str,
        retry_after: Optional[float] = None,
    ) -> None:
        """Answer with an error; ``handle`` is None if the request was never accepted."""
        self.fail_named(handle, request.name, asks_again(request), kind, message, retry_after)

    def fail_named(
        self,
        handle: Optional[int],
        name: Tuple[bytes, int],
        repeats: bool,
        kind: str,
        message: str,
        retry_after: Optional[float] = None,
    ) -> None:
        """The same for a request of which no more is known than whose it is and its number;
        ``repeats``: its client asks again.
        """
        self._statistics.count_error(kind)
        self.send(RequestFailed(handle, *name, kind, message, retry_after, repeats))
