from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Set

import pytest
import zmq
from support import PATIENCE, free_ports
from unit.server.support import Hub

from bert_serving.server import publishing
from bert_serving.server.curve import Gate
from bert_serving.server.publishing import BURST, Publisher
from bert_serving.server.replies import Subscribed, Unsubscribed
from bert_serving.server.spec import CurveSpec


class Endless:
    """A context, and its socket, which always has another message."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.read = 0
        self.options: Dict[int, Any] = {}
        self._messages = cycle(messages)

    def socket(self, kind: int) -> Endless:
        return self

    def setsockopt(self, option: int, value: Any) -> None:
        self.options[option] = value

    def bind(self, endpoint: str) -> None:
        pass

    def poll(self, timeout: int) -> int:
        return 1

    def recv(self, flags: int = 0, copy: bool = True) -> zmq.Frame:
        self.read += 1
        assert self.read <= 100 * BURST, "it never stops reading"
        return zmq.Frame(next(self._messages))


@pytest.mark.parametrize(
    "messages",
    [
        [b"\1me", b"\0me"],
        [b"\1", b"\0"],  # can be no identity
        [b"\2me"],
    ],
    ids=["subscriptions", "refused", "nonsense"],
)
def test_others_get_their_turn_though_one_never_stops_sending(messages: Sequence[bytes]) -> None:
    endless: Any = Endless(messages)
    publisher = Publisher(endless, "127.0.0.1", 1, 0)
    for turn in (1, 2):
        assert len(publisher.events(0)) <= BURST
        assert endless.read == turn * BURST


def test_who_listens_no_longer_is_not_counted(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_LISTENING", 1)
    endless: Any = Endless([b"\1me", b"\0me"])
    publisher = Publisher(endless, "127.0.0.1", 1, 0)
    assert publisher.events(0) == [Subscribed(b"me"), Unsubscribed(b"me")] * (BURST // 2)
    assert "clients listen" not in log.text
    assert publisher.events(1)[0] == Unsubscribed(b"me")
    assert "refused a subscription: 1 clients listen" in log.text


def test_no_more_is_taken_in_than_is_read() -> None:
    """ZeroMQ puts no bound to what it has taken in, only to what waits for that."""
    endless: Any = Endless([b"\1me"])
    Publisher(endless, "127.0.0.1", 1, 0)
    assert endless.options[zmq.RCVHWM] == 2


def test_what_waits_for_its_turn_comes_with_curve_too(hub: Hub, tmp_path: Path) -> None:
    """There, ZeroMQ counts a message more for each connection."""
    pairs = [tuple(key.decode("ascii") for key in zmq.curve_keypair()) for _ in range(2)]
    gate = Gate(hub.context, CurveSpec(str(tmp_path), *pairs[0], *pairs[1]))
    publisher = Publisher(hub.context, "127.0.0.1", free_ports()[0], 0, gate)
    public, secret = (key.encode("ascii") for key in pairs[1])
    identities = [public + b":%d" % number for number in range(BURST + 10)]
    client = subscriber(hub, identities)
    client.curve_publickey, client.curve_secretkey = public, secret
    client.curve_serverkey = pairs[0][0].encode("ascii")
    client.connect(address_of(publisher))
    try:
        assert subscribed(publisher, len(identities), gate) == set(identities)
    finally:
        publisher.close()
        gate.close()


def subscriber(hub: Hub, identities: Sequence[bytes]) -> zmq.Socket:
    client = hub.socket(zmq.SUB)
    for identity in identities:
        client.setsockopt(zmq.SUBSCRIBE, identity)
    return client


def address_of(publisher: Publisher) -> str:
    endpoint: bytes = publisher.socket.getsockopt(zmq.LAST_ENDPOINT)
    return endpoint.rstrip(b"\0").decode("ascii")


def subscribed(publisher: Publisher, count: int, gate: Optional[Gate] = None) -> Set[bytes]:
    """So many identities that are subscribed to, as they come."""
    poller = zmq.Poller()
    poller.register(publisher.socket, zmq.POLLIN)
    if gate is not None:
        poller.register(gate.socket, zmq.POLLIN)
    found: Set[bytes] = set()
    while len(found) < count:
        ready = dict(poller.poll(PATIENCE * 1000))
        assert ready, "%d came" % len(found)
        if gate is not None and gate.socket in ready:
            gate.answer()
        if publisher.socket in ready:
            events = publisher.events(len(found))
            found |= {event.client for event in events if isinstance(event, Subscribed)}
    return found


@pytest.fixture
def publisher(hub: Hub) -> Iterator[Publisher]:
    made = Publisher(hub.context, "127.0.0.1", free_ports()[0], 0)
    yield made
    made.close()


def test_what_is_left_of_a_burst_is_read_in_the_next_turns(hub: Hub, publisher: Publisher) -> None:
    """Though nothing else comes that could wake anybody up."""
    identities = [b"me-%d" % number for number in range(BURST * 2 + 10)]
    subscriber(hub, identities).connect(address_of(publisher))
    assert subscribed(publisher, len(identities)) == set(identities)
