"""A process's link to its supervisor: it reports events and is told commands, both JSON.

The supervisor holds the other end of the process's standard input and never writes to it after
the start: when it reads as closed, the supervisor is gone, however it ended, and so goes the
process. Signs of life go through a pipe of their own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional

import zmq

from bert_serving.server.heartbeats import BEAT

__all__ = ["Heart", "Link", "Orphaned"]

#: Seconds for a process to end by itself when its supervisor is gone.
ORPHAN_TIMEOUT = 3.0
#: Seconds that a loop may take for a turn before its process gives no more signs of life. That is
#: no verdict: with one that computes meanwhile, the supervisor has patience.
LONGEST_TURN = 1.0


class Orphaned(Exception):
    """The supervisor is gone."""


class Heart(threading.Thread):
    """Says that the process is alive, from now until it ends or :meth:`stop`.

    A byte twice a second, into a pipe that doesn't block: if nobody reads it, nothing is lost. A
    process that goes on without its supervisor is ended, for its main thread may be stuck.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(name="heart", daemon=True)
        self._fd = fd
        self._is_over = threading.Event()
        self._turn_began: Optional[float] = None

    def run(self) -> None:
        """The thread's work; call start() instead."""
        try:
            while not self._is_over.wait(BEAT):
                if self._is_stuck():
                    self._check_supervisor()
                    continue
                with suppress(BlockingIOError):
                    os.write(self._fd, b"\0")
        except BrokenPipeError:  # the supervisor is gone, which the link notices, too
            if not self._is_over.wait(ORPHAN_TIMEOUT):
                os.kill(os.getpid(), signal.SIGTERM)

    def _is_stuck(self) -> bool:
        began = self._turn_began
        return began is not None and time.monotonic() - began > LONGEST_TURN

    def _check_supervisor(self) -> None:
        """Raise BrokenPipeError if nobody can read the pipe any more, as writing to it would."""
        pipe = select.poll()
        pipe.register(self._fd, 0)
        if pipe.poll(0):
            raise BrokenPipeError

    def poll(self, poller: zmq.Poller, timeout_ms: Optional[int]) -> Dict[Any, int]:
        """Wait at ``poller``: a loop that does so in each turn, in one thread, counts as stuck if
        it doesn't come back.
        """
        self._turn_began = None
        events = dict(poller.poll(timeout_ms))
        self.note_turn()
        return events

    def note_turn(self) -> None:
        """A loop that waits elsewhere has come round, as it should again within a moment."""
        self._turn_began = time.monotonic()

    def stop(self) -> None:
        self._is_over.set()
        self.join()
        os.close(self._fd)


class Link:
    """The process's end."""

    def __init__(self, context: zmq.Context, endpoint: str, name: str, heart: Heart) -> None:
        self._heart = heart
        self.has_started = False  # and said so
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, name.encode("ascii"))
        # Long enough for a last word, short enough not to be stuck when nobody hears it.
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.connect(endpoint)

    def register(self, poller: zmq.Poller) -> None:
        """Have ``poller`` wake up for commands and for the supervisor's end."""
        poller.register(self._socket, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)

    def poll(self, poller: zmq.Poller, timeout_ms: Optional[int] = None) -> Dict[Any, int]:
        """What the poller returns. Whoever waits here, and only here, is noticed when it hangs."""
        return self._heart.poll(poller, timeout_ms)

    def note_turn(self) -> None:
        """For event loops: whoever calls this once has to do so every half second."""
        self._heart.note_turn()

    def file_descriptors(self) -> List[int]:
        """For event loops that know no ZeroMQ: look for commands when one of these is readable,
        and after each report, for ZeroMQ doesn't say twice that something has come.
        """
        return [self._socket.getsockopt(zmq.FD), sys.stdin.fileno()]

    def report(self, event: str, **values: Any) -> None:
        """Tell the supervisor."""
        self.has_started = self.has_started or event == "ready"
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
