from __future__ import annotations

import os
import signal
from typing import Iterator, List, Tuple

import pytest

from bert_serving.server import cli
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.cli import usage_arguments


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ""),
        (["-port", "7000"], "port=7000"),
        (["-port", "7000", "-port_out", "7001"], "port=7000, port_out=7001"),
        (["-host", "0.0.0.0"], ""),
        (["-host", "192.0.2.7", "-port_out", "7001"], "ip='192.0.2.7', port_out=7001"),
    ],
)
def test_how_a_client_finds_the_server(flags: List[str], expected: str) -> None:
    assert usage_arguments(get_args_parser().parse_args(flags)) == expected


# -------------------------------------------------------------------------------- signals


@pytest.fixture
def _signals_are_left_alone() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class FakeServer:
    def __init__(self) -> None:
        self.asked: List[str] = []

    def stop(self) -> None:
        self.asked.append("stop")

    def reload(self) -> None:
        self.asked.append("reload")


@pytest.mark.usefixtures("_signals_are_left_alone")
@pytest.mark.parametrize(
    ("number", "terminal", "nohup", "expected"),
    [
        (signal.SIGINT, (True, True), False, "stop"),
        (signal.SIGTERM, (False, False), False, "stop"),
        (signal.SIGHUP, (False, False), False, "reload"),
        (signal.SIGHUP, (True, True), False, "reload"),
        (signal.SIGHUP, (True, False), False, "stop"),
        (signal.SIGHUP, (True, False), True, "reload"),
    ],
    ids=["SIGINT", "SIGTERM", "a daemon", "a terminal", "a closed terminal", "nohup"],
)
def test_what_signals_do(
    number: int,
    terminal: Tuple[bool, bool],
    nohup: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, answers = FakeServer(), list(terminal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    monkeypatch.setattr(cli, "_has_terminal", lambda: answers.pop(0) if answers else terminal[1])
    cli._obey_signals(server)
    answers[:] = [terminal[1]]
    os.kill(os.getpid(), number)
    assert server.asked == [expected]
