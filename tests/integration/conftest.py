"""Servers for the integration tests: real processes and sockets, the echo engine."""

from __future__ import annotations

import glob
import os
import tempfile
from typing import Any, Callable, Iterator, List, Tuple

import psutil
import pytest
from support import PATIENCE, client_of, running

from bert_serving.client import BertClient
from bert_serving.server import BertServer


def leftovers() -> Tuple[List[str], List[int]]:
    """Directories of sockets, and child processes of this one."""
    pattern = os.path.join(tempfile.gettempdir(), "bert-serving-*")
    return glob.glob(pattern), [child.pid for child in psutil.Process().children(recursive=True)]


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a process or a directory of sockets behind fails."""
    before = leftovers()
    yield
    after = leftovers()
    assert sorted(set(after[0]) - set(before[0])) == [], "directories of sockets left behind"
    assert sorted(set(after[1]) - set(before[1])) == [], "processes left behind"


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow a test is: a process that it stopped isn't taken for hung, whoever is left of
    the pipeline has time to name its requests, and who is told to stop at once has some, too.
    """
    monkeypatch.setattr("bert_serving.server.processes.SILENCE", 10.0 * PATIENCE)
    monkeypatch.setattr("bert_serving.server.recovery.LAST_WORD_TIMEOUT", float(PATIENCE))
    monkeypatch.setattr("bert_serving.server.supervisor.SHORT_EXIT_TIMEOUT", float(PATIENCE))


@pytest.fixture(scope="module")
def echo_server() -> Iterator[BertServer]:
    """One server for all tests of a module that don't change it."""
    with running("-engine", "echo", "-num_worker", "2", "-show_tokens_to_client") as server:
        yield server


@pytest.fixture
def connect(echo_server: BertServer) -> Iterator[Callable[..., BertClient]]:
    """Makes clients of the module's server; they are closed after the test."""
    clients: List[BertClient] = []

    def make(**options: Any) -> BertClient:
        clients.append(client_of(echo_server, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
