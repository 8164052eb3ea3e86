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
from typing import Any, Dict, List, Optional

import zmq

from bert_serving.client import multipart, protocol
from bert_serving.client.frames import decode_request, parse_texts
from bert_serving.client.protocol import ErrorKind, MalformedMessage, Request
from bert_serving.server import work
from bert_serving.server.addresses import bind_tcp, is_loopback
from bert_serving.server.batching import BatchLimits, pack
from bert_serving.server.intake import Accepted, Chunk, Intake, InvalidText
from bert_serving.server.link import Link
from bert_serving.server.messages import (
    BatchMessage,
    Broken,
    Done,
    Dropped,
    Gone,
    Info,
    Ready,
    RequestFailed,
    decode,
)
from bert_serving.server.scheduler import Scheduler
from bert_serving.server.spec import Endpoints, ServiceSpec
from bert_serving.server.stats import Statistics
from bert_serving.server.status import describe_service
from bert_serving.server.tokenization import Tokenizer

__all__ = ["Ventilator"]

logger = logging.getLogger(__name__)

#: How often deadlines are looked at while nothing else happens.
TICK_MS = 100
#: Requests read before the other sockets get their turn.
BURST = 50


class Ventilator:
    """The process's sockets around :class:`Scheduler` and :class:`Intake`."""

    def __init__(
        self,
        context: zmq.Context,
        spec: ServiceSpec,
        endpoints: Endpoints,
        link: Link,
        vocabulary: Dict[str, int],
    ) -> None:
        self._spec = spec
        self._endpoints = endpoints
        self._link = link
        self._requests = context.socket(zmq.PULL)
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
        limits = BatchLimits(spec.max_batch_size, spec.token_budget, spec.padding_weight)
        self._scheduler = Scheduler(
            limits, spec.priority_batch_size, split_tokens=spec.engine.split_tokens
        )
        self._intake = Intake(Tokenizer(vocabulary, spec.tokenizer), spec.show_tokens)
        self._statistics = Statistics(time.monotonic())
        self._accepted: Dict[int, Accepted] = {}
        self._handles = 0
        self._is_stopping = False
        self._drain_until: Optional[float] = None  # while the supervisor waits for "drained"

    def run(self) -> None:
        """Serve until told to stop."""
        poller = zmq.Poller()
        for socket in (self._requests, self._workers, self._events):
            poller.register(socket, zmq.POLLIN)
        poller.register(self._intake.wake_up_fd, zmq.POLLIN)
        self._link.register(poller)
        self._link.report("ready")
        while True:
            ready = dict(poller.poll(self._patience()))
            for command in self._link.commands(ready):
                if command["command"] == "stop":
                    self._refuse_the_rest()
                    return
                self._obey(command)
            if self._workers in ready:
                self._read_workers()
            if self._events in ready:
                self._read_events()
            if self._intake.wake_up_fd in ready:
                for chunk in self._intake.take():
                    self._add_chunk(chunk)
            if self._requests in ready:
                self._read_requests()
            self._schedule(work.Tick())
            self._report_drained()

    def _patience(self) -> Optional[int]:
        """Milliseconds after which there is something to do though nothing has come."""
        wake_at = self._scheduler.wake_at()
        if wake_at is None:
            return TICK_MS if self._accepted or self._is_stopping else None
        # Rounded up: rounded down, it would look again and again within the last millisecond.
        return min(TICK_MS, max(0, math.ceil((wake_at - time.monotonic()) * 1000)))

    def close(self) -> None:
        self._intake.close()
        for socket in (self._requests, self._workers, self._events, self._sink):
            socket.close()

    # -------------------------------------------------------------------------- supervisor

    def _obey(self, command: Dict[str, Any]) -> None:
        if command["command"] == "worker_lost":
            self._schedule(work.WorkerLost(command["worker"].encode("ascii"), command["reason"]))
        elif command["command"] == "drain":
            # Not unbound: that would cut the connections, and what is on its way lost in silence.
            # Requests get an error from now on.
            self._is_stopping = True
            self._drain_until = time.monotonic() + command["timeout"]

    def _refuse_the_rest(self) -> None:
        """Answer what has come since the last look; what comes later finds nobody."""
        self._is_stopping = True
        while self._requests.poll(0):
            self._read_requests()

    def _report_drained(self) -> None:
        """Once everything that was accepted has ended, or its time is over, say so."""
        if self._drain_until is None:
            return
        if self._accepted and time.monotonic() >= self._drain_until:
            message = "the server is stopping and had no time left for this request"
            self._perform(self._scheduler.fail_all(ErrorKind.SHUTTING_DOWN, message))
        if not self._accepted:
            self._link.report("drained", accepted=self._handles)
            self._drain_until = None

    # ---------------------------------------------------------------------------- requests

    def _read_requests(self) -> None:
        for frames in islice(multipart.received(self._requests), BURST):
            request: Optional[Request] = None
            handles = self._handles
            try:
                request = decode_request(multipart.contents(frames))
                self._take(request, frames[0])
            except MalformedMessage as error:
                self._refuse(error)
            except Exception as error:
                # A bug; but one request must not be the end for all.
                logger.exception("a bug in taking a request")
                self._own_up(request, self._handles if self._handles > handles else None, error)

    def _own_up(self, request: Optional[Request], handle: Optional[int], error: Exception) -> None:
        """Answer a request that a bug kept from being served, whether it was accepted or not."""
        message = "a bug of the server's: %s" % type(error).__name__
        if handle in self._accepted:
            self._schedule(work.Rejected(handle, ErrorKind.INTERNAL, message))
        elif request is not None:
            self._fail(None, request.identity, request.request_id, ErrorKind.INTERNAL, message)

    def _refuse(self, error: MalformedMessage) -> None:
        self._statistics.count_error("malformed")
        logger.warning("refused a request of client %r that can't be read", error.identity)
        logger.debug("it can't be read because %s", error)  # which may quote a text
        if error.identity is not None and error.request_id is not None:
            self._fail(None, error.identity, error.request_id, ErrorKind.BAD_REQUEST, str(error))

    def _fail(
        self, handle: Optional[int], client: bytes, request_id: int, kind: str, message: str
    ) -> None:
        self._statistics.count_error(kind)
        failure = RequestFailed(handle, client, request_id, kind, message)
        multipart.send(self._sink, failure.frames())

    def _take(self, request: Request, frame: zmq.Frame) -> None:
        if request.is_command:
            self._command(request, frame)
            return
        if self._is_stopping:
            message = "the server is stopping and takes no new requests"
            self._fail(None, request.identity, request.request_id, ErrorKind.SHUTTING_DOWN, message)
            return
        texts, is_tokenized = parse_texts(request)
        logger.debug(
            "request %d of client %r: %d texts", request.request_id, request.identity, len(texts)
        )
        now = time.monotonic()
        deadline = None if request.timeout is None else now + request.timeout
        self._statistics.count_request(request.identity, len(texts), now)
        self._handles += 1
        accepted = Accepted(
            self._handles, request, texts, is_tokenized, self._spec.engine.per_token
        )
        # From here on the scheduler sees to it that the request ends.
        self._accepted[accepted.handle] = accepted
        self._schedule(work.Opened(accepted.handle, request.identity, len(texts), deadline))
        chunk = self._intake.start(accepted)
        if chunk is not None:
            self._add_chunk(chunk)

    def _command(self, request: Request, frame: zmq.Frame) -> None:
        if request.payload == protocol.TERMINATION:
            peer = str(frame.get("Peer-Address"))
            if is_loopback(peer):
                self._link.report("terminate")
            else:
                logger.warning("refused to stop for %s: only this machine may ask for it", peer)
            return
        self._statistics.count_command(request.identity)
        statistics = None
        if request.payload == protocol.SHOW_STATUS:
            now = time.monotonic()
            statistics = self._statistics.report(now)
            statistics["num_open_request"] = len(self._accepted)
            statistics["num_waiting_row"] = self._scheduler.waiting_rows
        info = describe_service(self._spec, self._endpoints, request.identity, statistics)
        multipart.send(self._sink, Info(request.identity, request.request_id, info).frames())

    def _add_chunk(self, chunk: Chunk) -> None:
        accepted = self._accepted.get(chunk.handle)
        if accepted is None:
            return  # the request has ended meanwhile
        if chunk.error is not None:
            kind = ErrorKind.INTERNAL
            if isinstance(chunk.error, InvalidText):
                kind = ErrorKind.BAD_REQUEST
            else:
                logger.error("can't tokenize a request", exc_info=chunk.error)
            self._schedule(work.Rejected(chunk.handle, kind, str(chunk.error)))
            return
        rows = accepted.add(chunk)
        self._intake.submit_next(accepted)
        if accepted.is_complete:
            spec = self._spec
            registered = accepted.registered(
                spec.max_batch_size, spec.tokenizer.max_length, spec.fixed_length
            )
            multipart.send(self._sink, registered.frames())
        self._schedule(work.RowsReady(chunk.handle, rows))

    # ----------------------------------------------------------------------------- workers

    def _read_workers(self) -> None:
        for name, *frames in multipart.received(self._workers):
            worker = name.bytes
            message = decode(multipart.contents(frames))
            if isinstance(message, Ready):
                self._schedule(work.WorkerJoined(worker, message.credits, message.streams))
            elif isinstance(message, Done):
                self._schedule(work.WorkDone(worker, message.batch_id))
            elif isinstance(message, Broken):
                self._schedule(work.WorkFailed(worker, message.batch_id, message.message))

    def _read_events(self) -> None:
        for frames in multipart.received(self._events):
            message = decode(multipart.contents(frames))
            assert isinstance(message, Gone)
            self._schedule(work.ClientGone(message.client))

    def _schedule(self, event: work.Event) -> None:
        self._perform(self._scheduler.handle(event, time.monotonic()))

    def _perform(self, actions: List[work.Action]) -> None:
        pending = deque(actions)
        while pending:
            action = pending.popleft()
            if isinstance(action, work.Dispatch):
                # What follows comes last, for batches must leave in the order of their numbers.
                pending.extend(self._dispatch(action))
                continue
            request = self._accepted.pop(action.handle).request
            if isinstance(action, work.Failed):
                self._fail(
                    action.handle, request.identity, request.request_id, action.kind, action.message
                )
            elif isinstance(action, work.Forgotten):
                multipart.send(self._sink, Dropped(action.handle).frames())

    def _dispatch(self, action: work.Dispatch) -> List[work.Action]:
        """Send a batch; returns what is to be done if that fails."""
        batch = action.batch
        message = BatchMessage(batch.batch_id, *pack(batch.rows), action.alone)
        rows = len(batch.rows)
        self._statistics.count_batch(rows, batch.tokens, batch.longest * rows)
        try:
            multipart.send(self._workers, [action.worker] + message.frames())
        except zmq.ZMQError as error:
            # The connection is gone; the scheduler gives the rows to another worker.
            lost = work.WorkerLost(action.worker, str(error))
            return self._scheduler.handle(lost, time.monotonic())
        return []
