"""What the tests with bert-as-service 1.10 share: its reference results, and how to compare."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List

import numpy as np

from bert_serving.benchmarks.wire import Target

__all__ = ["TIMEOUT", "Reference", "Relay", "Serve", "batches_of", "check"]

TOLERANCE = 1e-4
#: A client's, in milliseconds, so that a test that fails ends.
TIMEOUT = 60_000

#: Starts an original server with some flags, for a block.
Serve = Callable[..., ContextManager[Target]]


class Reference:
    """A case: texts, or lists of tokens, and the vectors and tokens that 1.10 made of them."""

    def __init__(self, golden: Path, case: Dict[str, Any]) -> None:
        with np.load(str(golden / "tf1-tiny" / case["file"])) as stored:
            self.vectors = stored["vectors"]
            self.tokens: List[List[str]] = json.loads(str(stored["tokens"]))
        self.texts: List[Any] = case["texts"]


def check(vectors: Any, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """In each component; as much as two engines differ in float32."""
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=tolerance)


def batches_of(texts: List[str], size: int) -> List[List[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


class Relay:
    """Listens on ``port`` of this machine and passes on what comes to another one, until cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._sockets: List[socket.socket] = []
        self._threads: List[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(8)
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)

    def _run(self, work: Callable[..., None], *args: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=args))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                self._run(self._pass_on, near, far)
                self._run(self._pass_on, far, near)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while True:
                received = source.recv(65536)
                if not received:
                    break
                sink.sendall(received)
        self._hang_up([source, sink])

    def _hang_up(self, sockets: List[socket.socket]) -> None:
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break what is connected; new connections are passed on."""
        self._hang_up(list(self._sockets))

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *error: object) -> None:
        self._hang_up([self._listener])
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        for one in [*self._sockets, self._listener]:
            one.close()
