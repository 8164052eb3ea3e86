"""The sink process: puts the vectors of each request together and publishes the replies."""

from __future__ import annotations

import logging
import time
from itertools import islice
from typing import Any, List, Optional, Tuple

import zmq

from bert_serving.client import multipart, protocol
from bert_serving.client.reply_frames import error_frames, info_frames, vectors_frames
from bert_serving.server import delivery
from bert_serving.server.addresses import bind_tcp
from bert_serving.server.assembly import Assembly, Complete, Outcome
from bert_serving.server.link import Link
from bert_serving.server.messages import (
    Dropped,
    Gone,
    Info,
    Message,
    Part,
    Registered,
    RequestFailed,
    decode,
)
from bert_serving.server.spec import Endpoints, ServiceSpec

__all__ = ["Sink"]

logger = logging.getLogger(__name__)

#: How often replies that could not be sent are tried again, and absent clients looked for.
TICK_MS = 20
#: Replies that ZeroMQ holds for one client; more wait here, in its outbox.
REPLIES_IN_PIPE = 64
#: First byte of what an XPUB socket reads of a subscription.
SUBSCRIBE, UNSUBSCRIBE = b"\1", b"\0"
#: How many messages are handled before the other sockets get their turn.
BURST = 100


class Sink:
    """The process's sockets around :class:`Assembly` and :class:`Delivery`."""

    def __init__(
        self, context: zmq.Context, spec: ServiceSpec, endpoints: Endpoints, link: Link
    ) -> None:
        self._link = link
        self._assembly = Assembly()
        self._delivery = delivery.Delivery()
        self._results = context.socket(zmq.PULL)
        self._results.set_hwm(0)
        self._results.bind(endpoints.results)
        self._events = context.socket(zmq.PUSH)
        self._events.set_hwm(0)  # sending must not block, also when the ventilator has ended
        self._events.setsockopt(zmq.LINGER, 0)
        self._events.connect(endpoints.events)
        self._clients = context.socket(zmq.XPUB)
        self._clients.setsockopt(zmq.XPUB_MANUAL, 1)
        self._clients.setsockopt(zmq.XPUB_NODROP, 1)
        self._clients.setsockopt(zmq.SNDHWM, REPLIES_IN_PIPE)
        self._clients.setsockopt(zmq.LINGER, 2000)
        bind_tcp(self._clients, spec.host, spec.port_out)
        self._flush_after: Optional[int] = None

    def run(self) -> None:
        """Serve until told to stop."""
        poller = zmq.Poller()
        poller.register(self._results, zmq.POLLIN)
        poller.register(self._clients, zmq.POLLIN)
        self._link.register(poller)
        self._link.report("ready")
        while True:
            ready = dict(poller.poll(TICK_MS if self._delivery.needs_ticks else None))
            for command in self._link.commands(ready):
                if command["command"] == "stop":
                    while self._results.poll(0):  # the others' last words
                        self._read_results()
                    return
                if command["command"] == "abandon":
                    self._link.report("abandoned", requests=self._assembly.of_protocol_1())
                if command["command"] == "flush":
                    self._flush_after = command["accepted"]
            if self._clients in ready:
                self._read_subscriptions()
            if self._results in ready:
                self._read_results()
            if self._delivery.needs_ticks:
                self._perform(self._delivery.handle(delivery.Tick(), time.monotonic()))
            self._report_flushed()

    def close(self) -> None:
        self._results.close()
        self._events.close()
        self._clients.close()

    def _read_subscriptions(self) -> None:
        """Turn each subscription to an identity into one to the identity's topic.

        In manual mode a subscription holds only if it is made here, for the connection that
        was read last; one that can be nobody's identity is never made.
        """
        while self._clients.poll(0):
            frame = self._clients.recv()
            kind, client = frame[:1], frame[1:]
            try:
                protocol.check_identity(client)
            except ValueError as error:
                logger.warning("refused a subscription: %s", error)
                continue
            event: delivery.Event
            if kind == SUBSCRIBE:
                self._clients.setsockopt(zmq.SUBSCRIBE, protocol.topic_of(client))
                event = delivery.Subscribed(client)
            elif kind == UNSUBSCRIBE:
                self._clients.setsockopt(zmq.UNSUBSCRIBE, protocol.topic_of(client))
                event = delivery.Unsubscribed(client)
            else:
                logger.warning("a client sent %d bytes to the port for results", len(frame))
                continue
            logger.debug("%s from client %r", type(event).__name__.lower(), client)
            self._perform(self._delivery.handle(event, time.monotonic()))

    def _read_results(self) -> None:
        for frames in islice(multipart.received(self._results), BURST):
            message = decode(multipart.contents(frames))
            for client, reply in self._replies(message):
                self._perform(self._delivery.handle(delivery.Post(client, reply), time.monotonic()))

    def _replies(self, message: Message) -> List[Tuple[bytes, List[Any]]]:
        if isinstance(message, Info):
            reply = info_frames(message.client, message.request_id, message.info)
            return [(message.client, reply)]
        assert isinstance(message, (Part, Registered, RequestFailed, Dropped))
        outcomes = self._assembly.handle(message, time.monotonic())
        return [(outcome.client, reply_frames(outcome)) for outcome in outcomes]

    def _perform(self, actions: List[delivery.Action]) -> None:
        pending = list(actions)
        while pending:
            action = pending.pop(0)
            if isinstance(action, delivery.GoneAway):
                logger.debug(
                    "client %r is gone, and %d replies to it dropped", action.client, action.lost
                )
                multipart.send(self._events, Gone(action.client).frames())
                continue
            outcome: delivery.Event
            try:
                multipart.send(self._clients, action.frames, block=False, lend=True)
                outcome = delivery.Sent(action.client)
            except zmq.Again:
                outcome = delivery.Blocked(action.client, action.frames)
            pending += self._delivery.handle(outcome, time.monotonic())

    def _report_flushed(self) -> None:
        """When the last reply of a drained server has left, say so, once."""
        if self._flush_after is None or self._assembly.ended_requests < self._flush_after:
            return
        if self._delivery.waiting_for_listeners == 0:
            self._link.report("flushed")
            self._flush_after = None


def reply_frames(outcome: Outcome) -> List[Any]:
    """The frames of a request's one reply, or of one of its parts."""
    if isinstance(outcome, Complete):
        return vectors_frames(*outcome)
    return error_frames(
        outcome.client, outcome.request_id, outcome.kind, outcome.message, outcome.retry_after
    )
