"""Many clients' requests over a few connections, for a load generator in one thread.

A client of the service is an identity, not a connection: a pair of sockets can send for many of
them, and subscribe to the replies of all of them. That is understood by this project's server and
by that of 1.10.
"""

from __future__ import annotations

import select
import time
import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Type

import zmq

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.client.curve import Keys, as_client, bound_identity, read_keys
from bert_serving.client.frames import encode_request
from bert_serving.client.protocol import (
    SHOW_CONFIG,
    ErrorReply,
    InfoReply,
    MalformedMessage,
    Reply,
    Request,
)
from bert_serving.client.reply_frames import decode_reply
from bert_serving.server.addresses import connect_tcp

__all__ = ["ASK_AGAIN", "Target", "Wire"]

#: Pairs of sockets, over which the clients are spread.
PAIRS = 4
#: Request ids of questions for the configuration: none that an answer may be mistaken for.
QUESTION = 10**9
#: How often a server that doesn't answer yet is asked again, in seconds.
ASK_AGAIN = 0.5


@dataclass(frozen=True)
class Target:
    """Where a server listens: ``port`` for requests, ``port_out`` for results.

    ``keys`` and ``server_key`` are BertClient's, for a server with -curve.
    """

    ip: str
    port: int
    port_out: int
    keys: Optional[str] = None
    server_key: Optional[str] = None

    def __str__(self) -> str:
        return "%s (port %d, port_out %d)" % (self.ip, self.port, self.port_out)


class Wire:
    """Sends for clients 0 to ``clients`` - 1 and receives replies; for one thread."""

    def __init__(self, target: Target, clients: int) -> None:
        self._target = target
        # All as long: 1.10 sends what is for one identity also to those that begin with it.
        prefix = uuid.uuid4().hex.encode("ascii")
        self._keys: Optional[Keys] = None
        if target.keys is not None:
            try:
                self._keys = read_keys(target.keys, target.server_key)
            except ValueError as error:
                raise BenchmarkError(str(error)) from error
            prefix = bound_identity(self._keys.public, prefix)
        self._identities = [b"%s-%06d" % (prefix, n) for n in range(clients)]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._senders: List[zmq.Socket[bytes]] = []
        self._receivers: List[zmq.Socket[bytes]] = []
        try:
            for number in range(min(PAIRS, clients)):
                self._senders.append(self._open(zmq.PUSH, target.port))
                receiver = self._open(zmq.SUB, target.port_out)
                self._receivers.append(receiver)
                for identity in self._identities[number::PAIRS]:
                    receiver.setsockopt(zmq.SUBSCRIBE, identity)
        except zmq.ZMQError as error:
            self.close()
            raise BenchmarkError("can't connect to %s: %s" % (target, error)) from error
        self._files = [receiver.fileno() for receiver in self._receivers]

    def _open(self, kind: int, port: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        # No high water mark: sending never waits for the server, and no reply is dropped here.
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        as_client(socket, self._keys)
        connect_tcp(socket, self._target.ip, port)
        return socket

    def __enter__(self) -> "Wire":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets; what is still to be sent is dropped."""
        for socket in self._senders + self._receivers:
            socket.close()
        self._context.term()

    def wait_until_ready(self, seconds: float) -> Mapping[str, Any]:
        """The server's configuration, once it answers and knows all subscriptions.

        A server of 1.10 drops replies to clients whose subscription it doesn't know yet.
        Subscriptions arrive in order, so the answer to the last client of each pair tells that
        the others' are there. Raises BenchmarkError if that takes longer than ``seconds``.
        """
        deadline = time.monotonic() + seconds
        answers: Dict[int, Mapping[str, Any]] = {}
        last = {n: len(self._identities[n::PAIRS]) - 1 for n in range(len(self._senders))}
        while len(answers) < len(self._senders):
            if time.monotonic() > deadline:
                raise BenchmarkError(
                    "no answer from the server at %s within %g s: does it run there, and are both "
                    "ports right?" % (self._target, seconds)
                )
            for pair in set(last) - set(answers):
                self.send(pair + PAIRS * last[pair], QUESTION + pair, SHOW_CONFIG, 0)
            ask_again = time.monotonic() + ASK_AGAIN
            while len(answers) < len(self._senders) and time.monotonic() < ask_again:
                for _, request_id, reply in self.receive(max(ask_again - time.monotonic(), 0)):
                    if isinstance(reply, InfoReply):
                        answers[request_id - QUESTION] = reply.info
        return answers[0]

    def send(self, client: int, request_id: int, payload: bytes, rows: int) -> None:
        """Queue a request of one of the clients; returns at once."""
        request = Request(self._identities[client], payload, request_id, rows)
        self._senders[client % PAIRS].send_multipart(encode_request(request), zmq.NOBLOCK)

    def receive(self, seconds: float) -> Iterator[Tuple[float, int, Reply]]:
        """Everything that has come, after waiting up to ``seconds`` if that is nothing.

        Yields time.monotonic() at which a reply was taken, its request's id, and the reply; one
        that can't be read is an ErrorReply of kind "malformed". Take all of them.
        """
        nothing = True
        for reply in self._drain():
            nothing = False
            yield reply
        if nothing and seconds > 0:
            # The descriptor tells of changes only, so each socket was drained before. zmq's own
            # poll counts whole milliseconds, too coarse for when to send.
            select.select(self._files, [], [], seconds)
            yield from self._drain()

    def _drain(self) -> Iterator[Tuple[float, int, Reply]]:
        for receiver in self._receivers:
            while True:
                try:
                    frames = receiver.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                yield _read(time.monotonic(), [frame.buffer for frame in frames])


def _read(now: float, frames: List[memoryview]) -> Tuple[float, int, Reply]:
    try:
        reply = decode_reply(frames)
    except MalformedMessage as error:
        request_id = -1 if error.request_id is None else error.request_id
        return now, request_id, ErrorReply(request_id, "malformed", str(error))
    return now, reply.request_id, reply
