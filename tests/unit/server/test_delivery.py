"""Who gets which reply when, by examples and by arbitrary interleavings."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bert_serving.server import outbox_bounds
from bert_serving.server.delivery import (
    COME_BACK_WITHIN,
    READ_WITHIN,
    WAIT_FOR_LISTENER,
    Delivery,
)
from bert_serving.server.outbox import EXCUSE_BYTES
from bert_serving.server.replies import (
    Action,
    Blocked,
    Event,
    GoneAway,
    Post,
    Reply,
    Send,
    Sent,
    Stalled,
    Subscribed,
    Tick,
    Unsubscribed,
    Waits,
)

ANNA, BEN = b"anna", b"ben"


class Publisher:
    """The sink's socket: sends what it is told to unless the client's pipe is full.

    A reply is its number, an excuse for it is a number below 0.
    """

    def __init__(self, most: int = 0, most_of_client: int = 0) -> None:
        self.delivery = Delivery(lambda _, request_id: [b"-" + request_id], most, most_of_client)
        self.now = 0.0
        self.full: Dict[bytes, bool] = {}
        self.sent: List[Tuple[bytes, Any]] = []
        self.gone: List[Tuple[bytes, int]] = []
        self.stalled: List[Tuple[bytes, int]] = []
        self.waits: List[Tuple[bytes, bytes]] = []  # what is told of those that don't ask again

    def handle(self, event: Event) -> None:
        self._follow(self.delivery.handle(event, self.now))
        self.delivery.validate()
        assert sorted(self.waits) == sorted(self.delivery.of_protocol_1())

    def _follow(self, pending: List[Action]) -> None:
        while pending:
            action = pending.pop(0)
            if isinstance(action, Waits):
                change = self.waits.remove if action.is_over else self.waits.append
                change((action.client, action.request_id))
            elif isinstance(action, GoneAway):
                self.gone.append((action.client, action.lost))
                self.waits = [one for one in self.waits if one[0] != action.client]
            elif isinstance(action, Stalled):
                self.stalled.append((action.client, action.lost))
            elif self.full.get(action.client):
                pending += self.delivery.handle(Blocked(action.client, action.reply), self.now)
            else:
                self.sent.append((action.client, action.reply.frames))
                pending += self.delivery.handle(Sent(action.client), self.now)

    def take_one(self, client: bytes) -> None:
        """Let a client take one reply from its pipe, if it listens and there is one."""
        was_full, self.full[client] = self.full.get(client, False), False
        for action in self.delivery.handle(Tick(), self.now):
            if isinstance(action, Send) and action.client == client and not self.full[client]:
                self.sent.append((client, action.reply.frames))
                self.full[client] = was_full
                self._follow(self.delivery.handle(Sent(client), self.now))
            else:
                self._follow([action])
        self.full[client] = was_full

    def post(
        self,
        client: bytes,
        *replies: int,
        size: int = 1000,
        request: int = 0,
        asks_again: bool = True,
    ) -> None:
        """Replies to requests of their own numbers, or to one."""
        for number in replies:
            one = reply(number, size, request or number)
            self.handle(Post(client, one._replace(asks_again=asks_again)))

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.handle(Tick())

    def received(self, client: bytes) -> List[Any]:
        return [int(frames[0]) for name, frames in self.sent if name == client]


def reply(number: int, size: int = 1000, request: int = 0) -> Reply:
    return Reply(b"%d" % (request or number), [b"%d" % number], size)


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
    assert publisher.sent == [(BEN, [b"2"]), (BEN, [b"3"])]


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
    delivery = Publisher().delivery
    delivery.handle(Post(ANNA, reply(1)), 0.0)
    delivery.handle(Post(ANNA, reply(2)), 0.0)
    assert delivery.handle(Subscribed(ANNA), READ_WITHIN) == [Send(ANNA, reply(1))]
    assert delivery.handle(Blocked(ANNA, reply(1)), 0.0) == []
    assert delivery.handle(Tick(), 0.0) == [Send(ANNA, reply(1))]
    assert delivery.handle(Sent(ANNA), 0.0) == [Send(ANNA, reply(2))]
    assert delivery.handle(Sent(ANNA), 0.0) == []


def test_others_know_what_waits_for_clients_that_do_not_ask_again(publisher: Publisher) -> None:
    publisher.handle(Subscribed(ANNA))
    publisher.post(ANNA, 1, asks_again=False)
    assert publisher.waits == [], "it was sent at once"
    blocked(publisher)
    publisher.post(ANNA, 2)
    publisher.post(ANNA, 3, 4, asks_again=False)
    publisher.tick()
    assert publisher.waits == [(ANNA, b"3"), (ANNA, b"4")]
    publisher.take_one(ANNA)
    publisher.take_one(ANNA)
    assert publisher.received(ANNA) == [1, 2, 3]
    assert publisher.waits == [(ANNA, b"4")]
    publisher.tick(READ_WITHIN)
    assert publisher.stalled == [(ANNA, 1)]
    assert publisher.waits == [(ANNA, b"4")], "its excuse waits"
    unblock(publisher)
    assert publisher.received(ANNA) == [1, 2, 3, -4]
    assert publisher.waits == []


# --------------------------------------------------------------------------------- bounds


def blocked(publisher: Publisher, client: bytes = ANNA) -> Publisher:
    """With a client that listens and takes nothing."""
    publisher.handle(Subscribed(client))
    publisher.full[client] = True
    return publisher


def unblock(publisher: Publisher, client: bytes = ANNA) -> None:
    publisher.full[client] = False
    publisher.tick()


def test_a_client_above_its_bound_gets_excuses_in_the_end() -> None:
    publisher = blocked(Publisher(most_of_client=2500))
    publisher.post(ANNA, 1, 2, 3, 4)
    assert publisher.stalled == [(ANNA, 1), (ANNA, 1)]
    assert publisher.delivery.waiting_bytes == 2000 + 2 * EXCUSE_BYTES
    unblock(publisher)
    assert publisher.received(ANNA) == [1, 2, -3, -4]
    publisher.post(ANNA, 5)
    assert publisher.received(ANNA) == [1, 2, -3, -4, 5]


def test_one_reply_may_wait_however_large_it_is() -> None:
    publisher = blocked(Publisher(most_of_client=2500))
    publisher.post(ANNA, 1, size=10**9)
    publisher.post(ANNA, 2)
    unblock(publisher)
    assert publisher.received(ANNA) == [1, -2]


def test_of_a_stream_there_is_one_excuse() -> None:
    publisher = blocked(Publisher(most_of_client=2500))
    publisher.post(ANNA, 1, 2, 3, 4, request=7)
    assert publisher.stalled == [(ANNA, 1)]
    unblock(publisher)
    assert publisher.received(ANNA) == [1, 2, -7]


def test_above_the_bound_of_all_who_has_most_loses_it() -> None:
    publisher = blocked(blocked(Publisher(most=10_000)), BEN)
    publisher.post(BEN, 1, 2)
    publisher.post(ANNA, 3, 4, 5, size=2000)
    publisher.post(BEN, 6, size=3000)
    assert publisher.stalled == [(ANNA, 3)]
    for client in (ANNA, BEN):
        unblock(publisher, client)
    assert publisher.received(BEN) == [1, 2, 6]
    assert publisher.received(ANNA) == [-3, -4, -5]


def test_above_the_bound_of_all_nobody_is_waited_for() -> None:
    """However many names a stranger makes up, none of them costs those who listen."""
    publisher = blocked(Publisher(most=3500), BEN)
    publisher.post(BEN, 1)
    for number in range(2, 10):
        publisher.post(b"name %d" % number, number)
    assert publisher.gone == [(b"name %d" % number, 1) for number in range(4, 10)]
    assert publisher.delivery.waiting_bytes == 3000
    unblock(publisher, BEN)
    assert publisher.received(BEN) == [1]


def test_who_takes_nothing_for_too_long_loses_what_waits(publisher: Publisher) -> None:
    blocked(publisher)
    publisher.post(ANNA, 1, 2)
    publisher.tick(READ_WITHIN - 1)
    assert publisher.stalled == []
    publisher.tick(1)
    assert publisher.stalled == [(ANNA, 2)]
    publisher.tick(1)
    publisher.post(ANNA, 3)
    assert publisher.stalled == [(ANNA, 2), (ANNA, 1)], "nothing is kept for it any more"
    assert publisher.delivery.waiting_bytes == 3 * EXCUSE_BYTES
    unblock(publisher)
    publisher.post(ANNA, 4)
    assert publisher.received(ANNA) == [-1, -2, -3, 4]


def test_who_takes_something_now_and_then_loses_nothing(publisher: Publisher) -> None:
    blocked(publisher)
    publisher.post(ANNA, *range(1, 7))
    for number in range(1, 6):
        publisher.tick(READ_WITHIN - 1)
        publisher.take_one(ANNA)
        assert publisher.received(ANNA) == list(range(1, number + 1))
    assert publisher.stalled == []


def test_large_replies_have_the_time_that_a_slow_connection_takes(publisher: Publisher) -> None:
    delivery = publisher.delivery
    delivery.handle(Subscribed(ANNA), 0.0)
    delivery.handle(Blocked(ANNA, reply(1), in_pipe=10**9), 0.0)
    assert delivery.handle(Tick(), READ_WITHIN) == [Send(ANNA, reply(1))]


def test_a_new_connection_has_its_own_time(publisher: Publisher) -> None:
    blocked(publisher)
    publisher.post(ANNA, 1)
    publisher.tick(READ_WITHIN)
    publisher.full[ANNA] = False
    publisher.handle(Subscribed(ANNA))
    publisher.post(ANNA, 2)
    assert publisher.received(ANNA) == [-1, 2]


def test_what_waits_keeps_no_batch_of_others(publisher: Publisher) -> None:
    batch = np.zeros((100, 8), np.float32)
    part, most = batch[3:5], batch[:90]
    for number, array in enumerate((part, most), 1):
        publisher.handle(Post(ANNA, Reply(b"%d" % number, [b"", array.data.cast("B")], 64)))
    publisher.handle(Subscribed(ANNA))
    first, second = [frames[1] for _, frames in publisher.sent]
    assert first == bytes(part)
    assert isinstance(first, bytes), "a copy"
    assert isinstance(second, memoryview), "nothing is copied that is most of it"


def test_excuses_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_bounds, "MAX_EXCUSES", 3)
    publisher = blocked(Publisher(most_of_client=1000))
    publisher.post(ANNA, *range(1, 10))
    unblock(publisher)
    assert publisher.received(ANNA) == [1, -7, -8, -9]


def excuses_for(publisher: Publisher, client: bytes, count: int, first: int) -> None:
    """Let a client that takes nothing have excuses only."""
    publisher.post(client, *range(first, first + count))
    publisher.tick(READ_WITHIN)


def test_of_all_excuses_who_has_most_loses_the_oldest() -> None:
    publisher = blocked(blocked(Publisher(most=40_000)), BEN)  # 5,000 for excuses: 19
    excuses_for(publisher, ANNA, 2, first=1)
    excuses_for(publisher, BEN, 17, first=11)
    assert publisher.delivery.waiting_replies == 19
    publisher.post(BEN, 28)
    assert publisher.delivery.waiting_replies == 11
    assert publisher.delivery.forgotten_excuses == 9
    for client in (ANNA, BEN):
        unblock(publisher, client)
    assert publisher.received(ANNA) == [-1, -2]
    assert publisher.received(BEN) == list(range(-20, -29, -1))


def test_excuses_take_no_place_of_replies() -> None:
    """However many clients listen and never read, there is place for who comes later."""
    most = 100_000
    delivery = Delivery(lambda _, request_id: [b"-" + request_id], most, most // 2)
    for number in range(50):
        client = b"client %d" % number
        delivery.handle(Subscribed(client), 0.0)
        delivery.handle(Blocked(client, reply(0)), 0.0)
        for one in range(1, 50):
            delivery.handle(Post(client, reply(one)), 0.0)
    delivery.handle(Tick(), READ_WITHIN)
    delivery.validate()
    assert 0 < delivery.waiting_bytes <= most * outbox_bounds.EXCUSES_SHARE
    delivery.handle(Post(ANNA, reply(1)), READ_WITHIN)
    delivery.handle(Tick(), READ_WITHIN + WAIT_FOR_LISTENER - 1)
    assert delivery.handle(Subscribed(ANNA), READ_WITHIN) == [Send(ANNA, reply(1))]


def test_a_client_without_excuses_any_more_has_its_time_anew() -> None:
    publisher = blocked(Publisher(most=1000))  # no excuse has place
    excuses_for(publisher, ANNA, 2, first=1)
    assert publisher.delivery.waiting_replies == 0
    publisher.post(ANNA, 3)
    publisher.tick(READ_WITHIN - 1)
    unblock(publisher)
    assert publisher.received(ANNA) == [3]


def test_a_reply_for_each_of_many_clients_is_too_much_too() -> None:
    publisher = Publisher(most=10_000, most_of_client=5000)
    clients = [b"client %d" % number for number in range(100)]
    for number, client in enumerate(clients, 1):
        blocked(publisher, client)
        publisher.post(client, number)
        assert publisher.delivery.waiting_bytes <= 10_000
    lost = sum(count for _, count in publisher.stalled)
    assert lost == 100 - (publisher.delivery.waiting_bytes - 4 * EXCUSE_BYTES) // 1000


def test_a_reply_that_is_larger_than_all_bounds_may_wait_alone() -> None:
    publisher = blocked(blocked(Publisher(most=10_000, most_of_client=5000)), BEN)
    publisher.post(ANNA, 1, size=10**9)
    publisher.post(ANNA, 2)
    unblock(publisher)
    assert publisher.received(ANNA) == [1, -2]
    publisher.full[ANNA] = True
    publisher.post(ANNA, 3, size=10**9)
    publisher.post(BEN, 4)
    unblock(publisher)
    unblock(publisher, BEN)
    assert publisher.received(ANNA) == [1, -2, -3]
    assert publisher.received(BEN) == [4]


CLIENTS = st.sampled_from([ANNA, BEN, b"carl"])


class Interleavings(RuleBasedStateMachine):
    """Whatever happens, each reply is sent once and in order, or an excuse for it; or it waits, or
    is lost with its client, or was an excuse too many. What waits stays within its bounds.
    """

    MOST, MOST_OF_CLIENT, LARGEST = 9000, 5000, 20_000

    def __init__(self) -> None:
        super().__init__()
        self.publisher = Publisher(self.MOST, self.MOST_OF_CLIENT)
        self.posted: Dict[bytes, List[int]] = {ANNA: [], BEN: [], b"carl": []}
        self.listeners: Dict[bytes, int] = {ANNA: 0, BEN: 0, b"carl": 0}
        self.count = 0

    @rule(
        client=CLIENTS,
        size=st.integers(1, 4000) | st.integers(1, LARGEST),
        asks_again=st.booleans(),
    )
    def post(self, client: bytes, size: int, asks_again: bool) -> None:
        self.count += 1
        self.posted[client].append(self.count)
        self.publisher.post(client, self.count, size=size, asks_again=asks_again)

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

    @rule(client=CLIENTS)
    def take_one(self, client: bytes) -> None:
        self.publisher.take_one(client)

    @rule(seconds=st.sampled_from([0.0, 1.0, COME_BACK_WITHIN, WAIT_FOR_LISTENER, READ_WITHIN]))
    def tick(self, seconds: float) -> None:
        self.publisher.tick(seconds)

    @invariant()
    def nothing_is_sent_twice_or_out_of_order(self) -> None:
        for client, posted in self.posted.items():
            received = list(map(abs, self.publisher.received(client)))
            assert received == sorted(set(received))
            assert set(received) <= set(posted)

    @invariant()
    def every_reply_is_accounted_for(self) -> None:
        lost = sum(count for _, count in self.publisher.gone)
        sent, delivery = len(self.publisher.sent), self.publisher.delivery
        waiting, forgotten = delivery.waiting_replies, delivery.forgotten_excuses
        assert sent + lost + waiting + forgotten == self.count

    @invariant()
    def an_excuse_is_for_what_was_thrown_away(self) -> None:
        lost = sum(count for _, count in self.publisher.stalled)
        assert sum(int(frames[0]) < 0 for _, frames in self.publisher.sent) <= lost

    @invariant()
    def what_waits_is_within_its_bounds(self) -> None:
        delivery = self.publisher.delivery
        of_excuses = self.MOST * outbox_bounds.EXCUSES_SHARE
        replies = [one for c in delivery._clients.values() for one in c.outbox if not one.is_excuse]
        assert delivery.waiting_bytes - sum(one.size for one in replies) <= of_excuses
        # One that waits alone may be of any size.
        assert delivery.waiting_bytes <= self.MOST or len(replies) == 1
        for client in delivery._clients.values():
            sizes = [one.size for one in client.outbox if not one.is_excuse]
            assert sum(sizes) <= self.MOST_OF_CLIENT or len(sizes) == 1

    @invariant()
    def nothing_waits_for_a_listener_whose_pipe_has_room(self) -> None:
        waiting = self.publisher.delivery.waiting_for_listeners
        assert not waiting or self.publisher.delivery.needs_ticks

    @invariant()
    def only_who_does_not_listen_is_gone(self) -> None:
        listening = sum(1 for count in self.listeners.values() if count)
        assert self.publisher.delivery.listening_clients == listening

    def teardown(self) -> None:
        for client in self.posted:
            self.publisher.full[client] = False
            self.publisher.handle(Subscribed(client))
        self.publisher.tick()
        assert self.publisher.delivery.waiting_replies == 0


Interleavings.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestInterleavings = Interleavings.TestCase
