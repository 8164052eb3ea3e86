"""A relay of TCP connections that can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any, Callable, List

__all__ = ["Relay"]


class Relay:
    """Listens on ``port`` of this machine and passes on what comes to another one, until cut.

    ``target`` is that port; another one holds for new connections.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._sockets: List[socket.socket] = []
        self._threads: List[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)

    def _run(self, work: Callable[..., None], *args: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return  # closed
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()  # nobody listens there now
                continue
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
