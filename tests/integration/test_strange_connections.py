"""Connections that say nothing, stop halfway or say nonsense: others are served, no file stays."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from random import Random
from threading import Thread
from typing import Callable, Dict, List

import psutil
import pytest
from support import PATIENCE, client_of, running, wait_for

from bert_serving.server import BertServer

pytestmark = pytest.mark.slow

#: How a ZeroMQ connection begins: version 3.1, no security; then a READY command of a socket.
GREETING = b"\xff" + b"\0" * 7 + b"\1\x7f" + b"\3\1" + b"NULL" + b"\0" * 48
CONNECTIONS = 1000
#: Files of connections that are closed, but that ZeroMQ keeps until it has something else to do.
SPARE = 4


def descriptors() -> Dict[str, int]:
    """How many files the processes with public ports have open."""
    return {
        child.cmdline()[-1]: child.num_fds()
        for child in psutil.Process().children(recursive=True)
        if child.cmdline()[-1] in ("ventilator", "sink")
    }


def more_than(before: Dict[str, int]) -> Dict[str, int]:
    """The processes that have more files open than before, beyond a few."""
    most = {name: count + SPARE for name, count in before.items()}
    return {name: count for name, count in descriptors().items() if count > most[name]}


def connect(stack: ExitStack, server: BertServer, count: int) -> List[socket.socket]:
    """Connections to both ports in turn; those that the server closes are closed in the end."""
    ports = (server.spec.port, server.spec.port_out)
    made = []
    for number in range(count):
        one = socket.create_connection(("127.0.0.1", ports[number % 2]), timeout=PATIENCE)
        made.append(stack.enter_context(one))
    return made


def nothing(random: Random, number: int) -> bytes:
    return b""


def half_a_greeting(random: Random, number: int) -> bytes:
    return GREETING[: random.randrange(1, len(GREETING))]


def greeting_and_silence(random: Random, number: int) -> bytes:
    return GREETING


def greeting_and_garbage(random: Random, number: int) -> bytes:
    return GREETING + bytes(random.randrange(256) for _ in range(random.randrange(1, 200)))


def half_a_frame(random: Random, number: int) -> bytes:
    """Of a message whose length is said and which doesn't come."""
    kind = b"SUB" if number % 2 else b"PUSH"
    ready = b"\5READY\x0bSocket-Type\0\0\0" + bytes([len(kind)]) + kind
    return GREETING + b"\4" + bytes([len(ready)]) + ready + b"\0\xff" + b"x" * 100


def garbage(random: Random, number: int) -> bytes:
    return bytes(random.randrange(256) for _ in range(random.randrange(1, 300)))


def http(random: Random, number: int) -> bytes:
    return b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"


@pytest.mark.parametrize(
    "says",
    [
        nothing,
        half_a_greeting,
        greeting_and_silence,
        greeting_and_garbage,
        half_a_frame,
        garbage,
        http,
    ],
    ids=lambda says: says.__name__,
)
def test_others_are_served_and_nothing_is_left(says: Callable[[Random, int], bytes]) -> None:
    random = Random(1)
    with running("-engine", "echo") as server:
        with client_of(server) as client:
            client.encode(["before"])
        # The client's own connections are closed at leisure.
        wait_for(lambda: client_count(server) == 0, "the client's connections to close")
        before = descriptors()
        with ExitStack() as stack:
            for number, one in enumerate(connect(stack, server, CONNECTIONS)):
                one.sendall(says(random, number))
            with client_of(server) as client:
                for number in range(20):
                    assert client.encode(["during %d" % number]).shape == (1, 768)
        wait_for(lambda: not more_than(before), "the descriptors to be freed: %s" % before)
        with client_of(server) as client:
            assert client.encode(["after"]).shape == (1, 768)


def test_others_are_served_while_one_subscribes_without_end() -> None:
    """And takes back each subscription, so that no bound to them is ever reached."""
    ready = b"\5READY\x0bSocket-Type\0\0\0\3SUB"
    pair = b"\0\3\1me\0\3\0me"
    with running("-engine", "echo") as server, client_of(server, timeout=60_000) as client:
        sink = one_process("sink")
        with socket.create_connection(("127.0.0.1", server.spec.port_out), PATIENCE) as one:
            one.sendall(GREETING + b"\4" + bytes([len(ready)]) + ready)
            # Before the server has said that it is ready, it would take a message for nonsense.
            with one.makefile("rb") as answer:
                answer.read(len(GREETING))
                answer.read(answer.read(2)[1])
            flood = Thread(target=send_without_end, args=(one, pair * 5000))
            flood.start()
            try:
                before = sink.memory_info().rss
                for number in range(100):
                    assert client.encode(["during %d" % number]).shape == (1, 768)
                assert flood.is_alive(), "the server closed the connection"
                assert sink.memory_info().rss - before < 30_000_000
            finally:
                with suppress(OSError):  # it is over, if the sink was lost
                    one.shutdown(socket.SHUT_RDWR)
                flood.join(PATIENCE)
        assert one_process("sink") == sink


def send_without_end(one: socket.socket, block: bytes) -> None:
    """Until somebody shuts the connection down."""
    one.settimeout(None)
    with suppress(OSError):
        while True:
            one.sendall(block)


def one_process(role: str) -> psutil.Process:
    """The server's process of this role."""
    children = psutil.Process().children(recursive=True)
    (found,) = [child for child in children if child.cmdline()[-1] == role]
    return found


def client_count(server: BertServer) -> int:
    """Connections to the public ports that are established."""
    ports = (server.spec.port, server.spec.port_out)
    found = 0
    for child in psutil.Process().children(recursive=True):
        for one in child.net_connections("tcp"):
            found += one.status == psutil.CONN_ESTABLISHED and one.laddr.port in ports
    return found
