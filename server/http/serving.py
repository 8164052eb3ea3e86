"""The process of the role "http": uvicorn around the application, and a client of the ventilator.

It listens from its start on, takes requests when the pipeline has answered it once, and stops by
the command "drain": it listens no more, finishes what it has, and reports "http_drained". While the
pipeline is started again, "pause" and "resume" tell that it isn't ready; "reload" brings another
model.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Callable, Dict, Iterator, List, Optional

import uvicorn
import zmq

from bert_serving.client import AsyncBertClient, BertServingError
from bert_serving.client.curve import Keys
from bert_serving.server.errors import StartupError
from bert_serving.server.generation import vocabulary_of
from bert_serving.server.heartbeats import BEAT
from bert_serving.server.http.app import create_app
from bert_serving.server.http.connections import BoundedProtocol, protocol_within
from bert_serving.server.http.probes import PROBE_SECONDS
from bert_serving.server.http.readiness import Readiness
from bert_serving.server.http.service import Service
from bert_serving.server.link import Link
from bert_serving.server.spec import CurveSpec, ServiceSpec

__all__ = ["HttpFrontEnd", "listen"]

logger = logging.getLogger(__name__)

#: Seconds that the pipeline has to answer for the first time; it may still be starting.
CONNECT_SECONDS = 120.0
#: Seconds for the requests that are under way when the process is told to stop at once.
STOP_SECONDS = 1.0
#: Seconds that a connection without a request is kept: longer than clients and proxies keep theirs,
#: or they would find it closed when they use it again.
KEEP_ALIVE = 75
BACKLOG = 1024
#: Addresses to listen on, by those to reach them.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}  # noqa: S104 - looked up


class HttpFrontEnd:
    """See the module's docstring."""

    def __init__(self, spec: ServiceSpec, link: Link, vocabulary: Dict[str, int]) -> None:
        assert spec.http is not None
        self._spec = spec
        self._http = spec.http
        self._link = link
        self._vocabulary = vocabulary
        self._socket = listen(spec.host, spec.http.port)
        self._server: Optional[_Server] = None
        self._readiness: Optional[Readiness] = None
        self._service: Optional[Service] = None
        self._is_draining = False

    def run(self) -> None:
        """Serve until told to stop.

        Raises StartupError if the pipeline doesn't answer, and Orphaned.
        """
        _share_log()
        loop = _new_loop()
        try:
            loop.run_until_complete(self._run())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def close(self) -> None:
        self._socket.close()

    async def _run(self) -> None:
        loop = asyncio.get_event_loop()
        self._over: "asyncio.Future[None]" = loop.create_future()
        self._poller = zmq.Poller()
        self._link.register(self._poller)
        for fd in self._link.file_descriptors():
            loop.add_reader(fd, self._look_for_commands)
        self._look_for_commands()
        self._turn(loop)
        serving = asyncio.ensure_future(self._serve())
        try:
            await asyncio.wait({serving, self._over}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
                self._report("http_drained")
            await self._over
        finally:
            self._next_turn.cancel()
            await self._stop_at_once(serving)
            for fd in self._link.file_descriptors():
                loop.remove_reader(fd)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let it be noticed when the loop is stuck."""
        self._link.note_turn()
        self._next_turn = loop.call_later(BEAT, self._turn, loop)

    def _look_for_commands(self) -> None:
        try:
            for command in self._link.commands(dict(self._poller.poll(0))):
                self._obey(command)
        except Exception as error:  # Orphaned is one, too
            if not self._over.done():
                self._over.set_exception(error)

    def _obey(self, command: Dict[str, Any]) -> None:
        name = command["command"]
        if name == "stop" and not self._over.done():
            self._over.set_result(None)
        elif name == "drain":
            self._is_draining = True
            if self._readiness is not None:
                self._readiness.stop()
            if self._server is not None:
                self._server.should_exit = True
                asyncio.get_event_loop().call_later(self._spec.drain_timeout, self._server.abandon)
        elif name in ("pause", "resume") and self._readiness is not None:
            self._readiness.pause(name == "pause")
        elif name == "reload":
            self._spec = ServiceSpec.from_json(command["spec"])
            self._vocabulary = vocabulary_of(self._spec)
            if self._service is not None:
                self._service.change(self._spec, self._vocabulary)

    def _report(self, event: str) -> None:
        self._link.report(event)
        self._look_for_commands()

    async def _serve(self) -> None:
        client = AsyncBertClient(
            ip=WILDCARDS.get(self._spec.host, self._spec.host),
            port=self._spec.port,
            port_out=self._spec.port_out,
            check_length=False,
            timeout=CONNECT_SECONDS * 1000,
            keys=_own_keys(self._spec.security.curve),
        )
        try:
            try:
                await client.connect()
            except BertServingError as error:
                raise StartupError("the pipeline doesn't answer: %s" % error) from error
            await self._serve_by(client)
        finally:
            client.close()

    async def _serve_by(self, client: AsyncBertClient) -> None:
        async def check() -> None:
            await client.encode(["ready"], timeout=PROBE_SECONDS)

        self._readiness = Readiness(check)
        service = Service(self._spec, self._http, client, self._vocabulary, self._readiness)
        self._service = service
        config = uvicorn.Config(
            create_app(service),
            http=protocol_within(self._http.timeout),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # anybody can send them
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(self._http.timeout),
            ssl_certfile=self._http.tls_cert,
            ssl_keyfile=self._http.tls_key,
        )
        self._server = _Server(config, lambda: self._report("ready"))
        self._server.should_exit = self._is_draining
        await self._server.serve(sockets=[self._socket])

    async def _stop_at_once(self, serving: "asyncio.Future[None]") -> None:
        """End what a drain didn't, for the process is to go."""
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True
            await asyncio.wait({serving}, timeout=STOP_SECONDS)
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def _own_keys(curve: Optional[CurveSpec]) -> Optional[Keys]:
    """Those of this process, which ventilator and sink let in."""
    return None if curve is None else Keys(curve.own_public, curve.own_secret, curve.public)


class _Server(uvicorn.Server):
    """One that tells when it has started, and leaves signals to the process."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: Optional[List[socket.socket]] = None) -> None:
        await super().startup(sockets=sockets)
        self._on_started()

    def abandon(self) -> None:
        """Cut the connections of clients that don't take their answers."""
        for connection in list(self.server_state.connections):
            assert isinstance(connection, BoundedProtocol)
            connection.abandon()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def install_signal_handlers(self) -> None:
        """What older releases call instead."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at a host name, an IPv4 or an IPv6 address.

    Raises StartupError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise StartupError("can't listen on %s port %d: %s" % (host, port, reason)) from error
    listener.setblocking(False)
    return listener


def _share_log() -> None:
    """Bugs that uvicorn meets appear in our log; its warnings tell of clients' mistakes."""
    theirs = logging.getLogger("uvicorn")
    theirs.handlers = logging.getLogger("bert_serving").handlers
    theirs.setLevel(logging.ERROR)
    theirs.propagate = False


def _new_loop() -> asyncio.AbstractEventLoop:
    """The faster event loop, if it is installed."""
    make: Any = import_module("uvloop") if find_spec("uvloop") is not None else asyncio
    loop: asyncio.AbstractEventLoop = make.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop
