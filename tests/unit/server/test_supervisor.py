from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
import zmq
from support import PATIENCE, free_ports
from unit.server.support import Hub, echo_spec, inproc, receive

from bert_serving.server import supervisor as module
from bert_serving.server.children import Child
from bert_serving.server.errors import PipelineError, StartupError
from bert_serving.server.spec import Endpoints
from bert_serving.server.supervisor import (
    FIRST_BACK_OFF,
    HEALTHY_AFTER,
    LONGEST_BACK_OFF,
    MAX_SOCKET_PATH,
    Supervisor,
    _socket_directory,
)

# ------------------------------------------------------------------ the sockets' directory


def parent_of_length(length: int, root: str) -> Path:
    """A directory whose path has so many bytes."""
    missing = length - len(root) - 1
    assert missing > 0, "the directory for temporary files has a long path already"
    parent = Path(root) / ("d" * missing)
    parent.mkdir()
    return parent


@pytest.fixture
def longest(socket_directory: str) -> int:
    """Bytes that a parent may have for the sockets in its new directory not to be too long."""
    name = os.path.basename(tempfile.mkdtemp(prefix="bert-serving-", dir=socket_directory))
    return MAX_SOCKET_PATH - len("/%s/control" % name)


def test_a_directory_is_this_user_s_alone(
    socket_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", socket_directory)
    first, second = _socket_directory(), _socket_directory()
    assert os.path.dirname(first) == os.path.dirname(second) == socket_directory
    assert first != second
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o700


def test_without_the_variable_it_is_a_temporary_one(
    socket_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZEROMQ_SOCK_TMP_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", socket_directory)
    assert os.path.dirname(_socket_directory()) == socket_directory


@pytest.mark.parametrize("kind", ["nothing", "a file", "an empty name"])
def test_a_parent_that_is_no_directory(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = "" if kind == "an empty name" else str(tmp_path / "parent")
    if kind == "a file":
        (tmp_path / "parent").write_text("")
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", parent)
    with pytest.raises(StartupError) as raised:
        _socket_directory()
    assert "ZEROMQ_SOCK_TMP_DIR names %s, which is no directory" % parent in str(raised.value)


def test_the_longest_path_that_sockets_may_have(
    socket_directory: str, longest: int, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_of_length(longest, socket_directory)
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", str(parent))
    directory = _socket_directory()
    assert len(directory) + len("/control") == MAX_SOCKET_PATH
    endpoints = Endpoints.inside(directory)
    for one in (endpoints.control, endpoints.workers, endpoints.results, endpoints.events):
        hub.socket(zmq.PULL).bind(one)  # raises if it is too long after all


def test_a_path_that_is_too_long(
    socket_directory: str, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_of_length(longest + 1, socket_directory)
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", str(parent))
    with pytest.raises(StartupError) as raised:
        _socket_directory()
    assert str(parent) in str(raised.value)
    assert "set ZEROMQ_SOCK_TMP_DIR to a directory with a short path" in str(raised.value)
    assert list(parent.iterdir()) == []


# ----------------------------------------------------------------------------- the harness


class FakeInput:
    is_closed = False

    def close(self) -> None:
        self.is_closed = True


class FakeProcess:
    """A process that ends when the test says so."""

    def __init__(self) -> None:
        self.stdin = FakeInput()
        self.status: Optional[int] = None

    def poll(self) -> Optional[int]:
        return self.status


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """Identities, and devices of workers, that were started; none of them for real."""
    started: List[str] = []

    def spawn(
        role: str, name: str, spec: Any, endpoints: Any, generation: int = 0, device: int = -1
    ) -> Child:
        identity = "%s.%d" % (name, generation)
        started.append(identity)
        process: Any = FakeProcess()
        return Child(role, name, identity, process)

    monkeypatch.setattr(module, "spawn", spawn)
    return started


class Running:
    """A supervisor as it is inside run(), and the ventilator's link to it."""

    def __init__(self, hub: Hub, *flags: str) -> None:
        self.supervisor = Supervisor(echo_spec("-num_worker", "2", *flags))
        control = hub.socket(zmq.ROUTER)
        control.setsockopt(zmq.ROUTER_MANDATORY, 1)
        control.bind(inproc().control)
        self.supervisor._endpoints = inproc()
        self.supervisor._control = control
        self.supervisor._poller = zmq.Poller()
        self.supervisor._poller.register(control, zmq.POLLIN)
        self.supervisor._poller.register(self.supervisor._wake_up_fd, zmq.POLLIN)
        self.supervisor._start_all()
        self._links: Dict[str, zmq.Socket] = {}
        self._hub = hub
        self.was_ready = 0

    def link(self, identity: str) -> zmq.Socket:
        if identity not in self._links:
            self._links[identity] = self._hub.socket(zmq.DEALER, identity.encode("ascii"))
            self._links[identity].connect(inproc().control)
        return self._links[identity]

    def report(self, identity: str, event: str, **values: Any) -> None:
        self.link(identity).send(json.dumps(dict(values, event=event)).encode("utf-8"))

    def told(self, identity: str) -> Any:
        return json.loads(receive(self.link(identity))[-1].decode("utf-8"))

    def step(self) -> None:
        self.supervisor._step(self._note_ready)

    def step_until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "stepped in vain"
            self.step()

    def is_ready(self, identity: str) -> bool:
        return self.supervisor._children[identity].is_ready

    def _note_ready(self) -> None:
        self.was_ready += 1

    def make_ready(self) -> None:
        for identity in list(self.supervisor._children):
            self.report(identity, "ready")
        self.step_until(lambda: self.was_ready)

    def process(self, identity: str) -> Any:
        return self.supervisor._children[identity].process


@pytest.fixture
def running(hub: Hub, spawned: List[str]) -> Iterator[Running]:
    made = Running(hub)
    yield made
    made.supervisor.close()


@pytest.fixture
def with_http(hub: Hub, spawned: List[str]) -> Iterator[Running]:
    made = Running(hub, "-http_port", str(free_ports()[0]))
    yield made
    made.supervisor.close()


# -------------------------------------------------------------------------------- starting


def test_ready_once_all_are(running: Running, spawned: List[str]) -> None:
    assert spawned == ["sink.0", "ventilator.0", "worker-0.0", "worker-1.0"]
    for identity in spawned[:-1]:
        running.report(identity, "ready")
    running.step_until(lambda: all(running.is_ready(name) for name in spawned[:-1]))
    assert running.was_ready == 0
    running.report(spawned[-1], "ready")
    running.step_until(lambda: running.was_ready)
    running.step()
    assert running.was_ready == 1


def test_why_a_process_cannot_start(running: Running) -> None:
    running.report("ventilator.0", "failed", message="Address already in use")
    with pytest.raises(StartupError, match="ventilator can't start: Address already in use"):
        running.step()


def test_the_last_word_of_a_process_is_read_after_it_has_exited(running: Running) -> None:
    running.process("sink.0").status = 1
    running.report("sink.0", "failed", message="no such host")
    # _watch() alone, as if the report had come just after the look at the sockets.
    with pytest.raises(StartupError, match="sink can't start: no such host"):
        running.supervisor._watch()


def test_a_process_that_dies_without_a_word(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WORD_TIMEOUT", 0.0)
    running.process("worker-1.0").status = -9
    with pytest.raises(StartupError, match="worker-1 was ended by signal SIGKILL while it started"):
        running.step()


def test_nothing_is_left_of_a_start_that_fails(
    socket_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spawn(*_: Any) -> Child:
        raise OSError("no more processes")

    monkeypatch.setattr(module, "spawn", spawn)
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", socket_directory)
    supervisor = Supervisor(echo_spec())
    with pytest.raises(OSError, match="no more processes"):
        supervisor.run(lambda: None)
    supervisor.close()
    assert os.listdir(socket_directory) == []


# -------------------------------------------------------------------------- losing workers


def test_each_early_death_doubles_the_wait_up_to_the_longest(
    running: Running, spawned: List[str], log: Any
) -> None:
    running.make_ready()
    slot = running.supervisor._slots["worker-1"]
    waits = []
    for number in range(9):
        child = running.supervisor._children["worker-1.0"]
        now = child.started + HEALTHY_AFTER
        running.supervisor._lose(child, "worker-1 died", now)
        assert slot.restart_at is not None
        waits.append(slot.restart_at - now)
        assert slot.generation == number + 1
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30])
    assert (waits[0], waits[-1]) == pytest.approx((FIRST_BACK_OFF, LONGEST_BACK_OFF))
    assert "error: worker-1 died; it is replaced in 16.0 s" in log.text
    # One that was well for long starts again at the first.
    running.supervisor._lose(child, "worker-1 died", child.started + HEALTHY_AFTER + 1)
    assert slot.back_off == 2 * FIRST_BACK_OFF
    assert running.supervisor._slots["worker-0"].back_off == FIRST_BACK_OFF, "the other's own"


def test_a_dead_worker_is_told_of_and_replaced(
    running: Running, spawned: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running.make_ready()
    lost = running.process("worker-0.0")
    lost.status = 3
    running.step()
    assert running.told("ventilator.0") == {
        "command": "worker_lost",
        "worker": "worker-0.0",
        "reason": "worker-0 exited with status 3",
    }
    assert lost.stdin.is_closed
    assert "worker-0.0" not in running.supervisor._children
    assert spawned[-1] == "worker-1.0", "it is not replaced at once"
    running.supervisor._slots["worker-0"].restart_at = 0.0  # the time has come
    running.step()
    assert spawned[-1] == "worker-0.1"
    running.step()
    assert spawned.count("worker-0.1") == 1
    # What the lost one said last is nobody's; that another is ready is no second start.
    running.report("worker-0.0", "failed", message="late")
    running.report("worker-0.1", "ready")
    running.step_until(lambda: running.is_ready("worker-0.1"))
    assert running.was_ready == 1


@pytest.mark.parametrize("role", ["sink", "ventilator"])
def test_without_these_nothing_goes_on(running: Running, role: str) -> None:
    running.make_ready()
    running.process(role + ".0").status = -11
    with pytest.raises(PipelineError, match=role + " was ended by signal SIGSEGV; the service"):
        running.step()


def test_a_worker_that_fails_later_is_no_end(running: Running, log: Any) -> None:
    running.make_ready()
    running.report("worker-1.0", "failed", message="out of memory")
    running.step()
    assert "error: worker-1 failed: out of memory" in log.text


def test_a_dead_http_process_is_replaced_and_no_worker_is_lost(
    with_http: Running, spawned: List[str], log: Any
) -> None:
    assert spawned == ["sink.0", "ventilator.0", "worker-0.0", "worker-1.0", "http.0"]
    with_http.make_ready()
    with_http.process("http.0").status = -9
    with_http.step()
    assert "error: http was ended by signal SIGKILL; it is replaced in 0.5 s" in log.text
    with_http.supervisor._slots["http"].restart_at = 0.0  # the time has come
    with_http.step()
    assert spawned[-1] == "http.1"
    with_http.supervisor._tell("ventilator", "first")
    assert with_http.told("ventilator.0") == {"command": "first"}


# --------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize(("at_once", "asked"), [(False, 1), (True, 2)])
def test_a_stop_is_noticed(running: Running, at_once: bool, asked: int) -> None:
    running.supervisor.stop(at_once)
    running.step()
    assert running.supervisor._stops_asked == asked


def test_a_client_may_ask_for_it(running: Running) -> None:
    running.make_ready()
    running.report("ventilator.0", "terminate")
    running.step()
    assert running.supervisor._stops_asked == 1


def test_a_stop_after_the_end_is_nothing(running: Running) -> None:
    running.supervisor.close()
    running.supervisor.stop()
    running.supervisor.close()
    with pytest.raises(OSError):
        os.fstat(running.supervisor._wake_up_fd)


def test_draining_asks_one_after_the_other(running: Running, log: Any) -> None:
    running.make_ready()
    running.report("ventilator.0", "drained", accepted=12)
    running.report("sink.0", "flushed")

    # Both have answered in advance, so the order is that of the questions alone.
    events = running.supervisor._wait
    kept: List[Any] = []

    def one_at_a_time(timeout_ms: float) -> List[Any]:
        kept.extend(events(0 if kept else timeout_ms))
        return [kept.pop(0)] if kept else []

    running.supervisor._wait = one_at_a_time  # type: ignore[method-assign]
    running.supervisor._drain()
    assert running.told("ventilator.0") == {"command": "drain", "timeout": module.DRAIN_TIMEOUT}
    assert running.told("sink.0") == {"command": "flush", "accepted": 12}
    assert "warning" not in log.text


def test_http_is_drained_before_the_ventilator(with_http: Running, log: Any) -> None:
    with_http.make_ready()
    told: List[str] = []
    tell = with_http.supervisor._tell

    def note(role: str, command: str, **values: Any) -> None:
        told.append("%s: %s" % (role, command))
        answer = {"drain": "drained", "flush": "flushed"}[command]
        answer = "http_drained" if role == "http" else answer
        with_http.report(role + ".0", answer, accepted=0)
        tell(role, command, **values)

    with_http.supervisor._tell = note  # type: ignore[method-assign]
    with_http.supervisor._drain()
    assert told == ["http: drain", "ventilator: drain", "sink: flush"]
    assert "warning" not in log.text


def test_a_dead_http_process_is_not_waited_for(with_http: Running) -> None:
    with_http.make_ready()
    with_http.process("http.0").status = 1
    assert with_http.supervisor._await("http_drained", 10 * PATIENCE, "http") is None


@pytest.mark.parametrize("reason", ["not ready", "a second stop"])
def test_nobody_waits_when(reason: str, running: Running) -> None:
    if reason == "a second stop":
        running.make_ready()
        running.supervisor._stops_asked = 2
    running.supervisor._drain()
    running.supervisor._stops_asked = 0
    for identity in ("ventilator.0", "sink.0"):
        running.report(identity, "ready")  # so that they are connected
    running.step_until(lambda: running.is_ready("sink.0"))
    running.supervisor._tell("ventilator", "first")
    assert running.told("ventilator.0") == {"command": "first"}


@pytest.mark.parametrize("role", ["sink", "ventilator"])
def test_the_dead_are_not_waited_for(running: Running, role: str) -> None:
    running.make_ready()
    running.process(role + ".0").status = 1
    assert running.supervisor._await("drained", 10 * PATIENCE) is None


def test_a_second_stop_ends_the_wait(running: Running) -> None:
    running.make_ready()
    running.supervisor.stop()
    running.supervisor.stop()
    assert running.supervisor._await("drained", 10 * PATIENCE) is None
    assert running.supervisor._stops_asked == 2


def test_the_wait_has_an_end(running: Running) -> None:
    running.make_ready()
    running.report("sink.0", "something else")
    assert running.supervisor._await("drained", 0.01) is None


def test_processes_end_in_the_direction_of_a_request(
    with_http: Running, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    running = with_http
    running.make_ready()
    ended: List[List[str]] = []

    def end(children: List[Child], patience: float) -> List[Child]:
        ended.append([child.name for child in children])
        for child in children:
            assert running.told(child.identity) == {"command": "stop"}
        return [child for child in children if child.name == "worker-1"]

    monkeypatch.setattr(module, "end", end)
    running.supervisor._end_all()
    assert ended == [["http"], ["ventilator"], ["worker-0", "worker-1"], ["sink"]]
    assert "warning: worker-1 didn't stop and was killed" in log.text
