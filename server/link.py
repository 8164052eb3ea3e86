"""A process's link to its supervisor: it reports events and is told commands, both JSON.

The supervisor holds the other end of the process's standard input and never writes to it after
the start: when it reads as closed, the supervisor is gone, however it ended, and so goes the
process. Signs of life go through a pipe of their own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, Dict, List

import zmq

from bert_serving.server.heartbeats import BEAT

__all__ = ["Heart", "Link", "Orphaned"]

#: Seconds for a process to end by itself when its supervisor is gone.
ORPHAN_TIMEOUT = 3.0


class Orphaned(Exception):
    """The supervisor is gone."""


class Link:
    """The process's end."""

    def __init__(self, context: zmq.Context, endpoint: str, name: str) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, name.encode("ascii"))
        # Long enough for a last word, short enough not to be stuck when nobody hears it.
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.connect(endpoint)

    def register(self, poller: zmq.Poller) -> None:
        """Have ``poller`` wake up for commands and for the supervisor's end."""
        poller.register(self._socket, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)

    def file_descriptors(self) -> List[int]:
        """For event loops that know no ZeroMQ: look for commands when one of these is readable,
        and after each report, for ZeroMQ doesn't say twice that something has come.
        """
        return [self._socket.getsockopt(zmq.FD), sys.stdin.fileno()]

    def report(self, event: str, **values: Any) -> None:
        """Tell the supervisor."""
        self._socket.send(json.dumps(dict(values, event=event)).encode("utf-8"))

    def commands(self, ready: Dict[Any, int]) -> List[Dict[str, Any]]:
        """The commands that came; ``ready`` is what the poller returned.

        Raises Orphaned.
        """
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 1):
            raise Orphaned
        commands = []
        if self._socket in ready:
            while self._socket.poll(0):
                commands.append(json.loads(self._socket.recv()))
        return commands

    def close(self) -> None:
        self._socket.close()


class Heart(threading.Thread):
    """Says that the process is alive, from now until it ends or :meth:`stop`.

    A byte twice a second, into a pipe that doesn't block: if nobody reads it, nothing is lost. A
    process that goes on without its supervisor is ended, for its main thread may be stuck.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(name="heart", daemon=True)
        self._fd = fd
        self._is_over = threading.Event()

    def run(self) -> None:
        """The thread's work; call start() instead."""
        try:
            while not self._is_over.wait(BEAT):
                with suppress(BlockingIOError):
                    os.write(self._fd, b"\0")
        except BrokenPipeError:  # the supervisor is gone, which the link notices, too
            if not self._is_over.wait(ORPHAN_TIMEOUT):
                os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        self._is_over.set()
        self.join()
        os.close(self._fd)
