"""The ventilator process: takes requests in, has them tokenized, and deals rows to workers.

It answers nobody itself: replies, errors too, leave by the sink. Every request that can be read
gets a handle and ends, in the scheduler, in exactly one way.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any, Dict, Optional

import zmq

from bert_serving.client import multipart
from bert_serving.client.protocol import ErrorKind, MalformedMessage, Request
from bert_serving.server import work
from bert_serving.server.answers import Answers, asks_again
from bert_serving.server.batch_messages import Broken, Done, Ready
from bert_serving.server.commands import Commands
from bert_serving.server.curve import Gate
from bert_serving.server.delivery import UNREAD
from bert_serving.server.entrance import Entrance
from bert_serving.server.executor import Executor
from bert_serving.server.generation import Generation
from bert_serving.server.generations import Generations
from bert_serving.server.intake import Chunk, InvalidText
from bert_serving.server.link import Link
from bert_serving.server.logs import log_bug
from bert_serving.server.messages import decode
from bert_serving.server.open_requests import OpenRequests, Refusal
from bert_serving.server.reception import Reception
from bert_serving.server.request_messages import Announced, Gone, Waiting
from bert_serving.server.sizes import Size
from bert_serving.server.spec import Endpoints, ServiceSpec
from bert_serving.server.stats import Statistics

__all__ = ["Ventilator"]

logger = logging.getLogger(__name__)

#: How often deadlines are looked at while nothing else happens.
TICK_MS = 100
#: What clients are told that don't ask again by themselves.
LOST = "a process of the server's was lost, and this request with it; send it again"


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
        self._link = link
        self._gate = Gate(context, spec.security.curve) if spec.security.curve else None
        self._statistics = Statistics(time.monotonic())
        self._answers = Answers(context, endpoints.results, self._statistics)
        self._entrance = Entrance(context, spec, self._gate, self._statistics, self._answers)
        self._workers = context.socket(zmq.ROUTER)
        self._workers.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._workers.set_hwm(0)
        self._workers.bind(endpoints.workers)
        self._events = context.socket(zmq.PULL)
        self._events.bind(endpoints.events)
        for socket in (self._workers, self._events):
            socket.setsockopt(zmq.LINGER, 0)
        self._poller = zmq.Poller()
        self._generations = Generations(spec, vocabulary, self._poller)
        most = Size(spec.max_queue_rows, spec.max_queue_bytes, spec.max_reply_bytes)
        self._open = OpenRequests(self._statistics, most, spec.max_client_share)
        self._reception = Reception(spec, self._statistics, self._open)
        self._executor = Executor(
            self._generations, self._open, self._statistics, self._workers, self._answers, link
        )
        self._commands = Commands(
            self._entrance,
            self._generations,
            self._open,
            self._statistics,
            self._executor,
            self._answers,
            endpoints,
            link,
        )
        self._drain_until: Optional[float] = None  # while the supervisor waits for "drained"

    def run(self) -> None:
        """Serve until told to stop."""
        for socket in (self._entrance.socket, self._workers, self._events):
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
                    self._executor.fail_all(ErrorKind.SHUTTING_DOWN, "the server has stopped")
                    return
                self._obey(command)
            if self._gate is not None and self._gate.socket in ready:
                self._gate.answer()
            if self._workers in ready:
                self._read_workers()
            for generation in self._generations.ready(ready):
                for chunk in generation.intake.take():
                    self._add_chunk(chunk, generation)
            if self._entrance.socket in ready:
                self._entrance.read(self._take)
            self._executor.schedule(work.Tick())
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
        self._entrance.close()
        for socket in (self._workers, self._events):
            socket.close()
        self._answers.close()
        if self._gate is not None:
            self._gate.close()

    # -------------------------------------------------------------------------- supervisor

    def _obey(self, command: Dict[str, Any]) -> None:
        if command["command"] == "worker_lost":
            self._executor.schedule(
                work.WorkerLost(command["worker"].encode("ascii"), command["reason"])
            )
        elif command["command"] == "drain":
            # Not unbound: that would cut the connections, and what is on its way lost in silence.
            # Requests get an error from now on.
            self._reception.is_closed = True
            self._drain_until = time.monotonic() + command["timeout"]
        elif command["command"] == "abandon":
            if self._events.poll(0):  # what the sink said last: those have their answer
                self._read_events()
            self._link.report("abandoned", requests=self._open.of_protocol_1())
        elif command["command"] == "lost":
            for client, request_id in command["requests"]:
                name = (client.encode("latin-1"), request_id)
                self._answers.fail_named(None, name, False, ErrorKind.INTERNAL, LOST)
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

    def _refuse_the_rest(self) -> None:
        """Answer what has come since the last look; what comes later finds nobody."""
        self._reception.is_closed = True
        self._entrance.read_the_rest(self._take)

    def _report_drained(self) -> None:
        """Once everything that was accepted has ended, or its time is over, say so."""
        if self._drain_until is None:
            return
        if self._open and time.monotonic() >= self._drain_until:
            message = "the server is stopping and had no time left for this request"
            self._executor.fail_all(ErrorKind.SHUTTING_DOWN, message)
        if not self._open:
            self._link.report("drained", accepted=self._reception.accepted)
            self._drain_until = None

    # ---------------------------------------------------------------------------- requests

    def _take(self, request: Request, frame: zmq.Frame) -> None:
        accepted = self._reception.accepted
        try:
            if request.is_command:
                self._commands.obey(request, frame)
            else:
                self._accept(request)
        except MalformedMessage:
            raise
        except Exception as error:
            # A bug; but one request must not be the end for all.
            log_bug(logger, "a bug in taking a request", error)
            self._own_up(request, self._reception.accepted > accepted, error)

    def _own_up(self, request: Request, is_accepted: bool, error: Exception) -> None:
        """Answer a request that a bug kept from being served, whether it was accepted or not."""
        message = "a bug of the server's: %s" % type(error).__name__
        if is_accepted and self._reception.accepted in self._open:
            handle = self._reception.accepted
            self._executor.schedule(work.Rejected(handle, ErrorKind.INTERNAL, message))
        else:
            self._answers.fail(None, request, ErrorKind.INTERNAL, message)

    def _accept(self, request: Request) -> None:
        try:
            accepted = self._reception.take(request, time.monotonic())
        except Refusal as error:
            self._answers.fail(None, request, error.kind, str(error), error.retry_after)
            return
        if accepted is None:
            return
        # From here on the scheduler sees to it that the request ends.
        deadline = self._reception.deadline_of(accepted)
        generation, options = self._generations.current, accepted.options
        asked = (options.partial, options.user or "")
        self._executor.schedule(
            work.Opened(accepted.handle, request.identity, accepted.rows, deadline, *asked),
            generation,
        )
        if accepted.handle not in self._open:
            return  # there is no worker, or its time was over already
        chunk = generation.intake.start(accepted)
        if chunk is not None:
            self._add_chunk(chunk, generation)
        elif not asks_again(request):
            self._answers.send(Announced(accepted.handle, *request.name))

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
            self._executor.schedule(work.Rejected(chunk.handle, kind, str(chunk.error)))
            return
        rows = accepted.add(chunk)
        try:
            registered = self._reception.settle(accepted, generation.spec, time.monotonic())
        except Refusal as error:
            refusal = error.kind, str(error), error.retry_after
            self._executor.schedule(work.Rejected(chunk.handle, *refusal))
            return
        generation.intake.submit_next(accepted)
        if registered is not None:
            self._answers.send(registered)
        self._executor.schedule(work.RowsReady(chunk.handle, rows))

    # ----------------------------------------------------------------------------- workers

    def _read_workers(self) -> None:
        for name, *frames in multipart.received(self._workers):
            message = decode(multipart.contents(frames))
            assert isinstance(message, Ready)
            joined = work.WorkerJoined(name.bytes, message.credits, message.streams)
            generation = self._generations.of(message.generation)
            if generation is not None:
                self._executor.schedule(joined, generation)

    def _read_events(self) -> None:
        for frames in multipart.received(self._events):
            message = decode(multipart.contents(frames))
            if isinstance(message, Done):
                for batch_id, worker in message.batches:
                    self._statistics.count_done(worker)
                    self._executor.schedule(work.WorkDone(worker.encode("ascii"), batch_id))
            elif isinstance(message, Broken):
                failed = (message.batch_id, message.message, message.out_of_memory)
                self._executor.schedule(work.WorkFailed(message.worker.encode("ascii"), *failed))
            elif isinstance(message, Waiting):
                self._open.note_waiting(message.client, message.request_id, message.is_over)
            else:
                assert isinstance(message, Gone)
                self._note_gone(message)

    def _note_gone(self, message: Gone) -> None:
        self._statistics.count_expired_replies(message.lost)
        if message.listens:
            for handle in self._open.of_client(message.client):
                self._executor.schedule(work.Rejected(handle, ErrorKind.OVERLOADED, UNREAD))
            return
        self._open.forget_waiting(message.client)
        if not self._reception.is_back(message.client, time.monotonic()):
            self._executor.schedule(work.ClientGone(message.client))
