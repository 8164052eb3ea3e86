from __future__ import annotations

import os
import time
from typing import Iterator, List

import pytest
from support import PATIENCE
from unit.server.fakes import Spawner
from unit.server.support import echo_spec

from bert_serving.server.processes import Processes
from bert_serving.server.replacement import Slot
from bert_serving.server.spec import Endpoints


@pytest.fixture
def wake_up() -> Iterator[List[int]]:
    """Both ends of a pipe."""
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.fixture
def processes(wake_up: List[int], socket_directory: str, spawner: Spawner) -> Iterator[Processes]:
    made = Processes(Endpoints.inside(socket_directory), wake_up[0])
    yield made
    made.close()


def test_a_name_has_many_processes(processes: Processes, spawner: Spawner) -> None:
    spec = echo_spec()
    first = processes.start(spec, Slot("worker", "worker-0"))
    processes.remove(first)
    processes.start(spec, Slot("worker", "worker-0"))
    processes.start(spec, Slot("worker", "worker-1"))
    assert spawner.started == ["worker-0.0", "worker-0.1", "worker-1.0"]
    assert [child.identity for child in processes.of("worker")] == spawner.started[1:]
    assert processes.of("sink") == []


def test_the_end_of_a_process_wakes_up(processes: Processes, spawner: Spawner) -> None:
    processes.start(echo_spec(), Slot("sink", "sink"))
    processes.start(echo_spec(), Slot("worker", "worker-0"))
    spawner.end_pulse("sink.0")
    began = time.monotonic()
    assert processes.wait(PATIENCE * 1000) == (b"", [])
    assert time.monotonic() - began < PATIENCE
    # Its pipe is gone, and the next one may have the same number.
    processes.start(echo_spec(), Slot("http", "http"))
    for child in processes.of("sink"):
        processes.remove(child)
    spawner.beat("http.0")
    spawner.beat("worker-0.0")
    processes.wait(PATIENCE * 1000)
    assert [child.identity for child in processes.of()] == ["worker-0.0", "http.0"]


def test_the_wake_up_pipe(processes: Processes, wake_up: List[int]) -> None:
    os.write(wake_up[1], b"!r")
    assert processes.wait(PATIENCE * 1000) == (b"!r", [])
    assert processes.wait(0) == (b"", [])


def test_a_verdict_is_the_first_one(processes: Processes) -> None:
    child = processes.start(echo_spec(), Slot("worker", "worker-0"))
    processes.kill(child, "hung")
    processes.kill(child, "hung again")
    assert child.end == "worker-0 hung"
    assert processes.exited() == [child]


def test_killing_all(processes: Processes) -> None:
    for name in ("worker-0", "worker-1"):
        processes.start(echo_spec(), Slot("worker", name))
    children = processes.of()
    processes.kill_all(children)
    assert processes.of() == []
    assert [child.process.poll() for child in children] == [-9, -9]
