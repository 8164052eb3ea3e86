"""The ventilator process: takes requests in, has them tokenized, and deals rows to workers.

It answers nobody itself: replies, errors too, leave by the sink. Every request that can be read
gets a handle and ends, in the scheduler, in exactly one way.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from itertools import islice
from typing import Any, Dict, List, Optional, Tuple, Union

import zmq

from bert_serving.client import multipart, protocol
from bert_serving.client.frames import decode_request
from bert_serving.client.liveness import watch_peer
from bert_serving.client.protocol import ErrorKind, MalformedMessage, Request
from bert_serving.server import work
from bert_serving.server.addresses import bind_tcp, peer_of
from bert_serving.server.authority import Authority
from bert_serving.server.batching import pack
from bert_serving.server.curve import Gate
from bert_serving.server.delivery import UNREAD
from bert_serving.server.generation import Generation
from bert_serving.server.generations import Generations
from bert_serving.server.intake import Chunk, InvalidText
from bert_serving.server.link import Link
from bert_serving.server.logs import Complaints, log_bug
from bert_serving.server.messages import (
    Announced,
    BatchMessage,
    Broken,
    Done,
    Dropped,
    Gone,
    Info,
    Ready,
    RequestFailed,
    RowLost,
    Waiting,
    decode,
)
from bert_serving.server.open_requests import OpenRequests, Refusal
from bert_serving.server.reception import Reception
from bert_serving.server.sizes import Size
from bert_serving.server.spec import Endpoints, ServiceSpec
from bert_serving.server.stats import Statistics
from bert_serving.server.status import describe_service, describe_work

__all__ = ["Ventilator"]

logger = logging.getLogger(__name__)

#: How often deadlines are looked at while nothing else happens.
TICK_MS = 100
#: Bytes of ZeroMQ's own around a message.
FRAMING = 4096
#: What only this machine, or who has the admin token, may ask for: what it is called, and what is
#: reported to the supervisor then.
ORDERS = {
    protocol.TERMINATION: ("stop", "terminate"),
    protocol.RELOAD: ("load its model again", "reload"),
}
#: What clients are told that don't ask again by themselves.
LOST = "a process of the server's was lost, and this request with it; send it again"
#: Requests read before the other sockets get their turn.
BURST = 50


class Ventilator:
    """The process's sockets around what each :class:`Generation` has."""

    def __init__(
        self,
        context: zmq.Context,
        spec: ServiceSpec,
        endpoints: Endpoints,
        link: Link,
        vocabulary: Dict[str, int],
    ) -> None:
        self._endpoints = endpoints
        self._link = link
        self._gate = Gate(context, spec.security.curve) if spec.security.curve else None
        self._authority = Authority(spec.security)
        self._requests = context.socket(zmq.PULL)
        # Before memory is spent on it. What encrypts it, or precedes it, takes a little more.
        self._requests.setsockopt(zmq.MAXMSGSIZE, spec.security.max_message + FRAMING)
        if self._gate is not None:
            self._gate.guard(self._requests)
        watch_peer(self._requests)
        bind_tcp(self._requests, spec.host, spec.port)
        self._workers = context.socket(zmq.ROUTER)
        self._workers.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._workers.set_hwm(0)
        self._workers.bind(endpoints.workers)
        self._events = context.socket(zmq.PULL)
        self._events.bind(endpoints.events)
        self._sink = context.socket(zmq.PUSH)
        self._sink.set_hwm(0)
        self._sink.connect(endpoints.results)
        for socket in (self._requests, self._workers, self._events):
            socket.setsockopt(zmq.LINGER, 0)
        self._sink.setsockopt(zmq.LINGER, 1000)
        self._poller = zmq.Poller()
        self._generations = Generations(spec, vocabulary, self._poller)
        self._statistics = Statistics(time.monotonic())
        most = Size(spec.max_queue_rows, spec.max_queue_bytes, spec.max_reply_bytes)
        self._open = OpenRequests(self._statistics, most, spec.max_client_share)
        self._reception = Reception(spec, self._statistics, self._open)
        self._complaints = Complaints(logger)
        self._drain_until: Optional[float] = None  # while the supervisor waits for "drained"

    def run(self) -> None:
        """Serve until told to stop."""
        for socket in (self._requests, self._workers, self._events):
            self._poller.register(socket, zmq.POLLIN)
        if self._gate is not None:
            self._poller.register(self._gate.socket, zmq.POLLIN)
        self._link.register(self._poller)
        self._link.report("ready")
        while True:
            ready = self._link.poll(self._poller, self._patience())
            if self._events in ready:
                self._read_events()  # what a worker ended before it was lost
            for command in self._link.commands(ready):
                if command["command"] == "stop":
                    self._refuse_the_rest()
                    self._fail_all("the server has stopped")
                    return
                self._obey(command)
            if self._gate is not None and self._gate.socket in ready:
                self._gate.answer()
            if self._workers in ready:
                self._read_workers()
            for generation in self._generations.ready(ready):
                for chunk in generation.intake.take():
                    self._add_chunk(chunk, generation)
            if self._requests in ready:
                self._read_requests()
            self._schedule(work.Tick())
            if self._generations.end():
                self._link.report("generation_over")
            self._report_drained()

    def _patience(self) -> Optional[int]:
        """Milliseconds after which there is something to do though nothing has come."""
        wake_at = self._generations.wake_at()
        if wake_at is None:
            return TICK_MS if self._open or self._reception.is_closed else None
        # Rounded up: rounded down, it would look again and again within the last millisecond.
        return min(TICK_MS, max(0, math.ceil((wake_at - time.monotonic()) * 1000)))

    def close(self) -> None:
        self._generations.close()
        for socket in (self._requests, self._workers, self._events, self._sink):
            socket.close()
        if self._gate is not None:
            self._gate.close()

    # -------------------------------------------------------------------------- supervisor

    def _obey(self, command: Dict[str, Any]) -> None:
        if command["command"] == "worker_lost":
            self._schedule(work.WorkerLost(command["worker"].encode("ascii"), command["reason"]))
        elif command["command"] == "drain":
            # Not unbound: that would cut the connections, and what is on its way lost in silence.
            # Requests get an error from now on.
            self._reception.is_closed = True
            self._drain_until = time.monotonic() + command["timeout"]
        elif command["command"] == "abandon":
            self._link.report("abandoned", requests=self._open.of_protocol_1())
        elif command["command"] == "lost":
            for client, request_id in command["requests"]:
                name = (client.encode("latin-1"), request_id)
                self._fail(None, name, False, ErrorKind.INTERNAL, LOST)
        elif command["command"] == "load":
            self._load(ServiceSpec.from_json(command["spec"]))
        elif command["command"] == "unload":
            self._generations.unload()
        elif command["command"] == "switch":
            self._generations.switch()
            self._reception.spec = self._generations.current.spec

    def _load(self, spec: ServiceSpec) -> None:
        try:
            self._generations.load(spec)
        except Exception as error:
            self._link.report("load_failed", message=str(error))
        else:
            self._link.report("loaded")

    def _fail_all(self, message: str) -> None:
        for scheduler in self._generations.schedulers:
            self._perform(scheduler.fail_all(ErrorKind.SHUTTING_DOWN, message))

    def _refuse_the_rest(self) -> None:
        """Answer what has come since the last look; what comes later finds nobody."""
        self._reception.is_closed = True
        while self._requests.poll(0):
            self._read_requests()

    def _report_drained(self) -> None:
        """Once everything that was accepted has ended, or its time is over, say so."""
        if self._drain_until is None:
            return
        if self._open and time.monotonic() >= self._drain_until:
            self._fail_all("the server is stopping and had no time left for this request")
        if not self._open:
            self._link.report("drained", accepted=self._reception.accepted)
            self._drain_until = None

    # ---------------------------------------------------------------------------- requests

    def _read_requests(self) -> None:
        for frames in islice(multipart.received(self._requests), BURST):
            request: Optional[Request] = None
            accepted = self._reception.accepted
            try:
                request = decode_request(multipart.contents(frames))
                if self._authority.may_use(request.identity, frames[0]):
                    self._take(request, frames[0])
                else:
                    self._statistics.count_error("spoofed")
            except MalformedMessage as error:
                self._refuse(error, frames[0])
            except Exception as error:
                # A bug; but one request must not be the end for all.
                log_bug(logger, "a bug in taking a request", error)
                self._own_up(request, self._reception.accepted > accepted, error)

    def _own_up(self, request: Optional[Request], is_accepted: bool, error: Exception) -> None:
        """Answer a request that a bug kept from being served, whether it was accepted or not."""
        message = "a bug of the server's: %s" % type(error).__name__
        if is_accepted and self._reception.accepted in self._open:
            handle = self._reception.accepted
            self._schedule(work.Rejected(handle, ErrorKind.INTERNAL, message))
        elif request is not None:
            self._fail(None, request.name, asks_again(request), ErrorKind.INTERNAL, message)

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
            self._fail(None, name, False, ErrorKind.BAD_REQUEST, str(error))

    def _fail(
        self,
        handle: Optional[int],
        name: Tuple[bytes, int],
        asks_again: bool,
        kind: str,
        message: str,
        retry_after: Optional[float] = None,
    ) -> None:
        self._statistics.count_error(kind)
        failure = RequestFailed(handle, *name, kind, message, retry_after, asks_again)
        multipart.send(self._sink, failure.frames())

    def _take(self, request: Request, frame: zmq.Frame) -> None:
        if request.is_command:
            self._command(request, frame)
            return
        try:
            accepted = self._reception.take(request, time.monotonic())
        except Refusal as error:
            why = (error.kind, str(error), error.retry_after)
            self._fail(None, request.name, asks_again(request), *why)
            return
        if accepted is None:
            return
        # From here on the scheduler sees to it that the request ends.
        deadline = self._reception.deadline_of(accepted)
        generation, partial = self._generations.current, accepted.options.partial
        self._schedule(
            work.Opened(accepted.handle, request.identity, accepted.rows, deadline, partial),
            generation,
        )
        chunk = generation.intake.start(accepted)
        if chunk is not None:
            self._add_chunk(chunk, generation)
        elif not asks_again(request):
            announced = Announced(accepted.handle, *request.name)
            multipart.send(self._sink, announced.frames())

    def _command(self, request: Request, frame: zmq.Frame) -> None:
        if request.payload in ORDERS:
            what, event = ORDERS[request.payload]
            if self._authority.may_administer(what, request, frame):
                self._link.report(event)
            return
        if request.payload == protocol.CANCEL:
            handle = self._open.find(*request.name)
            if handle is not None:
                self._statistics.count_cancelled()
                self._schedule(work.Cancelled(handle))
            return
        self._statistics.count_command(request.identity)
        statistics = None
        if request.payload == protocol.SHOW_STATUS:
            now = time.monotonic()
            schedulers = self._generations.schedulers
            statistics = describe_work(self._statistics, self._open, schedulers, now)
        spec = self._generations.current.spec
        info = describe_service(spec, self._endpoints, request.identity, statistics)
        multipart.send(self._sink, Info(request.identity, request.request_id, info).frames())

    def _add_chunk(self, chunk: Chunk, generation: Generation) -> None:
        accepted = self._open.get(chunk.handle)
        if accepted is None:
            return  # the request has ended meanwhile
        if chunk.error is not None:
            kind = ErrorKind.INTERNAL
            if isinstance(chunk.error, InvalidText):
                kind = chunk.error.kind
            else:
                log_bug(logger, "can't tokenize a request", chunk.error)
            self._schedule(work.Rejected(chunk.handle, kind, str(chunk.error)))
            return
        rows = accepted.add(chunk)
        generation.intake.submit_next(accepted)
        if accepted.is_complete:
            spec, now = generation.spec, time.monotonic()
            self._statistics.count_stage("tokenize", now - accepted.accepted_at)
            registered = accepted.registered(
                spec.max_batch_size, spec.tokenizer.max_length, spec.fixed_length, now
            )
            self._reception.settle(registered)
            multipart.send(self._sink, registered.frames())
        self._schedule(work.RowsReady(chunk.handle, rows))

    # ----------------------------------------------------------------------------- workers

    def _read_workers(self) -> None:
        for name, *frames in multipart.received(self._workers):
            message = decode(multipart.contents(frames))
            assert isinstance(message, Ready)
            joined = work.WorkerJoined(name.bytes, message.credits, message.streams)
            generation = self._generations.of(message.generation)
            if generation is not None:
                self._schedule(joined, generation)

    def _read_events(self) -> None:
        for frames in multipart.received(self._events):
            message = decode(multipart.contents(frames))
            if isinstance(message, Done):
                for batch_id, worker in message.batches:
                    self._statistics.count_done(worker)
                    self._schedule(work.WorkDone(worker.encode("ascii"), batch_id))
            elif isinstance(message, Broken):
                failed = (message.batch_id, message.message, message.out_of_memory)
                self._schedule(work.WorkFailed(message.worker.encode("ascii"), *failed))
            elif isinstance(message, Waiting):
                self._open.note_waiting(message.client, message.request_id, message.is_over)
            else:
                assert isinstance(message, Gone)
                self._note_gone(message)

    def _note_gone(self, message: Gone) -> None:
        self._statistics.count_expired_replies(message.lost)
        if message.listens:
            for handle in self._open.of_client(message.client):
                self._schedule(work.Rejected(handle, ErrorKind.OVERLOADED, UNREAD))
            return
        self._open.forget_waiting(message.client)
        if not self._reception.is_back(message.client, time.monotonic()):
            self._schedule(work.ClientGone(message.client))

    def _schedule(self, event: work.Event, generation: Optional[Generation] = None) -> None:
        """Tell of an event; without a generation, all of them."""
        now = time.monotonic()
        if generation is not None:
            self._perform(generation.scheduler.handle(event, now))
            return
        for actions in self._generations.handle(event, now):
            self._perform(actions)

    def _perform(self, actions: List[work.Action]) -> None:
        pending = deque(actions)
        while pending:
            action = pending.popleft()
            if isinstance(action, work.Dispatch):
                # What follows comes last, for batches must leave in the order of their numbers.
                pending.extend(self._dispatch(action))
                continue
            if isinstance(action, (work.Unfit, work.LimitsChanged, work.RowFailed)):
                self._note_trouble(action)
                continue
            accepted = self._open.pop(action.handle)
            if isinstance(action, work.Failed):
                request = accepted.request
                why = (action.kind, action.message)
                self._fail(action.handle, request.name, asks_again(request), *why)
            elif isinstance(action, work.Completed):
                self._open.note_completed(accepted, time.monotonic())
            elif isinstance(action, work.Forgotten):
                multipart.send(self._sink, Dropped(action.handle).frames())

    def _note_trouble(self, action: Union[work.Unfit, work.LimitsChanged, work.RowFailed]) -> None:
        if isinstance(action, work.Unfit):
            worker = action.worker.decode("ascii")
            self._link.report("hung", worker=worker, reason=action.reason)
        elif isinstance(action, work.LimitsChanged):
            tokens = action.limits.tokens
            logger.warning("for lack of memory, batches count at most %d tokens for now", tokens)
        else:
            lost = RowLost(action.handle, action.index, action.message)
            multipart.send(self._sink, lost.frames())

    def _dispatch(self, action: work.Dispatch) -> List[work.Action]:
        """Send a batch; returns what is to be done if that fails."""
        batch = action.batch
        handles, indices, lengths, features = pack(batch.rows)
        poolings = self._open.note_sent(dict.fromkeys(handles.tolist()), time.monotonic())
        message = BatchMessage(
            batch.batch_id, handles, indices, lengths, features, action.alone, poolings
        )
        rows = len(batch.rows)
        self._statistics.count_batch(rows, batch.tokens, batch.longest * rows)
        try:
            multipart.send(self._workers, [action.worker] + message.frames())
        except zmq.ZMQError as error:
            # The connection is gone; the scheduler gives the rows to another worker.
            lost = work.WorkerLost(action.worker, str(error), unsent=batch.batch_id)
            now = time.monotonic()
            return [one for actions in self._generations.handle(lost, now) for one in actions]
        return []


def asks_again(request: Request) -> bool:
    """Whether its client does, if request or reply are lost."""
    return request.options is not None
