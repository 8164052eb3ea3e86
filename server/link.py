"""A process's link to its supervisor: it reports events and is told commands, both JSON.

The supervisor holds the other end of the process's standard input and never writes to it after
the start: when it reads as closed, the supervisor is gone, however it ended, and so goes the
process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, List

import zmq

__all__ = ["Link", "Orphaned"]


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
