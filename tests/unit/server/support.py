"""What the tests of the server's processes share: a supervisor's stand-in, threads that end."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple

import zmq
from support import PATIENCE, free_ports

from bert_serving.server.arguments import get_args_parser
from bert_serving.server.preparation import prepare
from bert_serving.server.spec import Endpoints, ServiceSpec

__all__ = ["FakeLink", "Hub", "echo_spec", "inproc", "receive", "running_role"]


def echo_spec(*flags: str) -> ServiceSpec:
    """A service that needs no model, on free ports."""
    port, port_out = free_ports()
    ports = ["-port", str(port), "-port_out", str(port_out)]
    return prepare(get_args_parser().parse_args(["-engine", "echo"] + ports + list(flags)))


def inproc() -> Endpoints:
    """Endpoints for roles that run in this process; they have no path that could be too long."""
    return Endpoints(*("inproc://" + name for name in ("control", "workers", "results", "events")))


def receive(socket: zmq.Socket) -> List[bytes]:
    """The next message."""
    assert socket.poll(PATIENCE * 1000), "nothing came"
    frames: List[bytes] = socket.recv_multipart()
    return frames


class FakeLink:
    """A link whose supervisor is the test."""

    def __init__(self) -> None:
        self.turns = 0
        self._read_fd, self._write_fd = os.pipe()
        self._commands: "queue.Queue[Tuple[Dict[str, Any], threading.Event]]" = queue.Queue()
        self._events: "queue.Queue[Dict[str, Any]]" = queue.Queue()

    # The role's side, with Link's names.

    def register(self, poller: zmq.Poller) -> None:
        poller.register(self._read_fd, zmq.POLLIN)

    def poll(self, poller: zmq.Poller, timeout_ms: Optional[int] = None) -> Dict[Any, int]:
        return dict(poller.poll(timeout_ms))

    def note_turn(self) -> None:
        self.turns += 1

    def file_descriptors(self) -> List[int]:
        return [self._read_fd]

    def report(self, event: str, **values: Any) -> None:
        self._events.put(dict(values, event=event))

    def commands(self, ready: Dict[Any, int]) -> List[Dict[str, Any]]:
        count = len(os.read(self._read_fd, 4096)) if self._read_fd in ready else 0
        commands = []
        for _ in range(count):
            command, was_read = self._commands.get()
            commands.append(command)
            was_read.set()
        return commands

    # The test's side.

    def tell(self, command: str, **values: Any) -> None:
        """Returns once the role has read it: what it reads after that, it reads knowing it."""
        assert self.post(command, **values).wait(PATIENCE), "nobody reads commands"

    def post(self, command: str, **values: Any) -> threading.Event:
        """Like tell(), but returns at once; the event is set when the command was read."""
        was_read = threading.Event()
        self._commands.put((dict(values, command=command), was_read))
        os.write(self._write_fd, b"\0")
        return was_read

    def let_it_go_round(self) -> None:
        """Returns after a whole turn of the role's loop, by commands that it doesn't know."""
        self.tell("begin a turn")
        self.tell("begin the next")

    def heard(self) -> Dict[str, Any]:
        """The next report."""
        return self._events.get(timeout=PATIENCE)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was reported that heard() has not returned."""
        return self._events.empty()

    def close(self) -> None:
        os.close(self._read_fd)
        os.close(self._write_fd)


@contextmanager
def running_role(role: Any, link: FakeLink) -> Iterator[None]:
    """Run a sink or a ventilator in a thread until the block ends; it must stop when told to."""
    errors: List[BaseException] = []

    def run() -> None:
        try:
            role.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="role")
    thread.start()
    try:
        assert link.heard() == {"event": "ready"}
        yield
    finally:
        link.post("stop")
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the role doesn't stop"
        assert errors == []


class Hub:
    """Sockets of one context, all closed in the end."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self._sockets: List[zmq.Socket] = []

    def socket(self, kind: int, identity: bytes = b"") -> zmq.Socket:
        made = self.context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        if identity:
            made.setsockopt(zmq.IDENTITY, identity)
        self._sockets.append(made)
        return made

    def close(self) -> None:
        for one in self._sockets:
            one.close()
        self.context.term()
