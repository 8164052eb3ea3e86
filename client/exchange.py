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
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from bert_serving.client.connection import Connection
from bert_serving.client.errors import ClientClosed, ClientForked, ProtocolError, RequestTimeout
from bert_serving.client.frames import Frame, decode_reply, encode_request
from bert_serving.client.protocol import MalformedMessage, Request, VectorsReply, identity_of
from bert_serving.client.requests import Inbox, RequestLedger

__all__ = ["Exchange"]


class Exchange:
    """Requests out, replies in. ``seconds`` are how long to wait for a reply; None: no limit.

    A reply is one of protocol's, or a ProtocolError for one that can't be read. Methods raise
    ClientClosed after :meth:`close`, ClientForked in a forked child, ConnectionFailed if a socket
    fails, and those that wait raise RequestTimeout.
    """

    def __init__(self, connection: Connection, identity: bytes) -> None:
        self._connection = connection
        self._identity = identity
        self._ledger = RequestLedger()
        # Guards the ledger and the sending socket; notified when an inbox changes, when the
        # receiving socket is free, and on close().
        self._changed = threading.Condition()
        self._receiver: Optional[int] = None  # the thread that is at the receiving socket
        self._closed = False
        self._pid = os.getpid()

    # -------------------------------------------------------------------------------- sending

    def submit(
        self,
        inbox: Inbox,
        payload: bytes,
        rows: int = 0,
        header: Optional[Mapping[str, Any]] = None,
    ) -> int:
        """Send a request whose reply goes to ``inbox``; its id."""
        self._check_process()
        with self._changed:
            self._check_open()
            request_id = self._ledger.open(inbox)
            request = Request(self._identity, payload, request_id, rows, header or {})
            try:
                self._connection.send(encode_request(request))
            except BaseException:
                self._ledger.cancel(request_id)
                raise
            self._changed.notify_all()
            return request_id

    def feed(self, inbox: Inbox, payload: bytes, rows: int, window: int) -> bool:
        """Submit once fewer than ``window`` requests of ``inbox`` are untaken.

        False, and nothing is sent, when the inbox gets closed first.
        """
        self._check_process()
        with self._changed:
            while inbox.is_open and len(inbox) >= window:
                self._check_open()
                self._changed.wait()
            if inbox.is_open:
                self.submit(inbox, payload, rows)
            return inbox.is_open

    # ------------------------------------------------------------------------------ receiving

    def ask(
        self,
        payload: bytes,
        rows: int = 0,
        header: Optional[Mapping[str, Any]] = None,
        seconds: Optional[float] = None,
    ) -> Tuple[int, Any]:
        """Send a request and wait: its id and reply. After a timeout the reply is dropped."""
        inbox = Inbox()
        self.submit(inbox, payload, rows, header)
        try:
            taken = self.next_reply(inbox, seconds)
        finally:
            self.forget(inbox)
        assert taken is not None, "a request of its own inbox can't be taken by another"
        return taken

    def next_reply(self, inbox: Inbox, seconds: Optional[float]) -> Optional[Tuple[int, Any]]:
        """The id and reply that came first to ``inbox``; None when it waits for nothing."""
        self._check_process()
        with self._changed:
            self._check_open()
            while not inbox.arrived:
                if not self._wait_for_another(inbox, seconds):
                    return None
            self._changed.notify_all()  # feed() may have waited for room
            return self._ledger.take(inbox)

    def all_replies(self, inbox: Inbox, seconds: Optional[float]) -> List[Tuple[int, Any]]:
        """Ids and replies of the whole inbox, once nothing is outstanding, in order of arrival.

        ``seconds`` is how long to wait for each one. If a request failed, only the reply that
        says so is taken, and the rest can still be.
        """
        self._check_process()
        with self._changed:
            self._check_open()
            while inbox.outstanding:
                self._wait_for_another(inbox, seconds)
            for request_id, reply in inbox.arrived.items():
                if not isinstance(reply, VectorsReply):
                    return [self._ledger.take_id(inbox, request_id)]
            return self._ledger.take_all(inbox)

    def _wait_for_another(self, inbox: Inbox, seconds: Optional[float]) -> bool:
        """Wait until a reply comes to ``inbox``; False when none will. The lock is held, once."""
        before = inbox.received
        deadline: Optional[float] = None
        while inbox.received == before:
            self._check_open()
            if not inbox.outstanding:
                if not inbox.is_open:
                    return False
                deadline = None  # the time that passes before something is sent doesn't count
                self._changed.wait()
                continue
            if deadline is None and seconds is not None:
                deadline = time.monotonic() + seconds
            if self._receiver is None:
                in_time = self._receive_one(deadline)
            else:
                in_time = _remaining(deadline) != 0 and self._changed.wait(_remaining(deadline))
            if not in_time and inbox.received == before:
                self._check_open()
                raise self._timeout(seconds)
        return True

    def _receive_one(self, deadline: Optional[float]) -> bool:
        """Be the one at the socket for one message; False if none came. The lock is free then."""
        self._receiver = threading.get_ident()
        self._changed.release()
        try:
            frames = self._connection.receive(_remaining(deadline))
        finally:
            self._changed.acquire()
            self._receiver = None
            self._changed.notify_all()
            if self._closed:  # close() has left the sockets to the thread that used them
                self._connection.close()
        if frames is None:
            return False
        self._deliver(frames)
        return True

    def _deliver(self, frames: List[Frame]) -> None:
        # A bare subscription also matches longer identities, which a 1.10 server sends as well.
        if identity_of(bytes(frames[0])) != self._identity:
            self._ledger.dropped += 1
            return
        try:
            reply = decode_reply(frames)
        except MalformedMessage as error:
            unreadable = ProtocolError(str(error))
            unreadable.__cause__ = error
            if error.request_id is None:
                # Whose it is can't be told. Dropped, it would leave its asker waiting for ever.
                raise unreadable from error
            self._ledger.deliver(error.request_id, unreadable)
        else:
            self._ledger.deliver(reply.request_id, reply)

    # ------------------------------------------------------------------------------- keeping

    def close_inbox(self, inbox: Inbox) -> None:
        """No more requests follow for an open ``inbox``; wakes whoever waits for that."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            inbox.is_open = False
            self._changed.notify_all()

    def forget(self, inbox: Inbox) -> None:
        """Drop what is outstanding or untaken in ``inbox``."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            self._ledger.forget(inbox)

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

    def _check_process(self) -> None:
        """Before the lock: in a forked child, one that another thread held stays locked."""
        if os.getpid() != self._pid:
            raise ClientForked(
                "this client was made in process %d and can't be used in process %d: "
                "make a new one after the fork" % (self._pid, os.getpid())
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("this client is closed: make a new one")

    def _timeout(self, seconds: Optional[float]) -> RequestTimeout:
        return RequestTimeout(
            "no answer from the server at %s within %d ms: does it run there, can it be reached, "
            "are both ports right, and is the time enough for so much text?"
            % (self._connection.server, round((seconds or 0) * 1000))
        )


def _remaining(deadline: Optional[float]) -> Optional[float]:
    """Seconds until ``deadline``, at least 0."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
