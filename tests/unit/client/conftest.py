"""A server for the client's tests: real sockets, answers from the test, no model."""

from __future__ import annotations

import json
import threading
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

import numpy as np
import pytest
import zmq

from bert_serving.client import BertClient, __version__
from bert_serving.client.frames import decode_request, info_frames, parse_texts, vectors_frames
from bert_serving.client.protocol import SHOW_CONFIG, SHOW_STATUS, Request, topic_of

JOIN_SECONDS = 10.0
Frames = List[bytes]
#: What to send for a request: any number of messages, also those of earlier requests.
Answer = Callable[[Request], Iterable[Frames]]

CONFIG = {
    "server_version": "1.10.0",
    "bert_serving_version": __version__,
    "protocol": 2,
    "max_seq_len": 25,
    "show_tokens_to_client": False,
}
CONFIG_1_10 = {"server_version": "1.10.0", "max_seq_len": 25, "show_tokens_to_client": False}


def vector_of(text: Any) -> List[float]:
    """Two numbers that tell texts apart."""
    joined = " ".join(text) if isinstance(text, list) else text
    return [float(len(joined)), float(sum(joined.encode("utf-8")))]


def vectors_of(texts: Iterable[Any]) -> np.ndarray:
    return np.array([vector_of(text) for text in texts], dtype=np.float32)


def vectors_reply(request: Request, tokens: Optional[bytes] = None) -> Frames:
    texts, _ = parse_texts(request)
    return vectors_frames(request.identity, request.request_id, vectors_of(texts), tokens)


class Script:
    """The answers of a well-behaved server; tests override ``texts``."""

    def __init__(self, config: Optional[Dict[str, Any]] = None, is_1_10: bool = False) -> None:
        self.config = dict(config or (CONFIG_1_10 if is_1_10 else CONFIG))
        self.is_1_10 = is_1_10
        self.info: Optional[bytes] = None  # instead of the configuration
        self.texts: Answer = lambda request: [vectors_reply(request)]

    def __call__(self, request: Request) -> Iterable[Frames]:
        if request.payload in (SHOW_CONFIG, SHOW_STATUS):
            info = json.dumps(dict(self.config, asked=request.payload.decode())).encode()
            answers: Iterable[Frames] = [
                info_frames(request.identity, request.request_id, self.info or info)
            ]
        else:
            answers = self.texts(request)
        for frames in answers:
            if self.is_1_10 and frames[0] == topic_of(request.identity):
                yield [request.identity, *frames[1:]]
            else:
                yield frames


class FakeServer:
    """Answers each request by ``script``, once the client that asks has subscribed."""

    def __init__(self, script: Script, host: str = "127.0.0.1") -> None:
        self.script = script
        self.requests: List[Frames] = []
        self._changed = threading.Condition()
        self._failure: Optional[BaseException] = None
        self._context = zmq.Context()
        self._pull = self._open(zmq.PULL)
        self._xpub = self._open(zmq.XPUB)
        bind = "tcp://[%s]" % host if ":" in host else "tcp://%s" % host
        self.port = self._pull.bind_to_random_port(bind)
        self.port_out = self._xpub.bind_to_random_port(bind)
        self._stopped = self._open(zmq.PAIR)
        self._stopped.bind("inproc://stop")
        self._stopper = self._open(zmq.PAIR)
        self._stopper.connect("inproc://stop")
        self._subscribed: Dict[bytes, bool] = {}
        self._held: Dict[bytes, List[Frames]] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _open(self, kind: int) -> Any:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        if kind in (zmq.PULL, zmq.XPUB):
            socket.setsockopt(zmq.IPV6, 1)
        return socket

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._pull, self._xpub, self._stopped):
            poller.register(socket, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if self._stopped in ready:
                    return
                if self._xpub in ready:
                    event = self._xpub.recv()
                    self._subscribed[event[1:]] = event[:1] == b"\1"
                    self._send_to(event[1:])
                if self._pull in ready:
                    self._handle(self._pull.recv_multipart())
        except BaseException as error:
            self._failure = error

    def _handle(self, frames: Frames) -> None:
        request = decode_request(frames)
        self._held.setdefault(request.identity, []).extend(self.script(request))
        with self._changed:
            self.requests.append(frames)
            self._changed.notify_all()
        self._send_to(request.identity)

    def _send_to(self, identity: bytes) -> None:
        if self._subscribed.get(identity):
            for frames in self._held.pop(identity, []):
                self._xpub.send_multipart(frames)

    @property
    def texts(self) -> List[Any]:
        """The texts of the requests so far, commands left out."""
        return [
            json.loads(frames[1]) for frames in self.requests if not frames[1].startswith(b"SHOW_")
        ]

    def wait_for(self, count: int) -> None:
        """Wait until ``count`` encode requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.texts) >= count, JOIN_SECONDS)

    def stop(self) -> None:
        self._stopper.send(b"")
        self._thread.join(JOIN_SECONDS)
        assert not self._thread.is_alive()
        self._context.destroy(linger=0)
        if self._failure is not None:
            raise self._failure


class Hold:
    """An answer that keeps replies back until ``count`` requests are there; then ``order``."""

    def __init__(
        self, count: int, order: Callable[[List[Any]], Iterable[Any]] = lambda replies: replies
    ) -> None:
        self.count = count
        self.order = order
        self.replies: List[Frames] = []

    def __call__(self, request: Request) -> Iterable[Frames]:
        self.replies.append(vectors_reply(request))
        if len(self.replies) < self.count:
            return []
        return self.order(self.replies)


@pytest.fixture
def hold() -> Any:
    return Hold


@pytest.fixture
def vectors() -> Any:
    """The vectors that the server answers texts with."""
    return vectors_of


@pytest.fixture
def answer() -> Any:
    """The reply to an encode request, as frames."""
    return vectors_reply


@pytest.fixture
def make_server() -> Iterator[Callable[..., FakeServer]]:
    servers: List[FakeServer] = []

    def make(host: str = "127.0.0.1", **kwargs: Any) -> FakeServer:
        servers.append(FakeServer(Script(**kwargs), host))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def server(make_server: Callable[..., FakeServer]) -> FakeServer:
    return make_server()


@pytest.fixture
def connect() -> Iterator[Callable[..., BertClient]]:
    clients: List[BertClient] = []

    def make(server: FakeServer, **kwargs: Any) -> BertClient:
        kwargs.setdefault("ip", "127.0.0.1")
        kwargs.setdefault("timeout", 10_000)
        clients.append(BertClient(port=server.port, port_out=server.port_out, **kwargs))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Callable[[], Any]]]:
    """Start a call in a thread; what it gives back waits for the result, or raises the error."""
    threads: List[threading.Thread] = []

    def start(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
        outcome: Dict[str, Any] = {}

        def run() -> None:
            try:
                outcome["result"] = function(*args, **kwargs)
            except BaseException as error:
                outcome["error"] = error

        def result() -> Any:
            thread.join(JOIN_SECONDS)
            assert not thread.is_alive()
            if "error" in outcome:
                raise outcome.pop("error")
            return outcome["result"]

        thread = threading.Thread(target=run)
        threads.append(thread)
        thread.start()
        return result

    yield start
    for thread in threads:
        thread.join(JOIN_SECONDS)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
