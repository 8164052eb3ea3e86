"""The sink process: puts the vectors of each request together and publishes the replies."""

from __future__ import annotations

import logging
import time
from collections import deque
from itertools import islice
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

import zmq

from bert_serving.client import multipart
from bert_serving.client.protocol import ErrorKind
from bert_serving.client.reply_frames import error_frames, info_frames, vectors_frames
from bert_serving.server import delivery, replies
from bert_serving.server.assembly import Assembly, Complete, Outcome
from bert_serving.server.batch_messages import Broken, Done, Part
from bert_serving.server.curve import Gate
from bert_serving.server.link import Link
from bert_serving.server.messages import Message, decode
from bert_serving.server.publishing import Publisher
from bert_serving.server.request_messages import (
    Announced,
    Dropped,
    Gone,
    Info,
    Registered,
    RequestFailed,
    RowLost,
    Waiting,
)
from bert_serving.server.spec import Endpoints, ServiceSpec

__all__ = ["Sink"]

logger = logging.getLogger(__name__)

#: How often replies that could not be sent are tried again, and absent clients looked for.
TICK_MS = 20
#: How many messages are handled before the other sockets get their turn.
BURST = 100


class Sink:
    """The process's sockets around :class:`Assembly` and :class:`Delivery`."""

    def __init__(
        self, context: zmq.Context, spec: ServiceSpec, endpoints: Endpoints, link: Link
    ) -> None:
        self._link = link
        self._assembly = Assembly()
        most = spec.max_reply_bytes
        self._delivery = delivery.Delivery(_excuse, most, int(most * spec.max_client_share))
        self._results = context.socket(zmq.PULL)
        self._results.set_hwm(0)
        self._results.bind(endpoints.results)
        self._events = context.socket(zmq.PUSH)
        self._events.set_hwm(0)  # sending must not block, also when the ventilator has ended
        self._events.setsockopt(zmq.LINGER, 0)
        self._events.connect(endpoints.events)
        self._gate: Optional[Gate] = None
        if spec.security.curve is not None:
            self._gate = Gate(context, spec.security.curve)
        self._clients = Publisher(context, spec.host, spec.port_out, most, self._gate)
        self._flush_after: Optional[int] = None
        #: Until then clients of a sink that was lost may come back to this one.
        self._clients_come_until = time.monotonic() + delivery.COME_BACK_WITHIN

    def run(self) -> None:
        """Serve until told to stop."""
        poller = zmq.Poller()
        poller.register(self._results, zmq.POLLIN)
        poller.register(self._clients.socket, zmq.POLLIN)
        if self._gate is not None:
            poller.register(self._gate.socket, zmq.POLLIN)
        self._link.register(poller)
        self._link.report("ready")
        while True:
            ready = self._link.poll(poller, TICK_MS if self._delivery.needs_ticks else None)
            for command in self._link.commands(ready):
                if command["command"] in ("stop", "abandon"):
                    while self._results.poll(0):  # the others' last words
                        self._read_results()
                    ready.pop(self._results, None)
                if command["command"] == "stop":
                    return
                if command["command"] == "abandon":
                    self._link.report("abandoned", requests=self._of_protocol_1())
                if command["command"] == "flush":
                    self._flush_after = command["accepted"]
            if self._gate is not None and self._gate.socket in ready:
                self._gate.answer()
            if self._clients.socket in ready:
                for event in self._clients.events(self._delivery.listening_clients):
                    self._deliver(event)
            if self._results in ready:
                self._read_results()
            if self._delivery.needs_ticks:
                self._deliver(replies.Tick())
            self._report_flushed()

    def close(self) -> None:
        self._results.close()
        self._events.close()
        self._clients.close()
        if self._gate is not None:
            self._gate.close()

    def _of_protocol_1(self) -> List[Tuple[str, int]]:
        """Identities, as Latin-1, and ids of requests that would be lost with this process."""
        waiting = self._delivery.of_protocol_1()
        of_replies = [(name.decode("latin-1"), int(number)) for name, number in waiting]
        return self._assembly.of_protocol_1() + of_replies

    def _read_results(self) -> None:
        burst = islice(multipart.received(self._results), BURST)
        messages = [decode(multipart.contents(frames)) for frames in burst]
        # Before the replies are made: the workers' next batches wait for it.
        for ending in endings(messages):
            multipart.send(self._events, ending.frames())
        for message in messages:
            for post in self._posts(message):
                self._deliver(post)

    def _posts(self, message: Message) -> List[replies.Post]:
        if isinstance(message, Info):
            reply = info_frames(message.client, message.request_id, message.info)
            return [post(message.client, reply, asks_again=True)]
        if isinstance(message, Broken):
            return []
        assert isinstance(message, (Announced, Part, Registered, RowLost, RequestFailed, Dropped))
        outcomes = self._assembly.handle(message, time.monotonic())
        return [
            post(outcome.client, reply_frames(outcome), outcome.asks_again) for outcome in outcomes
        ]

    def _deliver(self, event: replies.Event) -> None:
        pending = deque(self._delivery.handle(event, time.monotonic()))
        while pending:
            action = pending.popleft()
            if isinstance(action, replies.Send):
                outcome = self._clients.send(action.client, action.reply)
                pending.extend(self._delivery.handle(outcome, time.monotonic()))
                continue
            if isinstance(action, replies.Waits):
                news = Waiting(action.client, int(action.request_id), action.is_over)
                multipart.send(self._events, news.frames())
                continue
            listens = isinstance(action, replies.Stalled)
            logger.debug(
                "client %r %s, and %d replies to it dropped",
                action.client,
                "doesn't read" if listens else "is gone",
                action.lost,
            )
            multipart.send(self._events, Gone(action.client, action.lost, listens).frames())

    def _report_flushed(self) -> None:
        """When the last reply of a drained server has left, say so, once."""
        if self._flush_after is None or self._assembly.ended_requests < self._flush_after:
            return
        waiting = self._delivery.waiting_for_listeners
        if time.monotonic() < self._clients_come_until:
            waiting = self._delivery.waiting_replies
        if waiting == 0:
            self._link.report("flushed")
            self._flush_after = None


def endings(messages: Sequence[Message]) -> Iterator[Union[Done, Broken]]:
    """What the ventilator is to be told of batches, in the order in which they ended."""
    done: List[Tuple[int, str]] = []
    for message in messages:
        if isinstance(message, Part) and message.ends:
            done.append((message.ends, message.worker))
        elif isinstance(message, Broken):
            if done:
                yield Done(tuple(done))
                done = []
            yield message
    if done:
        yield Done(tuple(done))


def post(client: bytes, frames: List[Any], asks_again: bool) -> replies.Post:
    """A reply to deliver; see replies.Reply."""
    size = delivery.REPLY_BYTES + sum(map(len, frames))
    return replies.Post(client, replies.Reply(frames[-1], frames, size, asks_again=asks_again))


def reply_frames(outcome: Outcome) -> List[Any]:
    """The frames of a request's one reply, or of one of its parts."""
    if isinstance(outcome, Complete):
        return vectors_frames(*outcome)
    return error_frames(
        outcome.client, outcome.request_id, outcome.kind, outcome.message, outcome.retry_after
    )


def _excuse(client: bytes, request_id: bytes) -> List[Any]:
    """The frames of an error in place of a reply that was thrown away."""
    return error_frames(client, int(request_id), ErrorKind.OVERLOADED, delivery.UNREAD)
