"""Client and server on two hosts, with a link between them that loses, delays and is cut.

Needs the right to make network namespaces. What is between the hosts is in ``lossy_link.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, List

import psutil
import pytest
from lossy_link import HOSTS, LossyLink, why_not
from support import PATIENCE, command, environment, wait_for

REASON = why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
    pytest.mark.timeout(240),
]

#: Asks as its standard input says, a JSON object a line, and says what became of it.
CLIENT = """
import json, sys, time
from bert_serving.benchmarks.chaos.texts import Texts
from bert_serving.client import BertClient
texts = Texts(1)
with BertClient(ip=sys.argv[1], timeout=60000, check_length=False) as client:
    print(json.dumps("connected"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        request = [text for _ in range(order["draws"]) for text in texts.draw()]
        began = time.monotonic()
        try:
            vectors = client.encode(request, timeout=order["timeout"])
            outcome = "right" if texts.is_right(request, vectors) else "wrong"
        except Exception as error:
            outcome = type(error).__name__
        seconds = time.monotonic() - began
        print(json.dumps({"outcome": outcome, "seconds": seconds}), flush=True)
"""
#: What a request may end in if its time is over.
IN_VAIN = {"RequestTimeout", "DeadlineExceeded"}
#: Seconds beyond its deadline in which a request has to have ended, on a slow machine.
SLACK = 10.0
#: In so many seconds the other end is missed: 11, and what a slow machine takes more.
VANISHED = 60.0


class RemoteClient:
    """A BertClient on the other host."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def send(self, timeout: float, draws: int = 1) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"timeout": timeout, "draws": draws}) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, timeout: float, draws: int = 1) -> Dict[str, Any]:
        self.send(timeout, draws)
        outcome: Dict[str, Any] = self.receive()
        assert outcome["seconds"] < timeout + SLACK
        return outcome


@pytest.fixture
def link() -> Iterator[LossyLink]:
    with LossyLink() as made:
        yield made


@contextmanager
def server_on(link: LossyLink) -> Iterator[psutil.Process]:
    words = ["-engine", "echo", "-max_seq_len", "64", "-host", HOSTS[0], "-num_worker", "2"]
    process = subprocess.Popen(
        link.on(0, *command("start"), *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=environment(),
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "BertClient(" in line:
                break
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.fixture
def server(link: LossyLink) -> Iterator[psutil.Process]:
    with server_on(link) as process:
        yield process


@pytest.fixture
def client(link: LossyLink, server: psutil.Process) -> Iterator[RemoteClient]:
    with ExitStack() as stack:
        stack.callback(link.mend)  # or what ends would wait for what can't be
        process = subprocess.Popen(
            link.on(1, sys.executable, "-c", CLIENT, HOSTS[0]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        made = RemoteClient(process)
        try:
            assert made.receive() == "connected"
            yield made
        finally:
            process.communicate(timeout=PATIENCE + 60)


def test_a_slow_link_that_loses_packets(link: LossyLink, client: RemoteClient) -> None:
    link.delay, link.loss = 0.2, 0.05
    outcomes: List[str] = [client.ask(timeout=30.0)["outcome"] for _ in range(12)]
    assert set(outcomes) <= {"right"} | IN_VAIN
    assert outcomes.count("right") >= 6
    link.delay = link.loss = 0.0
    assert client.ask(timeout=60.0)["outcome"] == "right"


def test_a_link_that_is_cut_for_a_while(link: LossyLink, client: RemoteClient) -> None:
    assert client.ask(timeout=30.0)["outcome"] == "right"
    link.cut()
    outcome = client.ask(timeout=2.0)["outcome"]
    assert outcome in IN_VAIN
    client.send(timeout=60.0, draws=3)
    link.mend()
    assert client.receive()["outcome"] == "right"
    assert client.ask(timeout=30.0)["outcome"] == "right"


def test_a_cut_in_the_middle_of_many_requests(link: LossyLink, client: RemoteClient) -> None:
    link.delay = 0.05
    for _ in range(40):
        client.send(timeout=60.0, draws=10)
    outcomes = []
    for number in range(40):
        if number in (5, 20):
            link.cut(1.5)
        outcomes.append(client.receive()["outcome"])
    assert outcomes == ["right"] * 40


def connections(process: psutil.Process, *ports: int) -> List[bool]:
    """Of each TCP connection to these ports on a process's host, whether all that was sent on it
    has been taken; by the kernel's table (proc(5)).
    """
    with open("/proc/%d/net/tcp" % process.pid) as table:
        rows = [line.split() for line in table.readlines()[1:]]
    local = tuple(":%04X" % port for port in ports)
    return [
        row[4].startswith("00000000:") for row in rows if row[1].endswith(local) and row[3] == "01"
    ]


def test_a_peer_that_vanished_is_noticed(
    link: LossyLink, server: psutil.Process, client: RemoteClient
) -> None:
    """Without a word: the server frees what it had for it, though nobody closes anything."""
    assert client.ask(timeout=30.0)["outcome"] == "right"
    # With something under way TCP goes on trying for a quarter of an hour.
    wait_for(lambda: connections(server, 5555, 5556) == [True, True], "all to be taken")
    link.cut()
    wait_for(lambda: not connections(server, 5555, 5556), "the loss to be noticed", VANISHED)
    link.mend()
    assert client.ask(timeout=60.0)["outcome"] == "right"
