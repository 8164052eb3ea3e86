"""A server for the client's tests: real sockets, answers from the test, no model."""

from __future__ import annotations

import json
import threading
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set

import numpy as np
import pytest
import zmq

from bert_serving.client import BertClient, __version__
from bert_serving.client.frames import decode_request, parse_texts
from bert_serving.client.protocol import (
    CANCEL,
    SHOW_CONFIG,
    SHOW_STATUS,
    Details,
    ErrorKind,
    Part,
    Request,
    Timings,
    topic_of,
)
from bert_serving.client.reply_frames import error_frames, info_frames, vectors_frames

JOIN_SECONDS = 10.0
Frames = List[bytes]
#: What to send for a request: any number of messages, also those of earlier requests.
Answer = Callable[[Request], Iterable[Frames]]

MODEL = "0123456789abcdef"
CONFIG = {
    "server_version": "1.10.0",
    "bert_serving_version": __version__,
    "protocol": 2,
    "model_fingerprint": MODEL,
    "max_seq_len": 25,
    "max_length": 25,
    "show_tokens_to_client": False,
}
CONFIG_1_10 = {
    "server_version": "1.10.0",
    "max_seq_len": 25,
    "show_tokens_to_client": False,
    "pooling_strategy": 2,
    "pooling_layer": [-2],
}
TIMINGS = Timings(0.25, 0.5, 0.75, 1.5)
#: How many words of a text the server takes.
MAX_WORDS = 25


def vector_of(text: Any) -> List[float]:
    """Two numbers that tell texts apart."""
    joined = " ".join(text) if isinstance(text, list) else text
    return [float(len(joined)), float(sum(joined.encode("utf-8")))]


def vectors_of(texts: Iterable[Any]) -> np.ndarray:
    return np.array([vector_of(text) for text in texts], dtype=np.float32)


def words_of(text: Any) -> List[str]:
    """The tokens of this server."""
    if isinstance(text, str):
        return text.split()
    return [word for one in text for word in one.split()]


def offsets_of(text: str) -> List[List[int]]:
    spans, start = [], 0
    for word in text.split():
        start = text.index(word, start)
        spans.append([start, start + len(word)])
        start += len(word)
    return spans


def vectors_reply(
    request: Request,
    tokens: Optional[bytes] = None,
    rows: Optional[List[int]] = None,
    is_last: bool = True,
    model: Optional[str] = MODEL,
) -> Frames:
    """The reply to an encode request, of protocol 2 if it is; a part if ``rows`` are named."""
    texts, _ = parse_texts(request)
    options = request.options
    chosen = list(range(len(texts))) if rows is None else rows
    mine = [texts[row] for row in chosen]
    array = vectors_of(mine)
    details = offsets = None
    if options is not None:
        array = array.astype(options.dtype)
        if tokens is None and options.tokens:
            tokens = json.dumps([words_of(text) for text in mine]).encode()
        cut = tuple(row for row in chosen if len(words_of(texts[row])) > MAX_WORDS)
        details = Details(sum(len(words_of(text)) for text in texts), cut, TIMINGS, model=model)
        if options.offsets:
            offsets = json.dumps([offsets_of(text) for text in mine]).encode()
    part = None if rows is None else Part(rows, is_last)
    return vectors_frames(
        request.identity, request.request_id, array, tokens, details, part, offsets
    )


def stream_reply(request: Request, size: int = 2, model: Optional[str] = MODEL) -> List[Frames]:
    """All parts of a stream, of ``size`` rows each."""
    starts = range(0, request.rows, size)
    return [
        vectors_reply(
            request,
            None,
            list(range(start, min(start + size, request.rows))),
            start + size >= request.rows,
            model,
        )
        for start in starts
    ]


def well_behaved(request: Request) -> List[Frames]:
    """What a server answers texts with."""
    options = request.options
    if options is None or not options.stream:
        if options is not None and options.truncate is False:
            texts, _ = parse_texts(request)
            for row, text in enumerate(texts):
                if len(words_of(text)) > MAX_WORDS:
                    where = (request.identity, request.request_id)
                    return [error_frames(*where, ErrorKind.TOO_LONG, "texts[%d] is" % row)]
        return [vectors_reply(request)]
    return stream_reply(request)


class Script:
    """The answers of a well-behaved server; tests override ``texts``."""

    def __init__(self, config: Optional[Dict[str, Any]] = None, is_1_10: bool = False) -> None:
        self.config = dict(config or (CONFIG_1_10 if is_1_10 else CONFIG))
        self.is_1_10 = is_1_10
        self.answers_commands = True
        self.info: Optional[bytes] = None  # instead of the configuration
        self.texts: Answer = well_behaved

    def __call__(self, request: Request) -> Iterable[Frames]:
        if request.payload in (SHOW_CONFIG, SHOW_STATUS):
            info = json.dumps(dict(self.config, asked=request.payload.decode())).encode()
            answers: Iterable[Frames] = [
                info_frames(request.identity, request.request_id, self.info or info)
            ] * self.answers_commands
        elif request.payload == CANCEL:
            answers = []
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
        self._host = "tcp://[%s]" % host if ":" in host else "tcp://%s" % host
        self.port = self.port_out = 0
        self._thread: Optional[threading.Thread] = None
        self.start()

    def start(self) -> None:
        """Listen, on the same ports as before."""
        # A context of its own: its end waits until the ports are free.
        self._context = zmq.Context()
        self._stopped = self._open(zmq.PAIR)
        self._stopped.bind("inproc://stop")
        self._stopper = self._open(zmq.PAIR)
        self._stopper.connect("inproc://stop")
        self._pull = self._open(zmq.PULL)
        self._xpub = self._open(zmq.XPUB)
        self.port = self._bind(self._pull, self.port)
        self.port_out = self._bind(self._xpub, self.port_out)
        self._subscribed: Dict[bytes, bool] = {}
        self._held: Dict[bytes, List[Frames]] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _bind(self, socket: Any, port: int) -> int:
        if not port:
            return int(socket.bind_to_random_port(self._host))
        socket.bind("%s:%d" % (self._host, port))
        return port

    def kill(self) -> None:
        """Stop listening; what was received and not answered is lost."""
        if self._thread is None:
            return
        self._stopper.send(b"")
        self._thread.join(JOIN_SECONDS)
        assert not self._thread.is_alive()
        self._thread = None
        self._context.destroy(linger=0)

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
        return [json.loads(frames[1]) for frames in self.requests if frames[1][:1] == b"["]

    @property
    def headers(self) -> List[Any]:
        """The headers of the requests so far, commands left out; None: protocol 1."""
        return [
            json.loads(frames[4]) if len(frames) > 4 else None
            for frames in self.requests
            if frames[1][:1] == b"["
        ]

    @property
    def cancelled(self) -> List[int]:
        """The ids of requests that were cancelled."""
        return [int(frames[2]) for frames in self.requests if frames[1] == CANCEL]

    def wait_for(self, count: int) -> None:
        """Wait until ``count`` encode requests have come."""
        self.wait_until(lambda: len(self.texts) >= count)

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Wait until ``condition`` holds, which may change with every request."""
        with self._changed:
            assert self._changed.wait_for(condition, JOIN_SECONDS)

    def stop(self) -> None:
        self.kill()
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
def parts() -> Any:
    """The replies to a request of a stream, as frames."""
    return stream_reply


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


def our_threads() -> Set[threading.Thread]:
    """All but the one that tqdm starts with its first bar."""
    return {thread for thread in threading.enumerate() if thread.name != "tqdm_monitor"}


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = our_threads()
    yield
    assert our_threads() <= before
