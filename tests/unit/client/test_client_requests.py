from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bert_serving.client import ModelChanged, ProtocolError, requests
from bert_serving.client.calls import Call, command
from bert_serving.client.options import NO_OPTIONS, Options
from bert_serving.client.protocol import (
    CANCEL,
    Details,
    ErrorKind,
    ErrorReply,
    Part,
    Request,
    VectorsReply,
)
from bert_serving.client.requests import Inbox, RequestLedger

CALL = command(b"SHOW_CONFIG")


class Ledger(RequestLedger):
    """With less to say."""

    def __init__(self) -> None:
        super().__init__(b"me")

    def ask(self, inbox: Inbox, call: Call = CALL, deadline: Optional[float] = None) -> int:
        return self.open(inbox, call, deadline).request_id

    def first(self, inbox: Inbox) -> Tuple[int, Any]:
        return self.take(inbox)[:2]

    def all(self, inbox: Inbox) -> List[Tuple[int, Any]]:
        return [taken[:2] for taken in self.take_all(inbox)]


def test_all() -> None:
    assert requests.__all__ == ["Inbox", "RequestLedger", "Taken"]


def test_ids_count_from_one() -> None:
    ledger, inbox = Ledger(), Inbox()
    assert [ledger.ask(inbox), ledger.ask(inbox)] == [1, 2]
    assert ledger.last_id == 2
    assert ledger.pending == {1, 2}


def test_reply_goes_to_its_asker_whatever_the_order() -> None:
    ledger, mine, yours = Ledger(), Inbox(), Inbox()
    first, second, third = ledger.ask(mine), ledger.ask(yours), ledger.ask(mine)
    assert ledger.deliver(third, "c")
    assert ledger.deliver(second, "b")
    assert ledger.deliver(first, "a")
    assert ledger.first(mine) == (third, "c")
    assert ledger.all(yours) == [(second, "b")]
    assert ledger.all(mine) == [(first, "a")]
    assert ledger.pending == set()


def test_arrived_reply_is_pending_until_taken() -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox)
    ledger.deliver(1, "a")
    assert ledger.pending == {1}
    assert not inbox.outstanding
    assert len(inbox) == 1


def test_unknown_duplicate_and_late_replies_are_dropped() -> None:
    ledger, inbox, forgotten = Ledger(), Inbox(), Inbox()
    one, two = ledger.ask(inbox), ledger.ask(forgotten)
    ledger.deliver(one, "a")
    ledger.forget(forgotten)
    assert not ledger.deliver(99, "unknown")
    assert not ledger.deliver(one, "arrived already")
    assert not ledger.deliver(two, "late")
    assert ledger.all(inbox) == [(one, "a")]
    assert not ledger.deliver(one, "taken already")
    assert ledger.dropped == 4


def test_cancelled_request_is_not_pending() -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.cancel(ledger.ask(inbox))
    assert ledger.pending == set()
    assert len(inbox) == 0
    assert ledger.ask(inbox) == 2


def test_heir_gets_arrived_and_outstanding() -> None:
    ledger, inbox, heir = Ledger(), Inbox(), Inbox()
    ledger.ask(inbox)
    ledger.ask(inbox)
    ledger.deliver(2, "b")
    ledger.hand_over(inbox, heir)
    ledger.deliver(1, "a")
    assert len(inbox) == 0
    assert ledger.all(heir) == [(2, "b"), (1, "a")]


def test_what_is_sent() -> None:
    ledger, inbox = Ledger(), Inbox()
    request = ledger.open(inbox, Call(b'["a"]', 1, NO_OPTIONS))
    assert request == Request(b"me", b'["a"]', 1, 1, NO_OPTIONS)
    ledger.deliver(1, "a")
    assert ledger.take(inbox).call.payload == b'["a"]'


def test_what_is_not_answered_is_sent_again() -> None:
    ledger, inbox = Ledger(), Inbox()
    old, new = Call(b'["old"]', 1), Call(b'["new"]', 1, Options(timeout=9.0))
    for call, deadline in ((CALL, None), (old, 5.0), (new, 5.0), (new, None), (old, 0.5)):
        ledger.ask(inbox, call, deadline)
    ledger.deliver(1, "answered")
    again = list(ledger.open_again(now=1.0))
    # A 1.10 server mixes up two requests with one id.
    assert [request.request_id for request in again] == [6, 3, 4]
    assert again[0].options is None
    assert again[1].options == Options(timeout=4.0, again=True)
    assert again[2].options == Options(timeout=9.0, again=True)
    assert [request.payload for request in again] == [b'["old"]', b'["new"]', b'["new"]']
    assert ledger.first(inbox) == (1, "answered")
    request_id, reply = ledger.first(inbox)
    assert request_id == 5
    assert isinstance(reply, ErrorReply)
    assert reply.kind == ErrorKind.DEADLINE


@pytest.mark.parametrize("answered", [1, 2, 3])
def test_a_1_10_server_may_answer_any_of_the_repeats(answered: int) -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox, CALL)
    for repeat in (2, 3):
        assert [request.request_id for request in ledger.open_again(0.0)] == [repeat]
    assert ledger.deliver(answered, "an answer")
    assert ledger.first(inbox) == (1, "an answer")
    for late in {1, 2, 3} - {answered}:
        assert not ledger.deliver(late, "too late")
    assert ledger.pending == set()


def test_what_is_forgotten_is_cancelled_at_a_server_that_can() -> None:
    ledger, inbox = Ledger(), Inbox()
    new = Call(b'["new"]', 1, NO_OPTIONS)
    for call in (CALL, Call(b'["old"]', 1), new, new):
        ledger.ask(inbox, call)
    ledger.deliver(3, "answered")
    assert ledger.forget(inbox) == [Request(b"me", CANCEL, 4)]
    assert ledger.forget(inbox) == []
    assert list(ledger.open_again(0.0)) == []


# ---------------------------------------------------------------------------------- streams

STREAM = Call(b'["a","b","c","d"]', 4, Options(stream=True), is_stream=True)


def part_reply(rows: List[int], is_last: bool = False, model: Optional[str] = None) -> VectorsReply:
    details = Details(model=model)
    return VectorsReply(1, np.array(rows, np.float32)[:, None], "", details, Part(rows, is_last))


def taken_rows(ledger: RequestLedger, inbox: Inbox) -> List[Tuple[List[int], bool]]:
    found = []
    while inbox.has_some:
        taken = ledger.take(inbox)
        assert taken.reply.array[:, 0].tolist() == taken.reply.part.rows
        found.append((taken.reply.part.rows, taken.is_last))
    return found


def test_parts_of_a_stream() -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox, STREAM)
    assert ledger.deliver(1, part_reply([1, 0]))
    assert inbox.outstanding == {1}
    assert taken_rows(ledger, inbox) == [([1, 0], False)]
    assert ledger.deliver(1, part_reply([2]))
    assert ledger.deliver(1, part_reply([3], is_last=True))
    assert not inbox.outstanding
    assert taken_rows(ledger, inbox) == [([2], False), ([3], True)]
    assert ledger.pending == set()
    assert not ledger.deliver(1, part_reply([3]))


def test_rows_that_come_twice_are_given_once() -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox, STREAM)
    ledger.deliver(1, part_reply([0, 1]))
    (again,) = ledger.open_again(0.0)
    assert again.options == Options(stream=True, again=True)
    assert not ledger.deliver(1, part_reply([1, 0]))
    assert ledger.deliver(1, part_reply([1, 3, 0, 2]))
    assert ledger.deliver(1, part_reply([], is_last=True))
    assert taken_rows(ledger, inbox) == [([0, 1], False), ([3, 2], False), ([], True)]


def test_a_stream_whose_parts_got_lost_is_asked_for_again() -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox, STREAM)
    ledger.deliver(1, part_reply([0]))
    assert len(list(ledger.open_again(0.0))) == 1
    assert ledger.deliver(1, part_reply([2, 3], is_last=True))
    (again,) = ledger.complete(0.0)
    assert again.request_id == 1
    assert list(ledger.complete(0.0)) == []
    assert ledger.deliver(1, part_reply([0, 1]))
    assert ledger.deliver(1, part_reply([2, 3], is_last=True))
    assert taken_rows(ledger, inbox) == [([0], False), ([2, 3], False), ([1], False), ([], True)]


def test_a_stream_that_lacks_rows_fails() -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox, STREAM)
    ledger.deliver(1, part_reply([0, 1, 2], is_last=True))
    assert isinstance(ledger.take(inbox).reply, ProtocolError)
    ledger.ask(inbox, STREAM)
    ledger.deliver(2, part_reply([4]))
    assert isinstance(ledger.take(inbox).reply, ProtocolError)


def test_an_incomplete_stream_that_nobody_waits_for() -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox, STREAM)
    list(ledger.open_again(0.0))
    ledger.deliver(1, part_reply([0], is_last=True))
    ledger.forget(inbox)
    assert list(ledger.complete(0.0)) == []


@pytest.mark.parametrize("is_last", [False, True])
def test_a_stream_ends_where_another_model_begins(is_last: bool) -> None:
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox, STREAM)
    ledger.deliver(1, part_reply([0, 1], model="old"))
    assert len(list(ledger.open_again(0.0))) == 1
    assert ledger.deliver(1, part_reply([0, 1, 2, 3], is_last, model="new"))
    # What the server has not computed isn't wanted any more.
    assert list(ledger.complete(0.0)) == [Request(b"me", CANCEL, 1)] * (not is_last)
    assert list(ledger.complete(0.0)) == []
    assert ledger.take(inbox).reply.part.rows == [0, 1]
    taken = ledger.take(inbox)
    assert isinstance(taken.reply, ModelChanged)
    assert taken.is_last
    assert ledger.pending == set()
    assert not ledger.deliver(1, part_reply([2, 3], True, model="old"))


@given(
    st.lists(
        st.none() | st.tuples(st.lists(st.integers(0, 3), unique=True), st.sampled_from("ab")),
        max_size=12,
    )
)
def test_no_stream_has_rows_of_two_models(events: List[Any]) -> None:
    """An event is a part, its rows and its model, or None: the connection was lost and is back."""
    ledger, inbox = Ledger(), Inbox()
    ledger.ask(inbox, STREAM)
    for event in events:
        if event is None:
            assert len(list(ledger.open_again(0.0))) == len(inbox.outstanding)
        else:
            ledger.deliver(1, part_reply(event[0], model=event[1]))
    models = [event[1] for event in events if event is not None]
    replies = []
    while inbox.has_some:
        replies.append(ledger.take(inbox).reply)
    is_mixed = len(set(models)) > 1
    assert [type(reply) for reply in replies[len(replies) - is_mixed :]] == [
        ModelChanged
    ] * is_mixed
    parts = replies[: len(replies) - is_mixed]
    assert {reply.details.model for reply in parts} <= set(models[:1])
    rows = [row for reply in parts for row in reply.part.rows]
    assert len(rows) == len(set(rows))
    cancelled = [request.request_id for request in ledger.complete(0.0)]
    assert cancelled == [1] * is_mixed


class Interleavings(RuleBasedStateMachine):
    """Against a model: a request's asker is a number, its reply is its id."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.inboxes = [Inbox() for _ in range(3)]
        self.asker_of: Dict[int, int] = {}
        self.under_way: List[int] = []
        self.arrived: List[int] = []
        self.dropped = 0

    askers = st.integers(0, 2)

    @rule(asker=askers)
    def open(self, asker: int) -> None:
        request_id = self.ledger.ask(self.inboxes[asker])
        assert request_id not in self.asker_of
        self.asker_of[request_id] = asker
        self.under_way.append(request_id)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def deliver(self, data: Any) -> None:
        request_id = data.draw(st.sampled_from(self.under_way))
        assert self.ledger.deliver(request_id, str(request_id))
        self.under_way.remove(request_id)
        self.arrived.append(request_id)

    @rule(request_id=st.integers(-1, 30))
    def deliver_what_nobody_waits_for(self, request_id: int) -> None:
        if request_id not in self.under_way:
            assert not self.ledger.deliver(request_id, "wrong")
            self.dropped += 1

    @precondition(lambda self: self.arrived)
    @rule(data=st.data())
    def take(self, data: Any) -> None:
        asker = self.asker_of[data.draw(st.sampled_from(self.arrived))]
        first = next(one for one in self.arrived if self.asker_of[one] == asker)
        assert self.ledger.first(self.inboxes[asker]) == (first, str(first))
        self.arrived.remove(first)

    @rule(asker=askers)
    def take_all(self, asker: int) -> None:
        mine = [one for one in self.arrived if self.asker_of[one] == asker]
        assert self.ledger.all(self.inboxes[asker]) == [(one, str(one)) for one in mine]
        self.arrived = [one for one in self.arrived if one not in mine]

    @rule(asker=askers)
    def forget(self, asker: int) -> None:
        self.ledger.forget(self.inboxes[asker])
        for requests_ in (self.under_way, self.arrived):
            requests_[:] = [one for one in requests_ if self.asker_of[one] != asker]

    @rule(asker=askers, heir=askers)
    def hand_over(self, asker: int, heir: int) -> None:
        if asker == heir:
            return
        self.ledger.hand_over(self.inboxes[asker], self.inboxes[heir])
        mine = [one for one in self.arrived if self.asker_of[one] == asker]
        # What the heir had already comes first.
        self.arrived = [one for one in self.arrived if one not in mine] + mine
        for request_id in self.under_way + mine:
            if self.asker_of[request_id] == asker:
                self.asker_of[request_id] = heir

    @invariant()
    def agrees(self) -> None:
        assert self.ledger.pending == set(self.under_way) | set(self.arrived)
        assert self.ledger.dropped == self.dropped
        for asker, inbox in enumerate(self.inboxes):
            assert inbox.outstanding == {o for o in self.under_way if self.asker_of[o] == asker}
            assert list(inbox.arrived) == [o for o in self.arrived if self.asker_of[o] == asker]


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
