"""The sink's socket for clients: an XPUB on which a subscription is to one identity and no other.

ZeroMQ counts messages and not their bytes, and large ones aren't copied into it: so those that it
holds are counted here, until it is through with them.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import zmq

from bert_serving.client import protocol
from bert_serving.client.liveness import watch_peer
from bert_serving.client.multipart import KEPT_BYTES
from bert_serving.server import replies
from bert_serving.server.addresses import bind_tcp
from bert_serving.server.curve import Admissions, Gate, peer_key
from bert_serving.server.frame_parts import own_memory
from bert_serving.server.logs import Complaints

__all__ = ["Publisher"]

logger = logging.getLogger(__name__)

#: Replies that ZeroMQ holds for one client; more wait in its outbox.
REPLIES_IN_PIPE = 64
#: Bytes of large frames that it holds for one client, unless one reply alone has more.
MOST_IN_PIPE = 64_000_000
#: A connection may subscribe to any number of identities, each of which takes memory.
MAX_LISTENING = 100_000
#: First byte of what an XPUB socket reads of a subscription.
SUBSCRIBE, UNSUBSCRIBE = b"\1", b"\0"
#: The largest message that this port reads: a subscription, or a step of ZeroMQ's handshake.
MAX_RECEIVED = 4096
#: Messages read before other sockets get their turn.
BURST = 100
#: Messages of a connection that wait to be taken in. Whenever ZeroMQ looks at an XPUB, it takes in
#: all that wait, without a bound; with its default, 1000, far more than are read. Not 1: by CURVE a
#: connection's key is the first message, and it is counted but never read.
MOST_WAITING = 2
_MORE, _NOBLOCK = int(zmq.SNDMORE), int(zmq.NOBLOCK)

#: A large frame that ZeroMQ holds, and its size.
_Lent = Tuple[zmq.MessageTracker, int]
#: What a client has told of itself.
_Change = Union[replies.Subscribed, replies.Unsubscribed]


class Publisher:
    """``most`` are the bytes of large frames that may be in pipes to all clients; 0: any number.

    With a ``gate``, only whoever has a key is let in, and listens to its own replies.
    """

    def __init__(
        self,
        context: zmq.Context,
        host: str,
        port: int,
        most: int,
        gate: Optional[Gate] = None,
    ) -> None:
        self._most = most
        self._gate = gate
        self._admissions = Admissions()
        self._complaints = Complaints(logger)
        self._lent: Dict[bytes, List[_Lent]] = {}
        self.socket = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.XPUB_MANUAL, 1)
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)
        self.socket.setsockopt(zmq.SNDHWM, REPLIES_IN_PIPE)
        self.socket.setsockopt(zmq.RCVHWM, MOST_WAITING)
        self.socket.setsockopt(zmq.LINGER, 2000)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_RECEIVED)
        watch_peer(self.socket)
        if gate is not None:
            gate.guard(self.socket)
        bind_tcp(self.socket, host, port)

    def close(self) -> None:
        self.socket.close()

    def events(self, listening: int) -> List[replies.Event]:
        """What clients have subscribed to and unsubscribed from since the last call; so many were
        listening then.

        Of no more than :data:`BURST` messages: some never stop sending. While there are more, the
        socket stays readable.
        """
        events: List[replies.Event] = []
        for _ in range(BURST):
            try:
                # Without asking first whether there is one: ZeroMQ would look each time, too.
                message = self.socket.recv(_NOBLOCK, False)
            except zmq.Again:
                break
            event = self._take(message, listening)
            if event is None:
                continue
            # Also one in vain lowers it, so that a burst may lead to that many more clients.
            listening += 1 if isinstance(event, replies.Subscribed) else -1
            logger.debug("%s from client %r", type(event).__name__.lower(), event.client)
            events.append(event)
        return events

    def _take(self, message: zmq.Frame, listening: int) -> Optional[_Change]:
        """Do what a client asks for, if it may.

        In manual mode a subscription holds only if it is made here, for the connection that
        was read last; one that can be nobody's identity is never made.
        """
        frame = message.bytes
        kind, client = frame[:1], frame[1:]
        try:
            protocol.check_identity(client)
        except ValueError as error:
            self._complaints.warn("refused a subscription that can be no client's identity")
            logger.debug("refused it: %s", error)
            return None
        if self._gate is not None and not self._admissions.admits(
            kind == SUBSCRIBE, client, peer_key(message)
        ):
            self._complaints.warn("refused a subscription to what is another key's")
            logger.debug("refused a subscription to %r, which is another key's", client)
            return None
        if kind == SUBSCRIBE:
            if listening >= MAX_LISTENING:
                self._complaints.warn("refused a subscription: %d clients listen" % listening)
                return None
            self.socket.setsockopt(zmq.SUBSCRIBE, protocol.topic_of(client))
            return replies.Subscribed(client)
        if kind == UNSUBSCRIBE:
            self.socket.setsockopt(zmq.UNSUBSCRIBE, protocol.topic_of(client))
            return replies.Unsubscribed(client)
        self._complaints.warn("a client sent something to the port for results")
        return None

    def send(self, client: bytes, reply: replies.Reply) -> replies.Event:
        """Send without waiting; returns what :class:`Delivery` is to be told."""
        in_pipe = 0
        if reply.size > KEPT_BYTES:
            in_pipe = self._in_pipe(client)
            if not self._has_room(in_pipe, reply.size):
                return replies.Blocked(client, reply, in_pipe)
        try:
            self._send(client, reply.frames)
        except zmq.Again:
            return replies.Blocked(client, reply, in_pipe)
        return replies.Sent(client)

    def _send(self, client: bytes, frames: Sequence[Any]) -> None:
        last = len(frames) - 1
        for number, frame in enumerate(frames):
            flags = _NOBLOCK if number == last else _NOBLOCK | _MORE
            if len(frame) <= KEPT_BYTES:
                self.socket.send(frame, flags)
                continue
            tracker = self.socket.send(own_memory(frame), flags, copy=False, track=True)
            self._lent.setdefault(client, []).append((tracker, len(frame)))

    def _in_pipe(self, client: bytes) -> int:
        """Bytes of large frames that ZeroMQ still holds for a client."""
        lent = [one for one in self._lent.pop(client, ()) if not one[0].done]
        if lent:
            self._lent[client] = lent
        return sum(size for _, size in lent)

    def _has_room(self, in_pipe: int, size: int) -> bool:
        if in_pipe and in_pipe + size > MOST_IN_PIPE:
            return False
        in_all = sum(self._in_pipe(client) for client in list(self._lent))
        return not self._most or not in_all or in_all + size <= self._most
