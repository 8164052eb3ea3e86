from __future__ import annotations

import json
import os
import select
import threading
from contextlib import suppress
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
import zmq
from support import PATIENCE
from unit.server.support import Hub, receive

from bert_serving.server import link as module
from bert_serving.server.heartbeats import BEAT
from bert_serving.server.link import Heart, Link, Orphaned


@pytest.fixture
def control(hub: Hub, socket_directory: str) -> zmq.Socket:
    """The supervisor's socket."""
    socket = hub.socket(zmq.ROUTER)
    # A command to a process that isn't connected yet fails loudly instead of being lost.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.bind("ipc://%s/control" % socket_directory)
    return socket


def link_to(hub: Hub, endpoint: str) -> Link:
    """One whose heart doesn't beat."""
    return Link(hub.context, endpoint, "worker-0.1", Heart(-1))


@pytest.fixture
def link(hub: Hub, control: zmq.Socket, stdin: Any) -> Iterator[Link]:
    """The process's end, once it is connected."""
    made = link_to(hub, control.getsockopt_string(zmq.LAST_ENDPOINT))
    assert not made.has_started
    made.report("ready")
    assert receive(control) == [b"worker-0.1", b'{"event": "ready"}']
    assert made.has_started
    yield made
    made.close()


def tell(control: zmq.Socket, *commands: Dict[str, Any]) -> None:
    for command in commands:
        control.send_multipart([b"worker-0.1", json.dumps(command).encode("utf-8")])


def poller_of(link: Link) -> zmq.Poller:
    poller = zmq.Poller()
    link.register(poller)
    return poller


def test_a_report_names_its_sender_and_carries_values(link: Link, control: zmq.Socket) -> None:
    link.report("failed", message='no "graph": ünïcode', number=3)
    identity, payload = receive(control)
    assert identity == b"worker-0.1"
    assert json.loads(payload.decode("utf-8")) == {
        "event": "failed",
        "message": 'no "graph": ünïcode',
        "number": 3,
    }


def test_event_loops_are_told_what_to_look_at(link: Link, control: zmq.Socket, stdin: Any) -> None:
    """ZeroMQ's descriptor is readable once for all that came, so all of it is taken then."""
    poller = poller_of(link)
    link.commands(dict(poller.poll(0)))
    tell(control, {"command": "one"})
    tell(control, {"command": "two"})
    found: List[Dict[str, Any]] = []
    while len(found) < 2:
        readable, _, _ = select.select(link.file_descriptors(), [], [], PATIENCE)
        assert readable, "nothing came"
        found += link.commands(dict(poller.poll(0)))
    assert [one["command"] for one in found] == ["one", "two"]


def test_reports_arrive_in_order(link: Link, control: zmq.Socket) -> None:
    for number in range(20):
        link.report("step", number=number)
    numbers = [json.loads(receive(control)[1].decode("utf-8"))["number"] for _ in range(20)]
    assert numbers == list(range(20))


def test_commands_that_come_together_are_all_read(hub: Hub, stdin: Any) -> None:
    # Within the process what is sent has arrived; between two, nobody could tell.
    control = hub.socket(zmq.ROUTER)
    control.bind("inproc://control")
    link = link_to(hub, "inproc://control")
    try:
        link.report("ready")
        receive(control)
        sent = [{"command": "worker_lost", "worker": "worker-%d.0" % n} for n in range(10)]
        tell(control, *sent, {"command": "stop"})
        ready = dict(poller_of(link).poll(PATIENCE * 1000))
        assert link.commands(ready) == sent + [{"command": "stop"}]
    finally:
        link.close()


def test_a_command_wakes_a_poller(link: Link, control: zmq.Socket) -> None:
    poller = poller_of(link)
    for command in ("drain", "stop"):
        tell(control, {"command": command, "timeout": 5.0})
        ready = dict(poller.poll(PATIENCE * 1000))
        assert link.commands(ready) == [{"command": command, "timeout": 5.0}]
        assert poller.poll(0) == []


def test_nothing_came(link: Link) -> None:
    poller = poller_of(link)
    assert poller.poll(0) == []
    assert link.commands({}) == []


def test_the_supervisor_s_end_wakes_a_poller(link: Link, stdin: Any) -> None:
    poller = poller_of(link)
    stdin.end()
    ready = dict(poller.poll(PATIENCE * 1000))
    assert list(ready) == [stdin.fileno()]
    with pytest.raises(Orphaned):
        link.commands(ready)


def test_input_is_no_end(link: Link, stdin: Any) -> None:
    poller = poller_of(link)
    stdin.write(b"x")
    ready = dict(poller.poll(PATIENCE * 1000))
    assert link.commands(ready) == []
    assert poller.poll(0) == [], "it was read"


def test_a_last_word_is_heard(hub: Hub, control: zmq.Socket, stdin: Any) -> None:
    link = link_to(hub, control.getsockopt_string(zmq.LAST_ENDPOINT))
    link.report("failed", message="the port is taken")
    link.close()
    assert receive(control) == [
        b"worker-0.1",
        b'{"message": "the port is taken", "event": "failed"}',
    ]


# -------------------------------------------------------------------------- signs of life


@pytest.fixture
def heart() -> Iterator[Tuple[Heart, int]]:
    """One that beats, and where that can be read."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    made = Heart(write_fd)
    made.start()
    yield made, read_fd
    made.stop()
    with suppress(OSError):
        os.close(read_fd)


def test_it_beats(heart: Tuple[Heart, int]) -> None:
    for _ in range(2):
        assert os.read(heart[1], 1) == b"\0"


class Turns:
    """A poller that returns when it is told."""

    def __init__(self) -> None:
        self.waits, self.goes_on = threading.Event(), threading.Event()

    def poll(self, timeout_ms: Optional[float]) -> List[Tuple[Any, int]]:
        self.waits.set()
        assert self.goes_on.wait(PATIENCE)
        return [("socket", 1)]


def test_a_loop_that_does_not_come_back_is_silent(
    heart: Tuple[Heart, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_TURN", -1.0)  # every turn is too long
    made, read_fd = heart
    turns: Any = Turns()
    turns.goes_on.set()
    assert made.poll(turns, 5) == {"socket": 1}
    quiet = select.poll()
    quiet.register(read_fd, select.POLLIN)
    while quiet.poll(0):
        os.read(read_fd, 4096)  # from before
    assert quiet.poll(BEAT * 1000 * 3) == [], "it is at work"
    turns = Turns()
    waiting = threading.Thread(target=made.poll, args=(turns, None))
    waiting.start()
    try:
        assert quiet.poll(PATIENCE * 1000), "it waits, as it should"
    finally:
        turns.goes_on.set()
        waiting.join()


def test_nobody_has_to_listen() -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_fd, b"\0" * 4096)
    heart = Heart(write_fd)
    heart.start()
    os.read(read_fd, 1 << 20)  # there is room again
    assert os.read(read_fd, 1) == b"\0"
    heart.stop()
    os.close(read_fd)


@pytest.mark.parametrize("is_stuck", [False, True])
def test_a_process_does_not_outlive_its_supervisor(
    is_stuck: bool, heart: Tuple[Heart, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its main thread is stuck and doesn't see that the link has ended."""
    turns: Any = Turns()
    turns.goes_on.set()
    if is_stuck:
        monkeypatch.setattr(module, "LONGEST_TURN", -1.0)
        heart[0].poll(turns, None)
    killed = threading.Event()
    monkeypatch.setattr(module, "ORPHAN_TIMEOUT", 0.0)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.set())
    os.close(heart[1])
    assert killed.wait(PATIENCE)
