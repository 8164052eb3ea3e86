"""Who gets which reply when, by examples and by arbitrary interleavings."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bert_serving.server.delivery import (
    COME_BACK_WITHIN,
    WAIT_FOR_LISTENER,
    Action,
    Blocked,
    Delivery,
    Event,
    GoneAway,
    Post,
    Send,
    Sent,
    Subscribed,
    Tick,
    Unsubscribed,
)

ANNA, BEN = b"anna", b"ben"


class Publisher:
    """The sink's socket: sends what it is told to unless the client's pipe is full."""

    def __init__(self) -> None:
        self.delivery = Delivery()
        self.now = 0.0
        self.full: Dict[bytes, bool] = {}
        self.sent: List[Tuple[bytes, Any]] = []
        self.gone: List[Tuple[bytes, int]] = []

    def handle(self, event: Event) -> None:
        pending: List[Action] = self.delivery.handle(event, self.now)
        while pending:
            action = pending.pop(0)
            if isinstance(action, GoneAway):
                self.gone.append((action.client, action.lost))
            elif self.full.get(action.client):
                pending += self.delivery.handle(Blocked(action.client, action.frames), self.now)
            else:
                self.sent.append((action.client, action.frames))
                pending += self.delivery.handle(Sent(action.client), self.now)

    def post(self, client: bytes, *replies: Any) -> None:
        for reply in replies:
            self.handle(Post(client, [reply]))

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.handle(Tick())

    def received(self, client: bytes) -> List[Any]:
        return [frames[0] for name, frames in self.sent if name == client]


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def test_a_reply_to_a_listener_is_sent_at_once(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.post(ANNA, 1, 2)
    assert publisher.received(ANNA) == [1, 2]
    assert publisher.delivery.waiting_replies == 0


def test_replies_wait_for_their_listener_in_order(publisher: Publisher) -> None:
    publisher.post(ANNA, 1, 2, 3)
    assert publisher.sent == []
    assert publisher.delivery.waiting_replies == 3
    assert publisher.delivery.waiting_for_listeners == 0
    publisher.handle(Subscribed(BEN))
    assert publisher.sent == []
    publisher.handle(Subscribed(ANNA))
    assert publisher.received(ANNA) == [1, 2, 3]
    assert publisher.delivery.waiting_replies == 0


def test_a_full_pipe_keeps_replies_in_order(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.post(ANNA, 1)
    publisher.full[ANNA] = True
    publisher.post(ANNA, 2, 3, 4)
    publisher.tick()
    assert publisher.received(ANNA) == [1]
    assert publisher.delivery.waiting_for_listeners == 3
    publisher.full[ANNA] = False
    publisher.post(ANNA, 5)
    assert publisher.received(ANNA) == [1], "a new reply may not pass those that wait"
    publisher.tick()
    assert publisher.received(ANNA) == [1, 2, 3, 4, 5]
    assert publisher.delivery.waiting_replies == 0


def test_a_full_pipe_does_not_hold_up_others(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.handle(Subscribed(BEN))
    publisher.full[ANNA] = True
    publisher.post(ANNA, 1)
    publisher.post(BEN, 2)
    publisher.tick()
    publisher.post(BEN, 3)
    assert publisher.sent == [(BEN, [2]), (BEN, [3])]


def test_a_client_that_stopped_listening_is_gone_after_a_moment(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.now = 50.0
    publisher.handle(Unsubscribed(ANNA))
    publisher.post(ANNA, 1, 2)
    publisher.tick(COME_BACK_WITHIN - 0.01)
    assert publisher.gone == []
    publisher.tick(0.01)
    assert publisher.gone == [(ANNA, 2)]
    publisher.tick(100.0)
    assert publisher.gone == [(ANNA, 2)]
    assert publisher.delivery.waiting_replies == 0
    assert not publisher.delivery.needs_ticks


def test_a_client_that_comes_back_in_time_gets_its_replies(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.handle(Unsubscribed(ANNA))
    publisher.post(ANNA, 1, 2)
    publisher.tick(COME_BACK_WITHIN / 2)
    publisher.handle(Subscribed(ANNA))
    assert publisher.received(ANNA) == [1, 2]
    publisher.tick(COME_BACK_WITHIN * 10)
    assert publisher.gone == []


def test_a_client_that_comes_back_after_it_was_gone_is_served_again(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.handle(Unsubscribed(ANNA))
    publisher.tick(COME_BACK_WITHIN)
    publisher.handle(Subscribed(ANNA))
    publisher.post(ANNA, 1)
    assert publisher.received(ANNA) == [1]


def test_a_client_that_never_listens_is_waited_for_longer(publisher: Publisher) -> None:
    publisher.post(ANNA, 1)
    publisher.tick(COME_BACK_WITHIN * 2)
    assert publisher.gone == []
    publisher.tick(WAIT_FOR_LISTENER)
    assert publisher.gone == [(ANNA, 1)]


def test_a_client_with_two_connections_is_gone_with_the_second(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.handle(Subscribed(ANNA))
    publisher.handle(Unsubscribed(ANNA))
    publisher.post(ANNA, 1)
    publisher.tick(COME_BACK_WITHIN * 10)
    assert publisher.received(ANNA) == [1]
    assert publisher.gone == []
    publisher.handle(Unsubscribed(ANNA))
    publisher.tick(COME_BACK_WITHIN)
    assert publisher.gone == [(ANNA, 0)]


def test_a_blocked_client_that_leaves_is_gone_with_its_replies(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.full[ANNA] = True
    publisher.post(ANNA, 1, 2)
    publisher.handle(Unsubscribed(ANNA))
    publisher.tick(COME_BACK_WITHIN)
    assert publisher.gone == [(ANNA, 2)]
    assert publisher.sent == []
    assert not publisher.delivery.needs_ticks


def test_a_blocked_client_that_connects_again_is_tried_at_once(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.full[ANNA] = True
    publisher.post(ANNA, 1, 2)
    publisher.handle(Unsubscribed(ANNA))
    publisher.tick()
    publisher.full[ANNA] = False
    publisher.handle(Subscribed(ANNA))
    assert publisher.received(ANNA) == [1, 2]


def test_listening_clients_are_counted(publisher: Publisher) -> None:
    publisher.post(ANNA, 1)
    publisher.handle(Subscribed(BEN))
    assert publisher.delivery.listening_clients == 1
    publisher.handle(Unsubscribed(BEN))
    assert publisher.delivery.listening_clients == 0


def test_ticks_are_needed_only_while_time_matters(publisher: Publisher) -> None:
    assert not publisher.delivery.needs_ticks
    publisher.post(ANNA, 1)
    assert publisher.delivery.needs_ticks
    publisher.handle(Subscribed(ANNA))
    assert not publisher.delivery.needs_ticks
    publisher.full[ANNA] = True
    publisher.post(ANNA, 2)
    assert publisher.delivery.needs_ticks
    publisher.full[ANNA] = False
    publisher.tick()
    assert not publisher.delivery.needs_ticks


def test_a_send_is_for_one_reply_at_a_time() -> None:
    """The next one is handed out when the first was sent, for it may have to wait."""
    delivery = Delivery()
    delivery.handle(Post(ANNA, [1]), 0.0)
    delivery.handle(Post(ANNA, [2]), 0.0)
    assert delivery.handle(Subscribed(ANNA), 0.0) == [Send(ANNA, [1])]
    assert delivery.handle(Blocked(ANNA, [1]), 0.0) == []
    assert delivery.handle(Tick(), 0.0) == [Send(ANNA, [1])]
    assert delivery.handle(Sent(ANNA), 0.0) == [Send(ANNA, [2])]
    assert delivery.handle(Sent(ANNA), 0.0) == []


CLIENTS = st.sampled_from([ANNA, BEN])


class Interleavings(RuleBasedStateMachine):
    """Whatever happens, each reply is sent once and in order, waits, or is lost with its client."""

    def __init__(self) -> None:
        super().__init__()
        self.publisher = Publisher()
        self.posted: Dict[bytes, List[int]] = {ANNA: [], BEN: []}
        self.listeners: Dict[bytes, int] = {ANNA: 0, BEN: 0}
        self.count = 0

    @rule(client=CLIENTS)
    def post(self, client: bytes) -> None:
        self.count += 1
        self.posted[client].append(self.count)
        self.publisher.post(client, self.count)

    @rule(client=CLIENTS)
    def subscribe(self, client: bytes) -> None:
        self.listeners[client] += 1
        self.publisher.handle(Subscribed(client))

    @rule(client=CLIENTS)
    def unsubscribe(self, client: bytes) -> None:
        if self.listeners[client]:
            self.listeners[client] -= 1
            self.publisher.handle(Unsubscribed(client))

    @rule(client=CLIENTS, full=st.booleans())
    def fill(self, client: bytes, full: bool) -> None:
        self.publisher.full[client] = full

    @rule(seconds=st.sampled_from([0.0, 0.02, 1.0, COME_BACK_WITHIN, WAIT_FOR_LISTENER]))
    def tick(self, seconds: float) -> None:
        self.publisher.tick(seconds)

    @invariant()
    def nothing_is_sent_twice_or_out_of_order(self) -> None:
        for client, posted in self.posted.items():
            received = self.publisher.received(client)
            assert received == sorted(set(received))
            assert set(received) <= set(posted)

    @invariant()
    def every_reply_is_accounted_for(self) -> None:
        lost = sum(count for _, count in self.publisher.gone)
        sent = len(self.publisher.sent)
        assert sent + lost + self.publisher.delivery.waiting_replies == self.count

    @invariant()
    def nothing_waits_for_a_listener_whose_pipe_has_room(self) -> None:
        waiting = self.publisher.delivery.waiting_for_listeners
        assert not waiting or self.publisher.delivery.needs_ticks

    @invariant()
    def only_who_does_not_listen_is_gone(self) -> None:
        listening = sum(1 for count in self.listeners.values() if count)
        assert self.publisher.delivery.listening_clients == listening

    def teardown(self) -> None:
        for client in (ANNA, BEN):
            self.publisher.full[client] = False
            self.publisher.handle(Subscribed(client))
        self.publisher.tick()
        assert self.publisher.delivery.waiting_replies == 0


Interleavings.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestInterleavings = Interleavings.TestCase
