"""The process's role without a pipeline; the integration tests have one."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import Any, Iterator, List

import pytest
from support import PATIENCE, free_ports, wait_for
from unit.server.support import FakeLink, echo_spec

from bert_serving.server.engines.echo import vocabulary
from bert_serving.server.errors import StartupError
from bert_serving.server.http import serving
from bert_serving.server.http.serving import HttpFrontEnd, listen


@pytest.fixture
def link() -> Iterator[FakeLink]:
    made = FakeLink()
    yield made
    made.close()


def front_end(link: Any) -> HttpFrontEnd:
    return HttpFrontEnd(echo_spec("-http_port", str(free_ports()[0])), link, vocabulary())


@pytest.mark.parametrize("commands", [["stop"], ["drain", "stop"]])
def test_it_stops_while_it_waits_for_the_pipeline(link: FakeLink, commands: List[str]) -> None:
    role = front_end(link)
    errors: List[BaseException] = []

    def run() -> None:
        try:
            role.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for command in commands:
        link.tell(command)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert errors == []
    role.close()


def test_its_loop_says_that_it_comes_round(link: FakeLink) -> None:
    role = front_end(link)
    thread = threading.Thread(target=role.run)
    thread.start()
    try:
        wait_for(lambda: link.turns >= 2, "signs of life")
    finally:
        link.tell("stop")
        thread.join(PATIENCE)
    assert not thread.is_alive()
    role.close()


def test_a_pipeline_that_does_not_answer(link: FakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CONNECT_SECONDS", 0.05)
    role = front_end(link)
    with pytest.raises(StartupError, match="the pipeline doesn't answer"):
        role.run()
    role.close()


def test_listening() -> None:
    port = free_ports()[0]
    with listen("127.0.0.1", port) as listener:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        with pytest.raises(StartupError) as raised:
            listen("127.0.0.1", port)
        reason = os.strerror(errno.EADDRINUSE)
        assert "can't listen on 127.0.0.1 port %d: %s" % (port, reason) in str(raised.value)
        assert not listener.getblocking()
    with listen("::1", port):
        socket.create_connection(("::1", port), PATIENCE).close()
