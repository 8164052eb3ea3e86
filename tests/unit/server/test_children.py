from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Iterator, List, Optional

import pytest
import zmq
from support import PATIENCE
from unit.server.fakes import FakeProcess
from unit.server.support import Hub, echo_spec

from bert_serving.server.children import (
    Child,
    describe_exit,
    end,
    is_held_up,
    processor_seconds,
    spawn,
)
from bert_serving.server.spec import Endpoints

POLITE = "import sys; sys.stdin.read()"
#: It can be ended by nothing but SIGKILL, and says when that holds.
STUBBORN = (
    "import signal\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up', flush=True)\n"
    "while True: signal.pause()\n"
)


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Starts children that run a program; what a test leaves running is killed."""
    started: List["subprocess.Popen[bytes]"] = []

    def run(code: str, name: str = "worker-0", **options: Any) -> Child:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **options,
        )
        started.append(process)
        return Child("worker", name, name + ".0", process)

    yield run
    for process in started:
        with process:
            process.kill()


def wait_until_idle(child: Child) -> None:
    deadline = time.monotonic() + PATIENCE
    while is_held_up(child.process.pid):
        assert time.monotonic() < deadline, "it has nothing to do"


def wait_until_up(child: Child) -> None:
    assert child.process.stdout is not None
    assert child.process.stdout.readline() == b"up\n"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "is running"),
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (-signal.SIGKILL, "was ended by signal SIGKILL"),
        (-signal.SIGTERM, "was ended by signal SIGTERM"),
        (-200, "was ended by signal 200"),
    ],
)
def test_an_exit_in_words(status: Optional[int], words: str) -> None:
    assert describe_exit(status) == words


def test_what_became_of_a_child(start: Callable[..., Child]) -> None:
    child = start(POLITE)
    assert child.end == "worker-0 is running"
    child.verdict = "hung and was killed"
    assert child.end == "worker-0 hung and was killed"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="this system has no /proc")
def test_processor_time(start: Callable[..., Child]) -> None:
    child = start("print('up', flush=True)\nwhile True: pass")
    wait_until_up(child)
    before = processor_seconds(child.process.pid)
    assert before is not None
    deadline = time.monotonic() + PATIENCE
    while processor_seconds(child.process.pid) == before:
        assert time.monotonic() < deadline, "it is busy, but spends no time"
    assert processor_seconds(1 << 30) is None, "there is no such process"


def test_one_that_waits_for_the_machine_is_held_up_and_one_that_is_stopped_is_not(
    start: Callable[..., Child],
) -> None:
    busy, idle = start("print('up', flush=True)\nwhile True: pass"), start(POLITE)
    wait_until_up(busy)
    assert is_held_up(busy.process.pid)
    wait_until_idle(idle)
    busy.process.send_signal(signal.SIGSTOP)
    wait_until_idle(busy)
    assert not is_held_up(1 << 30), "there is no such process"


def test_children_end_when_their_input_does(start: Callable[..., Child]) -> None:
    children = [start(POLITE), start(POLITE)]
    assert end(children, PATIENCE) == []
    assert [child.process.returncode for child in children] == [0, 0]


@pytest.mark.parametrize("is_ready", [True, False])
def test_one_that_was_told_to_end_is_given_the_time_to_hear_it(is_ready: bool) -> None:
    """It would take the end of its input for the end of its supervisor, and say no more."""
    process: Any = FakeProcess()
    child = Child("sink", "sink", "sink.0", process)
    child.ready_at = 1.0 if is_ready else None
    assert end([child], PATIENCE) == []
    assert process.stdin.closed is not is_ready


def test_nobody_to_end() -> None:
    assert end([], 0.0) == []


def test_a_child_that_ignores_its_end_is_killed_and_named(start: Callable[..., Child]) -> None:
    stubborn = start(STUBBORN)
    wait_until_up(stubborn)
    gone = start(POLITE)
    assert end([gone], PATIENCE) == []
    # One that has exited already is no trouble, though no time is left for it.
    assert end([stubborn, gone], patience=0.0) == [stubborn]
    assert stubborn.process.returncode == -signal.SIGKILL


def test_all_are_asked_to_end_before_one_is_waited_for(start: Callable[..., Child]) -> None:
    """The first of these ends only after the second."""
    second = start(POLITE)
    assert second.process.stdout is not None
    fd = second.process.stdout.fileno()
    first = start("import os; os.read(%d, 1)" % fd, pass_fds=[fd])
    assert end([first, second], PATIENCE) == []


def test_a_child_gets_its_order_and_nothing_else(
    program: Callable[[str], None], tmp_path: Any
) -> None:
    program(
        "import json, os, sys\n"
        "order = json.loads(sys.stdin.readline())\n"
        "os.write(order['beat_fd'], b'\\0')\n"
        "order['session'] = os.getsid(0) == os.getpid()\n"
        "order['rest'] = sys.stdin.read()\n"
        "json.dump(order, open(%r, 'w'))\n" % str(tmp_path / "order")
    )
    spec, endpoints = echo_spec(), Endpoints.inside("/nowhere")
    child = spawn("worker", "worker-1", spec, endpoints, 3, device=2, args={"named": {}})
    assert (child.role, child.name, child.identity) == ("worker", "worker-1", "worker-1.3")
    assert not child.is_ready
    assert end([child], PATIENCE) == []
    assert os.read(child.pulse_fd, 1) == b"\0", "it got the pipe for its signs of life"
    assert os.read(child.pulse_fd, 1) == b"", "and nobody else has"
    os.close(child.pulse_fd)
    order = json.loads((tmp_path / "order").read_text())
    assert order.pop("beat_fd") > 2
    assert type(spec).from_json(order.pop("spec")) == spec
    assert Endpoints(**order.pop("endpoints")) == endpoints
    assert order == {
        "role": "worker",
        "name": "worker-1",
        "identity": "worker-1.3",
        "device": 2,
        "args": {"named": {}},
        "session": True,  # of its own: Ctrl-C in the terminal doesn't reach it
        "rest": "",
    }


class DeadAtOnce(subprocess.Popen):  # type: ignore[type-arg]
    """A process that has exited before anything is written to it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.wait(PATIENCE)


@pytest.fixture
def dead(program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Child:
    """What spawn() makes of it."""
    with monkeypatch.context() as patch:
        program("raise SystemExit(7)")
        patch.setattr(subprocess, "Popen", DeadAtOnce)
        child = spawn("sink", "sink", echo_spec(), Endpoints.inside("/nowhere"))
    monkeypatch.undo()  # tests start programs of theirs by the real interpreter
    os.close(child.pulse_fd)
    return child


def test_a_child_that_dies_at_once_is_left_to_its_watcher(dead: Child) -> None:
    assert describe_exit(dead.process.poll()) == "exited with status 7"
    dead.close_input()
    assert dead.process.stdin is not None
    assert dead.process.stdin.closed


def test_a_child_that_died_at_once_keeps_no_other_from_ending(
    dead: Child, start: Callable[..., Child]
) -> None:
    polite = start(POLITE)
    assert end([dead, polite], PATIENCE) == []
    assert polite.process.returncode == 0


# ------------------------------------------------------------------------ real processes


def test_a_worker_reports_and_ends_with_its_supervisor(hub: Hub, socket_directory: str) -> None:
    control = hub.socket(zmq.ROUTER)
    endpoints = Endpoints.inside(socket_directory)
    control.bind(endpoints.control)
    child = spawn("worker", "worker-0", echo_spec(), endpoints, 2)
    try:
        assert control.poll(PATIENCE * 1000)
        assert control.recv_multipart() == [b"worker-0.2", b'{"event": "ready"}']
        assert os.read(child.pulse_fd, 1) == b"\0", "it shows signs of life"
    finally:
        # No "stop" is sent: that its input ends is enough.
        assert end([child], PATIENCE) == []
        os.close(child.pulse_fd)
    assert child.process.returncode == 0
