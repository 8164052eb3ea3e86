from __future__ import annotations

from typing import Any

import pytest
import zmq

from bert_serving.client.connection import Connection
from bert_serving.client.liveness import NOTICED_AFTER, watch_peer


@pytest.mark.parametrize("gives_up", [False, True])
def test_a_vanished_peer_is_noticed_soon(gives_up: bool) -> None:
    context = zmq.Context()
    socket: Any = context.socket(zmq.PUSH)
    watch_peer(socket, gives_up)
    assert socket.get(zmq.TCP_KEEPALIVE) == 1
    idle, interval, count = (
        socket.get(option)
        for option in (zmq.TCP_KEEPALIVE_IDLE, zmq.TCP_KEEPALIVE_INTVL, zmq.TCP_KEEPALIVE_CNT)
    )
    assert idle + interval * count == NOTICED_AFTER <= 12
    assert socket.get(zmq.TCP_MAXRT) == (NOTICED_AFTER * 1000 if gives_up else 0)
    socket.close()
    context.term()


def test_a_clients_sockets_are_watched() -> None:
    connection = Connection("127.0.0.1", 1, 2, b"me")
    sender: Any = connection._sender
    receiver: Any = connection._receiver
    try:
        assert sender.get(zmq.TCP_KEEPALIVE) == receiver.get(zmq.TCP_KEEPALIVE) == 1
        assert sender.get(zmq.TCP_MAXRT) > 0
        assert receiver.get(zmq.TCP_MAXRT) == 0
    finally:
        connection.close()
