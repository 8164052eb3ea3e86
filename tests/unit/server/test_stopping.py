from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List, Tuple

import pytest

from bert_serving.server.stopping import COME_BACK_WITHIN, Stopping


class Processes:
    """With an HTTP process, and what it and others are told."""

    def __init__(self) -> None:
        self.told: List[Tuple[str, str]] = []

    def of(self, *roles: str) -> List[Any]:
        assert roles == ("http",)
        return [SimpleNamespace(is_ready=True)]

    def tell(self, role: str, command: str, **values: Any) -> None:
        self.told.append((role, command))


@pytest.fixture
def processes() -> Any:
    return Processes()


def test_before_the_service_was_ready_there_is_nothing_to_finish() -> None:
    stopping = Stopping(30.0)
    assert not stopping.is_over(was_ready=False)
    stopping.asked += 1
    assert stopping.is_over(was_ready=False)
    assert not stopping.is_over(was_ready=True), "it has to begin"


def test_the_second_time_it_does_not_wait(processes: Any) -> None:
    stopping = Stopping(30.0)
    stopping.asked += 1
    stopping.begin(processes, 0.0)
    assert stopping.is_finishing
    assert not stopping.is_over(was_ready=True)
    stopping.asked += 1
    assert stopping.is_over(was_ready=True)


@pytest.mark.parametrize("end", ["drained", "died", "drained while it was interrupted"])
def test_after_a_loss_it_begins_anew_but_for_what_is_through(end: str, processes: Any) -> None:
    stopping = Stopping(30.0)
    stopping.asked += 1
    stopping.begin(processes, 0.0)
    stopping.go_on(processes, 0.0)
    assert processes.told == [("http", "drain")]
    if end == "drained":
        stopping.reported({"event": "http_drained"}, 1.0)
    elif end == "died":
        stopping.lost_http(1.0)
    stopping.interrupt()
    assert not stopping.is_finishing
    stopping.go_on(processes, 2.0)
    assert processes.told == [("http", "drain")], "nobody is there"
    if end == "drained while it was interrupted":
        stopping.reported({"event": "http_drained"}, 2.0)
    stopping.begin(processes, 3.0)
    stopping.go_on(processes, 3.0)
    assert processes.told == [("http", "drain"), ("ventilator", "drain")]


def test_a_pipeline_that_does_not_come_back_is_not_waited_for_for_ever(
    processes: Any, log: Any
) -> None:
    stopping = Stopping(30.0)
    stopping.go_on(processes, 0.0)  # nobody has asked
    stopping.asked += 1
    for now in (100.0, 130.0, 130.0 + COME_BACK_WITHIN - 0.1):
        stopping.go_on(processes, now)
        assert not stopping.is_over(was_ready=True)
    for _ in range(2):
        stopping.go_on(processes, 130.0 + COME_BACK_WITHIN)
    assert stopping.is_over(was_ready=True)
    assert log.text.count("ventilator and sink didn't come back in time") == 1


def test_the_time_for_requests_is_that_of_all_beginnings(processes: Any, log: Any) -> None:
    stopping = Stopping(30.0)
    stopping.asked += 1
    for now in (0.0, 20.0, 40.0):
        stopping.begin(processes, now)
        stopping.interrupt()
    stopping.begin(processes, 40.0)
    stopping.go_on(processes, 40.0)
    assert processes.told == [("http", "drain"), ("ventilator", "drain")], "no time is left"
