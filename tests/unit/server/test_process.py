from __future__ import annotations

import errno
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Any, Iterator, List, Optional, Tuple

import pytest
import zmq
from support import PATIENCE
from unit.server.support import Hub, echo_spec, receive

from bert_serving.server import process
from bert_serving.server.errors import EngineError, StartupError
from bert_serving.server.link import Link, Orphaned
from bert_serving.server.spec import Endpoints


@pytest.fixture(autouse=True)
def _process_is_left_as_it_was() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGINT)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    logger = logging.getLogger("bert_serving")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    signal.signal(signal.SIGINT, handler)


def order(stdin: Any, directory: str, role: str = "sink") -> Endpoints:
    endpoints = Endpoints.inside(directory)
    content = {
        "role": role,
        "name": role,
        "identity": role + ".0",
        "device": -1,
        "beat_fd": os.open(os.devnull, os.O_WRONLY),
        "endpoints": asdict(endpoints),
        "spec": echo_spec().to_json(),
    }
    stdin.write(json.dumps(content).encode("utf-8") + b"\n")
    return endpoints


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StartupError("port 5555 is taken"), "port 5555 is taken"),
        (EngineError("the graph is damaged"), "the graph is damaged"),
        (zmq.ZMQError(zmq.EADDRINUSE), os.strerror(errno.EADDRINUSE)),
        (KeyError("device"), "KeyError: 'device'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_reported_and_is_an_exit_status(
    error: Exception,
    message: str,
    hub: Hub,
    stdin: Any,
    socket_directory: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(process, "_run", fail)
    control = hub.socket(zmq.ROUTER)
    control.bind(order(stdin, socket_directory).control)
    assert process.main() == 1
    identity, payload = receive(control)
    assert identity == b"sink.0"
    assert json.loads(payload.decode("utf-8")) == {"event": "failed", "message": message}


def test_what_a_bug_says_is_not_told_once_there_may_be_texts(
    hub: Hub,
    stdin: Any,
    socket_directory: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = "Waldeinsamkeit"

    def fail(order: Any, context: Any, spec: Any, endpoints: Any, link: Link) -> None:
        link.report("ready")
        raise KeyError(text)

    monkeypatch.setattr(process, "_run", fail)
    control = hub.socket(zmq.ROUTER)
    control.bind(order(stdin, socket_directory).control)
    assert process.main() == 1
    assert b"ready" in receive(control)[1]
    assert json.loads(receive(control)[1].decode("utf-8")) == {
        "event": "failed",
        "message": "a bug: KeyError",
    }
    log = capfd.readouterr().err
    assert "a bug: KeyError" in log
    assert "in fail" in log, "where it was raised"
    assert text not in log


@pytest.mark.parametrize("error", [None, Orphaned()])
def test_an_end_without_a_report(
    error: Optional[Exception],
    hub: Hub,
    stdin: Any,
    socket_directory: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def finish(*_: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(process, "_run", finish)
    control = hub.socket(zmq.ROUTER)
    control.bind(order(stdin, socket_directory).control)
    assert process.main() == 0
    # All that the process had to say is sent when main() returns: it waits for its context.
    assert control.poll(0) == 0
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_role_that_fails_is_closed(
    hub: Hub, stdin: Any, socket_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is left open would keep the process from ending, for good."""
    closed: List[str] = []

    class Role:
        def __init__(self, *_: Any) -> None:
            """It takes what a sink takes."""

        def run(self) -> None:
            raise EngineError("broken")

        def close(self) -> None:
            closed.append("closed")

    monkeypatch.setattr("bert_serving.server.sink.Sink", Role)
    control = hub.socket(zmq.ROUTER)
    control.bind(order(stdin, socket_directory).control)
    assert process.main() == 1
    assert closed == ["closed"]
    assert b"broken" in receive(control)[1]


@pytest.mark.parametrize("module", ["process", "optimize", "tune"])
def test_without_an_order_it_ends_quietly(module: str) -> None:
    """Whoever started it was interrupted in that moment."""
    done = subprocess.run(
        [sys.executable, "-m", "bert_serving.server." + module],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=3 * PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


# ------------------------------------------------------------------------- limit of files


def test_as_many_files_as_the_system_lets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard - 1), hard))
    process.allow_many_connections()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_limit_that_is_the_highest_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[Tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (4096, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    try:
        process.allow_many_connections()
    finally:
        monkeypatch.undo()  # before the fixture puts the limits back
    assert asked == []
