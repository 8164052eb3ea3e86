"""A connection of HTTP: uvicorn's protocol, with the bounds that it lacks.

uvicorn and its parser take heads of requests of any length and wait for them for ever, before the
application, and with it any API key, is asked. And they keep an answer until the client has taken
it, however long that takes. Here both have a bound.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Awaitable, Callable, MutableMapping, Optional, Type

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["MAX_HEAD", "BoundedProtocol", "in_portions", "protocol_within", "until_taken"]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

#: Bytes of a request's head, and of all else that is neither head nor body, such as trailers.
MAX_HEAD = 64 * 1024
#: Bytes that the parser gets at a time: beyond MAX_HEAD no more than these are looked at.
PARSED_PORTION = 16 * 1024
#: Requests of a connection that may wait for the answer to the one before.
MAX_WAITING = 32
#: Bytes of an answer's body that are written at a time.
BODY_PORTION = 256 * 1024
#: In a request's scope: what waits until the client has taken what was written.
TAKEN = "bert_serving.taken"


class BoundedProtocol(HttpToolsProtocol):
    """``seconds``: for a head to come, and for an answer to be taken."""

    seconds = 60.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._outside = 0  # bytes since the last head was complete or the last of a body
        self._in_head = False
        self._is_lost = False
        self._is_between = True  # no request has begun that isn't complete
        self._sending: Optional[asyncio.TimerHandle] = None  # it is the client's turn to send
        self._taking: Optional[asyncio.TimerHandle] = None  # or to take what was written

    # ------------------------------------------------------------------ the transport's calls

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._sending = self.loop.call_later(self.seconds, self._not_sent)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._is_lost = True
        self._stop_sending_timer()
        self._stop_taking_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PARSED_PORTION):
            portion = data[start : start + PARSED_PORTION]
            self._outside += len(portion)
            super().data_received(portion)
            if self.transport.is_closing():
                break
            if self._outside > MAX_HEAD or len(self.pipeline) > MAX_WAITING:
                self._refuse(431, "The request's head has more than %d bytes." % MAX_HEAD)
                break
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taken()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look_whether_taken()

    # --------------------------------------------------------------------- the parser's calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._is_between = True, False
        scope: Any = self.scope
        scope["extensions"] = {TAKEN: {"wait": self.flow.drain}}

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head, self._outside = False, 0
        self._stop_sending_timer()

    def on_body(self, body: bytes) -> None:
        self._outside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_between = True
        self._stop_sending_timer()

    # ----------------------------------------------------------------------- uvicorn's calls

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look_whether_taken()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_taken()

    def shutdown(self) -> None:
        super().shutdown()
        if not self._is_serving():
            self._expect_taken()

    # ------------------------------------------------------------------------------- our own

    def abandon(self) -> None:
        """Cut the connection if it only waits for the client to take what was written."""
        if self.flow.write_paused or not self._is_serving():
            self.transport.abort()

    def _is_serving(self) -> bool:
        """Whether a request is with the application, or waits for the one before."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        """See to it that a timer runs unless it is the application's turn."""
        if self.transport.is_closing():
            self._expect_taken()
        elif self._sending is not None or self._is_serving():
            return
        elif not self._is_between:
            self._sending = self.loop.call_later(self.seconds, self._not_sent)
        elif self.timeout_keep_alive_task is None:
            # uvicorn has stopped it for the rest of a body that nobody wanted, or for empty lines.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _stop_sending_timer(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _not_sent(self) -> None:
        self._sending = None
        if not self.transport.is_closing():
            self._refuse(408, "The request's head didn't come within %g s." % self.seconds)

    def _refuse(self, status: int, message: str) -> None:
        """Close the connection, and say why if that can't be taken for another request's answer."""
        if self._in_head and not self._is_serving():
            line = "HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase)
            headers = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
            length = "Content-Length: %d\r\n\r\n" % len(message)
            self.transport.write((line + headers + length + message).encode("ascii"))
        self.transport.close()
        self._expect_taken()

    def _expect_taken(self) -> None:
        if self._taking is None and not self._is_lost:
            self._taking = self.loop.call_later(self.seconds, self._not_taken)

    def _look_whether_taken(self) -> None:
        """The time is that of the whole answer, or who takes a little now and then had any."""
        if not (self.flow.write_paused or self._is_serving() or self.transport.is_closing()):
            self._stop_taking_timer()

    def _stop_taking_timer(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _not_taken(self) -> None:
        self._taking = None
        self.transport.abort()


def protocol_within(seconds: float) -> Type[BoundedProtocol]:
    """The protocol with this much time for a head to come, and for an answer to be taken."""
    return type("BoundedProtocol", (BoundedProtocol,), {"seconds": seconds})


def in_portions(send: Send) -> Send:
    """``send`` with bodies in portions, each after the client has taken most of those before.

    Of a body at once the whole would be in the transport's memory; and below TLS, that of asyncio
    as well as uvloop's, nobody would be told that it isn't taken.
    """

    async def send_portions(message: Message) -> None:
        body = message.get("body", b"")
        if len(body) <= BODY_PORTION:
            await send(message)
            return
        last = (len(body) - 1) // BODY_PORTION * BODY_PORTION
        for start in range(0, last, BODY_PORTION):
            portion = body[start : start + BODY_PORTION]
            await send(dict(message, body=portion, more_body=True))
        await send(dict(message, body=body[last:]))

    return send_portions


async def until_taken(scope: MutableMapping[str, Any]) -> None:
    """Wait until the client has taken most of what was written, or its connection has ended.

    Other servers' scopes, and tests', don't tell.
    """
    taken = (scope.get("extensions") or {}).get(TAKEN)
    if taken is not None:
        await taken["wait"]()
