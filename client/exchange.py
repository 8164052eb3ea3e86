"""Lets several threads send requests and wait for replies over one connection.

Whoever waits and finds nobody at the socket receives for all: it puts each message into the
inbox that it belongs to, until its own reply is among them, and then leaves the socket to the
next. So a blocking call, a fetch and an encode_async can wait side by side, and none takes or
holds up another's reply.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterable, List, Optional, Set

from bert_serving.client.calls import Call
from bert_serving.client.connection import Connection
from bert_serving.client.errors import ConnectionFailed
from bert_serving.client.frames import encode_request
from bert_serving.client.inbound import deliver_frames
from bert_serving.client.protocol import Request, VectorsReply
from bert_serving.client.requests import Inbox, RequestLedger, Taken
from bert_serving.client.streams import PartIterator
from bert_serving.client.usable import check_process, closed

__all__ = ["Exchange"]


class Exchange:
    """Requests out, replies in. ``seconds`` are how long to wait for a reply; None: no limit.

    When a lost connection is there again, what isn't answered is asked again. Methods raise
    ClientClosed after :meth:`close`, ClientForked in a forked child, ConnectionFailed if a socket
    fails, and those that wait raise RequestTimeout.
    """

    def __init__(self, connection: Connection, identity: bytes) -> None:
        self._connection = connection
        self._identity = identity
        self._ledger = RequestLedger(identity)
        # Guards the ledger and the sending socket; notified when an inbox changes, when the
        # receiving socket is free, and on close().
        self._changed = threading.Condition()
        self._receiver: Optional[int] = None  # the thread that is at the receiving socket
        self._awaited: Optional[Inbox] = None  # the inbox for which it is there
        self._closed = False
        # Looked at before the lock: in a forked child, one that another thread held stays locked.
        self._pid = os.getpid()

    # -------------------------------------------------------------------------------- sending

    def submit(self, inbox: Inbox, call: Call) -> int:
        """Send a request whose reply goes to ``inbox``; its id."""
        check_process(self._pid)
        with self._changed:
            self._check_open()
            deadline = None if call.seconds is None else time.monotonic() + call.seconds
            request = self._ledger.open(inbox, call, deadline)
            try:
                self._connection.send(encode_request(request))
            except BaseException:
                self._ledger.cancel(request.request_id)
                raise
            self._changed.notify_all()
            return request.request_id

    def feed(self, inbox: Inbox, call: Call, window: int) -> bool:
        """Submit once fewer than ``window`` requests of ``inbox`` are untaken.

        False, and nothing is sent, when the inbox gets closed first.
        """
        check_process(self._pid)
        with self._changed:
            while inbox.is_open and len(inbox) >= window:
                self._check_open()
                self._changed.wait()
            if inbox.is_open:
                self.submit(inbox, call)
            return inbox.is_open

    def _send(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._connection.send(encode_request(request))

    # ------------------------------------------------------------------------------ receiving

    def ask(self, call: Call) -> Taken:
        """Send a request and wait for its reply, as long as the call says.

        If that ends early, the server is told to drop it, and a late reply is dropped here.
        """
        inbox = Inbox()
        deadline = None if call.seconds is None else time.monotonic() + call.seconds
        try:
            self.submit(inbox, call)
            taken = self.next_reply(inbox, call.seconds, deadline)
        finally:
            self.forget(inbox)
        assert taken is not None, "a request of its own inbox can't be taken by another"
        return taken

    def ask_in_parts(self, call: Call) -> PartIterator:
        """Send a request of a stream; iterates over what :meth:`ask` would return for each part."""
        inbox = Inbox()
        deadline = None if call.seconds is None else time.monotonic() + call.seconds
        self.submit(inbox, call)

        def take() -> Taken:
            taken = self.next_reply(inbox, call.seconds, deadline)
            if taken is None:
                raise StopIteration
            return taken

        return PartIterator(take, lambda: self.forget(inbox))

    def next_reply(
        self, inbox: Inbox, seconds: Optional[float], deadline: Optional[float] = None
    ) -> Optional[Taken]:
        """What came first to ``inbox``; None when it waits for nothing, or nothing more.

        ``seconds`` count from now, unless a ``deadline`` is named as well.
        """
        check_process(self._pid)
        with self._changed:
            self._check_open()
            while not inbox.has_some:
                if not self._wait_for_another(inbox, seconds, deadline):
                    return None
            self._changed.notify_all()  # feed() may have waited for room
            return self._ledger.take(inbox)

    def all_replies(
        self,
        inbox: Inbox,
        seconds: Optional[float],
        check: Optional[Callable[[Iterable[VectorsReply]], None]] = None,
    ) -> List[Taken]:
        """The replies of the whole inbox, once nothing is outstanding, in order of arrival.

        ``seconds`` is how long to wait for each one. If a request failed, only the reply that
        says so is taken, and the rest can still be. So can all if ``check`` raises, which gets them
        before they are taken.
        """
        check_process(self._pid)
        with self._changed:
            self._check_open()
            while inbox.outstanding:
                self._wait_for_another(inbox, seconds)
            for request_id, reply in inbox.arrived.items():
                if not isinstance(reply, VectorsReply):
                    return [self._ledger.take_id(inbox, request_id)]
            if check is not None:
                check(inbox.arrived.values())
            return self._ledger.take_all(inbox)

    def _wait_for_another(
        self, inbox: Inbox, seconds: Optional[float], fixed: Optional[float] = None
    ) -> bool:
        """Wait until a reply comes to ``inbox``; False when none will. The lock is held, once.

        A ``fixed`` deadline takes the place of one in ``seconds``.
        """
        before = inbox.received
        deadline = fixed
        while inbox.received == before:
            self._check_open()
            if not inbox.outstanding:
                if not inbox.is_open:
                    return False
                deadline = fixed  # the time that passes before something is sent doesn't count
                self._changed.wait()
                continue
            if deadline is None and seconds is not None:
                deadline = time.monotonic() + seconds
            if self._receiver is None:
                self._receive_one(inbox, deadline)
            else:
                self._changed.wait(_remaining(deadline))
            if inbox.received == before and _remaining(deadline) == 0:
                self._check_open()
                raise self._connection.timeout(seconds)
        return True

    def _receive_one(self, inbox: Inbox, deadline: Optional[float]) -> None:
        """Be the one at the socket until something happens there, or ``inbox`` is forgotten.

        The lock is free meanwhile.
        """
        self._receiver, self._awaited = threading.get_ident(), inbox
        self._changed.release()
        try:
            frames = self._connection.receive(_remaining(deadline))
        finally:
            self._changed.acquire()
            self._receiver = self._awaited = None
            self._changed.notify_all()
            if self._closed:  # close() has left the sockets to the thread that used them
                self._connection.close()
        if self._closed:
            return
        if self._connection.has_come_back():
            self._send(self._ledger.open_again(time.monotonic()))
        if frames is not None:
            deliver_frames(self._ledger, self._identity, frames)
            self._send(self._ledger.complete(time.monotonic()))

    # ------------------------------------------------------------------------------- keeping

    def close_inbox(self, inbox: Inbox) -> None:
        """No more requests follow for an open ``inbox``; wakes whoever waits for that."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            inbox.is_open = False
            self._changed.notify_all()

    def forget(self, inbox: Inbox) -> None:
        """Drop what is outstanding or untaken in ``inbox``; the server is told if it can be.

        Threads that wait for it get None.
        """
        if os.getpid() != self._pid:
            return
        with self._changed:
            cancelled = self._ledger.forget(inbox)
            self._changed.notify_all()
            if not self._closed:
                if self._awaited is inbox:
                    self._connection.wake()
                # What isn't wanted any more hides no error.
                with suppress(ConnectionFailed):
                    self._send(cancelled)

    def hand_over(self, inbox: Inbox, heir: Inbox) -> None:
        """Everything in ``inbox`` is ``heir``'s from now on."""
        with self._changed:
            self._ledger.hand_over(inbox, heir)
            self._changed.notify_all()

    @property
    def last_id(self) -> int:
        return self._ledger.last_id

    @property
    def dropped(self) -> int:
        return self._ledger.dropped

    def pending(self) -> Set[int]:
        """The ids of requests whose reply nobody has taken."""
        with self._changed:
            return self._ledger.pending

    def arrived(self, inbox: Inbox) -> Dict[int, Any]:
        """A copy of the replies that ``inbox`` holds, by id."""
        with self._changed:
            return dict(inbox.arrived)

    def close(self) -> None:
        """Close the connection; whoever waits gets ClientClosed. Safe to call twice.

        In a forked child it does nothing: the sockets are the parent's.
        """
        if os.getpid() != self._pid:
            return
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            if self._receiver is None:
                self._connection.close()
                return
            self._connection.wake()
            # Not in a signal handler that interrupted this thread at the socket.
            while self._receiver not in (None, threading.get_ident()):
                self._changed.wait()

    def _check_open(self) -> None:
        if self._closed:
            raise closed()


def _remaining(deadline: Optional[float]) -> Optional[float]:
    """Seconds until ``deadline``, at least 0."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
