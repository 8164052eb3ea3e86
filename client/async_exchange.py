"""Lets any number of an event loop's tasks send requests and wait for replies over one connection.

What ``exchange.py`` is for threads. ZeroMQ's sockets tell of what comes by files, which the loop
watches; there is no thread.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import Iterable, Optional, Set

from bert_serving.client.calls import Call
from bert_serving.client.connection import Connection
from bert_serving.client.errors import BertServingError, ConnectionFailed, ProtocolError
from bert_serving.client.frames import encode_request
from bert_serving.client.inbound import deliver_frames
from bert_serving.client.protocol import Request
from bert_serving.client.requests import Inbox, RequestLedger, Taken
from bert_serving.client.usable import check_process, closed

__all__ = ["AsyncExchange", "AsyncInbox"]

#: How many messages are read before other tasks get their turn.
READ_AT_ONCE = 64


class AsyncInbox(Inbox):
    """An inbox that wakes the task that waits for it."""

    __slots__ = ("waiter", "failure", "timer")

    def __init__(self) -> None:
        super().__init__()
        self.waiter: "Optional[asyncio.Future[None]]" = None
        self.failure: Optional[BaseException] = None
        self.timer: Optional[asyncio.TimerHandle] = None

    def note(self) -> None:
        super().note()
        self.wake()

    def fail(self, error: BaseException) -> None:
        """Let the task raise ``error``; it gets nothing more."""
        self.failure = error
        self.wake()

    def wake(self) -> None:
        """Let the task look again at what there is."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class AsyncExchange:
    """Requests out, replies in, for the event loop that runs when it is made.

    When a lost connection is there again, what isn't answered is asked again. Methods raise
    ClientClosed after :meth:`close`, ClientForked in a forked child, RuntimeError in another event
    loop, and ConnectionFailed if a socket fails.
    """

    def __init__(self, connection: Connection, identity: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._identity = identity
        self._ledger = RequestLedger(identity)
        self._inboxes: Set[AsyncInbox] = set()
        self._closed = False
        self._pid = os.getpid()
        self._is_reading = False
        self._receiver, self._monitors = connection.descriptors()
        self._loop.add_reader(self._receiver, self._read)
        for monitor in self._monitors:
            self._loop.add_reader(monitor, self._notice)
        # What came before is announced by nothing.
        self._loop.call_soon(self._notice)

    @property
    def last_id(self) -> int:
        return self._ledger.last_id

    @property
    def dropped(self) -> int:
        return self._ledger.dropped

    def pending(self) -> Set[int]:
        """The ids of requests whose reply nobody has taken."""
        return self._ledger.pending

    # -------------------------------------------------------------------------------- sending

    def submit(self, inbox: AsyncInbox, call: Call) -> None:
        """Send a request whose replies go to ``inbox``; it has to be forgotten in the end.

        When the time of ``call`` is over, waiting for the inbox raises RequestTimeout.
        """
        self.check()
        deadline = None if call.seconds is None else time.monotonic() + call.seconds
        request = self._ledger.open(inbox, call, deadline)
        try:
            self._send((request,))
        except BaseException:
            self._ledger.cancel(request.request_id)
            raise
        self._inboxes.add(inbox)
        if call.seconds is not None:
            inbox.timer = self._loop.call_later(call.seconds, self._expire, inbox, call.seconds)

    def _send(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._connection.send(encode_request(request))

    def _expire(self, inbox: AsyncInbox, seconds: float) -> None:
        inbox.fail(self._connection.timeout(seconds))

    # ------------------------------------------------------------------------------ receiving

    async def ask(self, call: Call, inbox: Optional[AsyncInbox] = None) -> Taken:
        """Send a request and wait for its reply.

        If that ends early, the server is told to drop it, and a late reply is dropped here. Who
        names an ``inbox``, an empty one, can end it by :meth:`forget`: StopAsyncIteration.
        """
        inbox = AsyncInbox() if inbox is None else inbox
        try:
            self.submit(inbox, call)
            taken = await self.next_reply(inbox)
        finally:
            self.forget(inbox)
        if taken is None:
            raise StopAsyncIteration
        return taken

    async def next_reply(self, inbox: AsyncInbox) -> Optional[Taken]:
        """What came first to ``inbox``; None when it waits for nothing, or nothing more."""
        assert inbox.waiter is None, "an inbox wakes one task"
        while not inbox.has_some:
            self.check()
            if inbox.failure is not None:
                raise inbox.failure
            if not inbox.outstanding:
                return None
            inbox.waiter = self._loop.create_future()
            try:
                await inbox.waiter
            finally:
                inbox.waiter = None
        return self._ledger.take(inbox)

    def _read(self) -> None:
        """Take what has come; the loop calls this once for any number of messages."""
        self._is_reading = False
        try:
            for _ in range(READ_AT_ONCE):
                frames = None if self._closed else self._connection.read()
                if frames is None:
                    return
                deliver_frames(self._ledger, self._identity, frames)
                self._send(self._ledger.complete(time.monotonic()))
        except ProtocolError as error:
            self._fail(error)  # of whom can't be told: it may be anybody's
        except ConnectionFailed as error:
            self._fail(error)
            return
        self._read_soon()

    def _read_soon(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._loop.call_soon(self._read)

    def _notice(self) -> None:
        """The connection has changed, or may have."""
        if self._closed:
            return
        try:
            self._connection.read_monitors()
            if self._connection.has_come_back():
                self._send(self._ledger.open_again(time.monotonic()))
        except ConnectionFailed as error:
            self._fail(error)
            return
        self._read_soon()

    def _fail(self, error: BertServingError) -> None:
        """Let every task that waits raise ``error``, each an exception of its own."""
        for inbox in self._inboxes:
            own = type(error)(str(error))
            own.__cause__ = error.__cause__
            inbox.fail(own)

    # ------------------------------------------------------------------------------- keeping

    def forget(self, inbox: AsyncInbox) -> None:
        """Drop what is outstanding or untaken in ``inbox``; the server is told if it can be.

        A task that waits for it gets None.
        """
        if os.getpid() != self._pid:
            return
        self._inboxes.discard(inbox)
        if inbox.timer is not None:
            inbox.timer.cancel()
        cancelled = self._ledger.forget(inbox)
        if cancelled and not self._closed:
            # What isn't wanted any more hides no error.
            with suppress(ConnectionFailed):
                self._send(cancelled)
        if not self._loop.is_closed():
            inbox.wake()

    def close(self) -> None:
        """Close the connection; tasks that wait get ClientClosed. Safe to call twice.

        In a forked child it does nothing: the sockets are the parent's.
        """
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        if not self._loop.is_closed():
            for descriptor in (self._receiver, *self._monitors):
                self._loop.remove_reader(descriptor)
            self._fail(closed())
        self._connection.close()

    def check(self) -> None:
        """Raise what the class says unless this can be used here."""
        check_process(self._pid)
        if self._closed:
            raise closed()
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this client belongs to another event loop: make one in each loop that needs it"
            )
