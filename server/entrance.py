"""The ventilator's socket for clients: who may come in, and what of it can be read as a request."""

from __future__ import annotations

import logging
import time
from itertools import islice
from typing import Callable, Optional

import zmq

from bert_serving.client import multipart
from bert_serving.client.frames import decode_request
from bert_serving.client.liveness import watch_peer
from bert_serving.client.protocol import ErrorKind, MalformedMessage, Request
from bert_serving.server.addresses import bind_tcp, peer_of
from bert_serving.server.answers import Answers
from bert_serving.server.authority import Authority
from bert_serving.server.curve import Gate
from bert_serving.server.logs import Complaints, log_bug
from bert_serving.server.spec import ServiceSpec
from bert_serving.server.stats import Statistics

__all__ = ["Entrance"]

logger = logging.getLogger(__name__)

#: Bytes of ZeroMQ's own around a message.
FRAMING = 4096
#: Requests read before other sockets get their turn.
BURST = 50
#: Seconds for what has come when the server stops.
LAST_LOOK = 1.0


class Entrance:
    """``gate`` lets only those in who have a key. What can't be read is answered here."""

    def __init__(
        self,
        context: zmq.Context,
        spec: ServiceSpec,
        gate: Optional[Gate],
        statistics: Statistics,
        answers: Answers,
    ) -> None:
        self._statistics = statistics
        self._answers = answers
        self._complaints = Complaints(logger)
        self._authority = Authority(spec.security)
        self.socket = context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.LINGER, 0)
        # Before memory is spent on it. What encrypts it, or precedes it, takes a little more.
        self.socket.setsockopt(zmq.MAXMSGSIZE, spec.security.max_message + FRAMING)
        if gate is not None:
            gate.guard(self.socket)
        watch_peer(self.socket)
        bind_tcp(self.socket, spec.host, spec.port)

    def close(self) -> None:
        self.socket.close()

    def may_administer(self, what: str, request: Request, frame: zmq.Frame) -> bool:
        """Whether the sender of a request, which ``frame`` is of, may have the server do that."""
        return self._authority.may_administer(what, request, frame)

    def read(self, take: Callable[[Request, zmq.Frame], None]) -> None:
        """Hand over requests that have come, each with one of its frames.

        ``take`` may raise MalformedMessage, too.
        """
        for frames in islice(multipart.received(self.socket), BURST):
            try:
                request = decode_request(multipart.contents(frames))
                if self._authority.may_use(request.identity, frames[0]):
                    take(request, frames[0])
                else:
                    self._statistics.count_error("spoofed")
            except MalformedMessage as error:
                self._refuse(error, frames[0])
            except Exception as error:
                # A bug; but one message must not be the end for all.
                log_bug(logger, "a bug in reading a request", error)

    def read_the_rest(self, take: Callable[[Request, zmq.Frame], None]) -> None:
        """Hand over all that has come; only for a while, since some never stop sending."""
        until = time.monotonic() + LAST_LOOK
        while self.socket.poll(0) and time.monotonic() < until:
            self.read(take)

    def _refuse(self, error: MalformedMessage, frame: zmq.Frame) -> None:
        self._statistics.count_error("malformed")
        self._complaints.warn("refused a request from %s that can't be read" % peer_of(frame))
        # An identity is all that it takes to listen to a client's replies, and the error may quote
        # a text.
        logger.debug("client %r's request can't be read because %s", error.identity, error)
        if error.identity is None or error.request_id is None:
            return
        if self._authority.may_use(error.identity, frame):
            name = (error.identity, error.request_id)
            self._answers.fail_named(None, name, False, ErrorKind.BAD_REQUEST, str(error))
