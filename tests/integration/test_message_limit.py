"""Requests over -max_message_mb: the connection is cut before they are read."""

from __future__ import annotations

from typing import Iterator

import pytest
import zmq
from support import PATIENCE, RawClient, client_of, running

from bert_serving.server import BertServer

TIMEOUT = PATIENCE * 1000
#: Some 1.2 MB.
TEXTS = ["x" * 1000] * 1200


@pytest.fixture(scope="module")
def strict() -> Iterator[BertServer]:
    with running("-engine", "echo", "-max_message_mb", "1") as server:
        yield server


@pytest.mark.parametrize("checks", [True, False])
def test_our_client_says_so(strict: BertServer, checks: bool) -> None:
    with client_of(strict, ignore_all_checks=not checks, timeout=TIMEOUT) as client:
        with pytest.raises(ValueError, match="the server takes 1000000 in a request"):
            client.encode(TEXTS)
        assert client.encode(TEXTS[:900]).shape == (900, 768)


def test_another_is_disconnected(strict: BertServer) -> None:
    with RawClient(strict) as rude, client_of(strict, timeout=TIMEOUT) as other:
        monitor = rude.sender.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        rude.send(rude.identity, b'["' + b"x" * 1_100_000 + b'"]', b"1", b"1")
        assert monitor.poll(TIMEOUT), "still connected"
        rude.sender.disable_monitor()
        monitor.close()
        # It may come back, and ask for less.
        rude.send(rude.identity, b"SHOW_CONFIG", b"2", b"0")
        assert rude.receive()[-1] == b"2"
        assert not rude.receiver.poll(0)
        assert other.encode(["still there"]).shape == (1, 768)


def test_just_as_much_as_is_allowed(strict: BertServer) -> None:
    with RawClient(strict) as client:
        payload = b'["' + b"x" * (1_000_000 - 4) + b'"]'
        assert len(payload) == 1_000_000
        client.send(client.identity, payload, b"1", b"1")
        assert client.receive()[-1] == b"1"


def test_the_port_for_results_reads_no_more_than_a_subscription(strict: BertServer) -> None:
    """But sends as much as it likes."""
    with zmq.Context() as context, context.socket(zmq.XSUB) as rude:
        rude.linger = 0
        monitor = rude.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        rude.connect("tcp://127.0.0.1:%d" % strict.spec.port_out)
        # Not much more: ZeroMQ's own sockets recurse into each byte, and have no endless stack.
        rude.send(b"\1" + b"x" * 5000)
        assert monitor.poll(TIMEOUT), "still connected"
        rude.disable_monitor()
        monitor.close()
    with client_of(strict, identity=b"i" * 254, timeout=TIMEOUT) as client:
        assert client.encode(["hello"] * 3000).nbytes > 9_000_000
