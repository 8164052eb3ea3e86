"""Clients that ask all the time, each in a thread: by protocol 1, by protocol 2, over HTTP.

They check what they get against what the echo engine computes. What isn't right must be an
exception, within the time that they allow.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from abc import ABC, abstractmethod
from typing import List, Optional

import numpy as np
import zmq

from bert_serving.benchmarks.chaos.tally import Tally
from bert_serving.benchmarks.chaos.texts import Texts
from bert_serving.benchmarks.wire import Target
from bert_serving.client import BertClient, BertServingError
from bert_serving.client.frames import encode_request, encode_texts
from bert_serving.client.protocol import ErrorReply, Request, VectorsReply
from bert_serving.client.reply_frames import decode_reply

__all__ = ["HttpLoad", "Load", "Protocol1Load", "Protocol2Load"]

#: Seconds that clients allow for a request.
TIMEOUT = 60.0


class Load(ABC):
    """A client in a thread; it asks until :meth:`stop`, one request after the other, but no more
    than one in ``interval`` seconds.
    """

    def __init__(self, tally: Tally, seed: int) -> None:
        self.tally = tally
        self._texts = Texts(seed)
        self.interval = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()

    def join(self, seconds: float) -> bool:
        """Wait for the last answer; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._open()
        try:
            while not self._stopping.is_set():
                due = time.monotonic() + self.interval
                texts = self._texts.draw()
                with self.tally.request() as tell:
                    try:
                        vectors = self._encode(texts)
                    except (BertServingError, OSError, http.client.HTTPException) as error:
                        tell(type(error).__name__)
                        self._stopping.wait(0.1)  # a refusal comes at once; others want the cores
                    else:
                        tell("right" if self._texts.is_right(texts, vectors) else "wrong")
                if self.interval:
                    self._stopping.wait(max(0.0, due - time.monotonic()))
        finally:
            self._close()

    def _open(self) -> None:  # noqa: B027 - not all have to
        """Connect, in the thread."""

    @abstractmethod
    def _encode(self, texts: List[str]) -> np.ndarray:
        """Float32 [rows, dimension]."""

    @abstractmethod
    def _close(self) -> None:
        """Disconnect, in the thread."""


class Protocol2Load(Load):
    """Our client, which asks again what was lost; several loads may share one."""

    def __init__(self, tally: Tally, seed: int, client: BertClient) -> None:
        super().__init__(tally, seed)
        self._client = client

    def _encode(self, texts: List[str]) -> np.ndarray:
        vectors: np.ndarray = self._client.encode(texts, timeout=TIMEOUT)
        return vectors

    def _close(self) -> None:
        """The client is the caller's."""


class Protocol1Load(Load):
    """As 1.10's client asks: four frames, and what is lost stays so until its own timeout."""

    def __init__(self, tally: Tally, seed: int, target: Target) -> None:
        super().__init__(tally, seed)
        self._target = target

    def _open(self) -> None:
        self._identity = uuid.uuid4().hex.encode("ascii")
        self._number = 0
        self._context = zmq.Context()
        self._sender = self._context.socket(zmq.PUSH)
        self._receiver = self._context.socket(zmq.SUB)
        self._receiver.setsockopt(zmq.SUBSCRIBE, self._identity)
        for socket, port in (
            (self._sender, self._target.port),
            (self._receiver, self._target.port_out),
        ):
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect("tcp://127.0.0.1:%d" % port)

    def _encode(self, texts: List[str]) -> np.ndarray:
        self._number += 1
        request = Request(self._identity, encode_texts(texts), self._number, len(texts))
        self._sender.send_multipart(encode_request(request))
        while self._receiver.poll(int(TIMEOUT * 1000)):
            reply = decode_reply(self._receiver.recv_multipart())
            if reply.request_id != self._number:
                continue  # of a request that was given up
            if isinstance(reply, ErrorReply):
                raise BertServingError(reply.message)
            assert isinstance(reply, VectorsReply)
            return reply.array
        raise TimeoutError("no answer")

    def _close(self) -> None:
        self._context.destroy(linger=0)


class HttpLoad(Load):
    """POST /encode over a connection that is kept as long as it lasts."""

    def __init__(self, tally: Tally, seed: int, port: int) -> None:
        super().__init__(tally, seed)
        self._port = port
        self._connection: Optional[http.client.HTTPConnection] = None

    def _encode(self, texts: List[str]) -> np.ndarray:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            self._connection.request("POST", "/encode", json.dumps({"texts": texts}))
            response = self._connection.getresponse()
            content = json.loads(response.read())
        except BaseException:
            self._close()
            raise
        if response.status != 200:
            raise http.client.HTTPException(content["description"])
        return np.array(content["result"], np.float32)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
