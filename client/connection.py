"""The sockets of a client: PUSH to the server's ``port``, SUB to its ``port_out``.

Not safe for threads, except that :meth:`Connection.send` and :meth:`Connection.wake` may be called
while another thread is in :meth:`Connection.receive`; ``exchange.py`` keeps the order. Errors of
ZeroMQ become ConnectionFailed here and nowhere else.
"""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

import zmq

from bert_serving.client import contexts, multipart
from bert_serving.client.curve import Keys, as_client
from bert_serving.client.errors import ConnectionFailed, RequestTimeout
from bert_serving.client.frames import Frame
from bert_serving.client.liveness import watch_peer

__all__ = ["Connection"]

#: zmq_poll takes a C long, which has 32 bits on some platforms.
_MAX_POLL_MS = 2**31 - 1
#: For addresses inside the process, which clients share.
_numbers = itertools.count()
#: A socket's connection is ready for messages, and is lost.
_READY, _LOST = int(zmq.EVENT_HANDSHAKE_SUCCEEDED), int(zmq.EVENT_DISCONNECTED)
#: The server doesn't let us in; ZeroMQ tries no more then.
_REFUSED, _MISMATCH = (
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH),
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL),
)
#: So many connections that are closed before they are ready are no coincidence.
SUSPICIOUS = 3
#: Of what the latter may tell: only one end has keys.
_OTHER_MECHANISM = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)


class Connection:
    """Sends and receives frames.

    ZeroMQ connects again by itself when a connection is lost; what was under way is lost then, of
    requests and of replies. :meth:`has_come_back` tells when to send again. A server that doesn't
    know our key, or has none while we do or the other way round, is not asked again: everything
    raises ConnectionFailed once that is known. The latter isn't known while the server happens to
    close the connection before we have read what it speaks; then :meth:`timeout` tells of it.

    ``keys``: encrypt, and show the server who we are. ``ip`` is a host name or an IPv4 or IPv6
    address. Connecting never blocks, nor does it say whether a server is there: ZeroMQ does that,
    again and again. Raises ConnectionFailed, and ValueError for a port that can't
    be one.
    """

    def __init__(
        self, ip: str, port: int, port_out: int, identity: bytes, keys: Optional[Keys] = None
    ) -> None:
        self.server = "%s (port %d, port_out %d)" % (ip, port, port_out)
        for name, value in (("port", port), ("port_out", port_out)):
            # ZeroMQ accepts more, and then connects to something else.
            if not 0 < value < 65536:
                raise ValueError("%s must be between 1 and 65535, but is %r" % (name, value))
        is_ipv6 = ":" in ip
        host = "[%s]" % ip.strip("[]") if is_ipv6 else ip
        self._context = contexts.acquire()
        self._is_closed = False
        self._sockets: List[zmq.Socket[bytes]] = []
        self._is_ready: Dict[Any, bool] = {}  # by the socket that tells of it
        self._was_lost = False
        self._came_back = False
        self._has_keys = keys is not None
        self._refusal: Optional[str] = None  # why the server doesn't let us in
        self._closed_early = 0  # connections before they were ready, since one was
        try:
            self._sender = self._open(zmq.PUSH, is_ipv6)
            as_client(self._sender, keys)
            watch_peer(self._sender, gives_up=True)
            self._watch(self._sender)
            self._sender.connect("tcp://%s:%d" % (host, port))
            self._receiver = self._open(zmq.SUB, is_ipv6)
            as_client(self._receiver, keys)
            watch_peer(self._receiver)
            self._watch(self._receiver)
            self._receiver.setsockopt(zmq.SUBSCRIBE, identity)
            self._receiver.connect("tcp://%s:%d" % (host, port_out))
            # A socket must not be closed while another thread polls it: that thread is woken
            # first, through a pair of sockets inside the process.
            self._woken = self._open(zmq.PAIR)
            inside = "inproc://wake-%d" % next(_numbers)
            self._woken.bind(inside)
            self._waker = self._open(zmq.PAIR)
            self._waker.connect(inside)
        except zmq.ZMQError as error:
            self.close()
            raise ConnectionFailed("can't connect to %s: %s" % (self.server, error)) from error
        self._poller = zmq.Poller()
        self._poller.register(self._receiver, zmq.POLLIN)
        self._poller.register(self._woken, zmq.POLLIN)
        for monitor in self._is_ready:
            self._poller.register(monitor, zmq.POLLIN)

    def _watch(self, socket: Any) -> None:
        """Let ZeroMQ tell when the connection of ``socket`` is ready, and when it is lost."""
        address = "inproc://monitor-%d" % next(_numbers)
        socket.monitor(address, _READY | _LOST | _REFUSED | _MISMATCH)
        # Without a high water mark, unlike pyzmq's own: ZeroMQ's thread would wait for its reader.
        monitor = self._open(zmq.PAIR)
        monitor.connect(address)
        self._is_ready[monitor] = False

    def _open(self, kind: int, is_ipv6: bool = False) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        self._sockets.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        # No high water mark: sending never blocks, and no reply is dropped on this side.
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        if is_ipv6:
            socket.setsockopt(zmq.IPV6, 1)
        return socket

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue a message; returns at once, also when no server is there."""
        self._check_admitted()
        try:
            multipart.send(self._sender, frames, block=False)
        except zmq.ZMQError as error:
            raise ConnectionFailed("can't send to %s: %s" % (self.server, error)) from error

    def receive(self, seconds: Optional[float]) -> Optional[List[Frame]]:
        """The frames of the next message; large ones are ZeroMQ's memory, which isn't copied.

        None if none came within ``seconds`` (None: however long it takes), after :meth:`wake`,
        once for all its calls so far, or when the connection has changed.
        """
        wait_ms = None
        if seconds is not None:
            # Rounded up: rounded down, the last millisecond would be spent in a busy loop.
            wait_ms = int(min(math.ceil(max(seconds, 0.0) * 1000), _MAX_POLL_MS))
        try:
            ready = dict(self._poller.poll(wait_ms))
            if len(ready) > 1 or self._receiver not in ready:
                self.read_monitors()
            if self._woken in ready:
                while multipart.is_readable(self._woken):
                    self._woken.recv()
                return None
            if self._receiver not in ready:
                return None
            frames = multipart.receive(self._receiver)
        except zmq.ZMQError as error:
            raise ConnectionFailed("can't receive from %s: %s" % (self.server, error)) from error
        return multipart.contents(frames)

    def read(self) -> Optional[List[Frame]]:
        """As :meth:`receive`, without waiting; None when nothing is there."""
        try:
            if not multipart.is_readable(self._receiver):
                return None
            frames = multipart.receive(self._receiver)
        except zmq.ZMQError as error:
            raise ConnectionFailed("can't receive from %s: %s" % (self.server, error)) from error
        return multipart.contents(frames)

    def descriptors(self) -> Tuple[int, List[int]]:
        """Files that become readable when :meth:`read` or :meth:`read_monitors` has to be called.

        They don't stay so: after each time, read until there is nothing more.
        """
        return int(self._receiver.fd), [int(monitor.fd) for monitor in self._is_ready]

    def read_monitors(self) -> None:
        """Notice what has become of the connection. Raises ConnectionFailed if we are refused."""
        for monitor in self._is_ready:
            while multipart.is_readable(monitor):
                event, value = _event_of(monitor.recv_multipart())
                # A connection that never was ready isn't lost.
                self._was_lost |= event == _LOST and self._is_ready[monitor]
                if event == _READY:
                    self._closed_early = 0
                elif event == _LOST and not self._is_ready[monitor]:
                    self._closed_early += 1
                self._is_ready[monitor] = event == _READY
                if event == _REFUSED or (event, value) == (_MISMATCH, _OTHER_MECHANISM):
                    self._refusal = _refusal(event, self._has_keys)
        self._check_admitted()
        if self._was_lost and all(self._is_ready.values()):
            self._was_lost, self._came_back = False, True

    def _check_admitted(self) -> None:
        if self._refusal is not None:
            raise ConnectionFailed(
                "the server at %s doesn't let us in: %s" % (self.server, self._refusal)
            )

    def has_come_back(self) -> bool:
        """Whether the connection was lost and is there again; says so once."""
        came_back, self._came_back = self._came_back, False
        return came_back

    def timeout(self, seconds: Optional[float]) -> RequestTimeout:
        """The error for a server that didn't answer within ``seconds``."""
        return RequestTimeout(
            "no answer from the server at %s within %g ms: does it run there, can it be reached, "
            "are both ports right, and is the time enough for so much text?"
            "%s"
            % (
                self.server,
                (seconds or 0) * 1000,
                self._suspicion(),
            )
        )

    def _suspicion(self) -> str:
        """What else to check where connections are made and closed again.

        A proxy may do so as well, before its server is there; so it is no refusal.
        """
        if self._closed_early < SUSPICIOUS:
            return ""
        what = "is server_key its key, and was it started with -curve"
        if not self._has_keys:
            what = "was it started with -curve, so that it wants a key file, keys=..."
        return " It closes connections before they are ready: %s?" % what

    def wake(self) -> None:
        """Let :meth:`receive` return None, now or the next time."""
        self._waker.send(b"", zmq.NOBLOCK)

    def close(self) -> None:
        """Close the sockets; doesn't wait for what is still to be sent. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        for socket in self._sockets:
            socket.disable_monitor()
        for socket in self._sockets:
            socket.close()
        contexts.release()


def _event_of(frames: Sequence[bytes]) -> Tuple[int, int]:
    """The event that a monitor's message tells of: the first 16 bits, in the machine's order, and
    its value: the next 32.

    Not by zmq.utils.monitor, which takes as long to import as all of the client.
    """
    event, value = frames[0][:2], frames[0][2:6]
    return int.from_bytes(event, sys.byteorder), int.from_bytes(value, sys.byteorder)


def _refusal(event: int, has_keys: bool) -> str:
    """Why a server doesn't take our connection."""
    if event == _REFUSED:
        return (
            "it doesn't know the key; put the public one into the server's folder of clients' keys"
        )
    if has_keys:
        return "it was started without -curve, so leave out the keys (or start it with -curve)"
    return "it was started with -curve, so name a key file, keys=..., that it knows"
