"""Fixtures for the tests of the server's processes."""

from __future__ import annotations

import logging
import os
import queue
import sys
import tempfile
from typing import Any, Callable, Iterator

import pytest
from support import PATIENCE
from unit.server.fakes import Running, Spawner
from unit.server.support import FakeLink, Hub


class Log(logging.Handler):
    """What the package logs, as text; also what another thread does."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: "queue.Queue[str]" = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.put("%s: %s" % (record.levelname.lower(), record.getMessage()))

    def wait_for(self, part: str) -> str:
        """The next message with this part."""
        while True:
            message = self._messages.get(timeout=PATIENCE)
            if part in message:
                return message

    @property
    def text(self) -> str:
        """What was logged and not returned yet, a line each."""
        lines = []
        while not self._messages.empty():
            lines.append(self._messages.get())
        return "\n".join(lines)


@pytest.fixture
def log() -> Iterator[Log]:
    """Not caplog: a server that ran earlier in this process cut its logger off from the root."""
    logger = logging.getLogger("bert_serving")
    before = logger.handlers, logger.level, logger.propagate
    handler = Log()
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


@pytest.fixture
def link() -> Iterator[FakeLink]:
    made = FakeLink()
    yield made
    made.close()


@pytest.fixture
def socket_directory() -> Iterator[str]:
    """A directory for Unix sockets; tmp_path may be too long for those."""
    with tempfile.TemporaryDirectory(prefix="sockets-") as directory:
        yield directory


class Stdin:
    """Standard input as the supervisor gives it: a pipe that stays open."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()
        self.buffer = os.fdopen(os.dup(self.read_fd), "rb", buffering=0)
        self._is_open = True

    def fileno(self) -> int:
        return self.read_fd

    def write(self, content: bytes) -> None:
        os.write(self._write_fd, content)

    def end(self) -> None:
        """The supervisor is gone."""
        if self._is_open:
            self._is_open = False
            os.close(self._write_fd)

    def close(self) -> None:
        self.end()
        self.buffer.close()
        os.close(self.read_fd)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stdin]:
    made = Stdin()
    monkeypatch.setattr(sys, "stdin", made)
    yield made
    made.close()


@pytest.fixture
def program(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a Python program in the place of the interpreter that the server starts."""

    def replace(code: str) -> None:
        path = tmp_path / "program"
        # -S, for it needs nothing that is installed and should start fast.
        path.write_text("#!/bin/sh\nexec '%s' -S '%s.py'\n" % (sys.executable, path))
        path.chmod(0o700)
        path.with_suffix(".py").write_text(code)
        monkeypatch.setattr(sys, "executable", str(path))

    return replace


@pytest.fixture
def spawner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spawner]:
    made = Spawner()
    monkeypatch.setattr("bert_serving.server.processes.spawn", made)
    yield made
    made.close()


@pytest.fixture
def running(hub: Hub, spawner: Spawner, socket_directory: str) -> Iterator[Running]:
    made = Running(hub, spawner, socket_directory)
    yield made
    made.close()
