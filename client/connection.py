"""The sockets of a client: PUSH to the server's ``port``, SUB to its ``port_out``.

Not safe for threads, except that :meth:`Connection.wake` may be called while another thread is
in :meth:`Connection.receive`; ``exchange.py`` keeps the order. Errors of ZeroMQ become
ConnectionFailed here and nowhere else.
"""

from __future__ import annotations

import itertools
import math
from typing import List, Optional, Sequence

import zmq

from bert_serving.client import contexts, multipart
from bert_serving.client.errors import ConnectionFailed
from bert_serving.client.frames import Frame

__all__ = ["Connection"]

#: zmq_poll takes a C long, which has 32 bits on some platforms.
_MAX_POLL_MS = 2**31 - 1
#: For addresses inside the process, which clients share.
_numbers = itertools.count()


class Connection:
    """Sends and receives frames.

    ``ip`` is a host name or an IPv4 or IPv6 address. Connecting never blocks, nor does it say
    whether a server is there: ZeroMQ connects, and connects again, in the background. Raises
    ConnectionFailed, and ValueError for a port that can't be one.
    """

    def __init__(self, ip: str, port: int, port_out: int, identity: bytes) -> None:
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
        try:
            self._sender = self._open(zmq.PUSH, is_ipv6)
            self._sender.connect("tcp://%s:%d" % (host, port))
            self._receiver = self._open(zmq.SUB, is_ipv6)
            self._receiver.setsockopt(zmq.SUBSCRIBE, identity)
            self._receiver.connect("tcp://%s:%d" % (host, port_out))
            # A socket must not be closed while another thread polls it: close() wakes that
            # thread first, through a pair of sockets inside the process.
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
        try:
            multipart.send(self._sender, frames, block=False)
        except zmq.ZMQError as error:
            raise ConnectionFailed("can't send to %s: %s" % (self.server, error)) from error

    def receive(self, seconds: Optional[float]) -> Optional[List[Frame]]:
        """The frames of the next message; large ones are ZeroMQ's memory, which isn't copied.

        None if none came within ``seconds`` (None: however long it takes) or after :meth:`wake`.
        """
        wait_ms = None
        if seconds is not None:
            # Rounded up: rounded down, the last millisecond would be spent in a busy loop.
            wait_ms = int(min(math.ceil(max(seconds, 0.0) * 1000), _MAX_POLL_MS))
        try:
            ready = dict(self._poller.poll(wait_ms))
            if self._woken in ready or self._receiver not in ready:
                return None
            frames = multipart.receive(self._receiver)
        except zmq.ZMQError as error:
            raise ConnectionFailed("can't receive from %s: %s" % (self.server, error)) from error
        return multipart.contents(frames)

    def wake(self) -> None:
        """Let :meth:`receive` return None, now and ever after."""
        self._waker.send(b"", zmq.NOBLOCK)

    def close(self) -> None:
        """Close the sockets; doesn't wait for what is still to be sent. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        for socket in self._sockets:
            socket.close()
        contexts.release()
