from __future__ import annotations

from typing import Any, Dict, List

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bert_serving.client import requests
from bert_serving.client.requests import Inbox, RequestLedger


def test_all() -> None:
    assert requests.__all__ == ["Inbox", "RequestLedger"]


def test_ids_count_from_one() -> None:
    ledger, inbox = RequestLedger(), Inbox()
    assert [ledger.open(inbox), ledger.open(inbox)] == [1, 2]
    assert ledger.last_id == 2
    assert ledger.pending == {1, 2}


def test_reply_goes_to_its_asker_whatever_the_order() -> None:
    ledger, mine, yours = RequestLedger(), Inbox(), Inbox()
    first, second, third = ledger.open(mine), ledger.open(yours), ledger.open(mine)
    assert ledger.deliver(third, "c")
    assert ledger.deliver(second, "b")
    assert ledger.deliver(first, "a")
    assert ledger.take(mine) == (third, "c")
    assert ledger.take_all(yours) == [(second, "b")]
    assert ledger.take_all(mine) == [(first, "a")]
    assert ledger.pending == set()


def test_arrived_reply_is_pending_until_taken() -> None:
    ledger, inbox = RequestLedger(), Inbox()
    ledger.open(inbox)
    ledger.deliver(1, "a")
    assert ledger.pending == {1}
    assert not inbox.outstanding
    assert len(inbox) == 1


def test_unknown_duplicate_and_late_replies_are_dropped() -> None:
    ledger, inbox, forgotten = RequestLedger(), Inbox(), Inbox()
    one, two = ledger.open(inbox), ledger.open(forgotten)
    ledger.deliver(one, "a")
    ledger.forget(forgotten)
    assert not ledger.deliver(99, "unknown")
    assert not ledger.deliver(one, "arrived already")
    assert not ledger.deliver(two, "late")
    assert ledger.take_all(inbox) == [(one, "a")]
    assert not ledger.deliver(one, "taken already")
    assert ledger.dropped == 4


def test_cancelled_request_is_not_pending() -> None:
    ledger, inbox = RequestLedger(), Inbox()
    ledger.cancel(ledger.open(inbox))
    assert ledger.pending == set()
    assert len(inbox) == 0
    assert ledger.open(inbox) == 2


def test_heir_gets_arrived_and_outstanding() -> None:
    ledger, inbox, heir = RequestLedger(), Inbox(), Inbox()
    ledger.open(inbox)
    ledger.open(inbox)
    ledger.deliver(2, "b")
    ledger.hand_over(inbox, heir)
    ledger.deliver(1, "a")
    assert len(inbox) == 0
    assert ledger.take_all(heir) == [(2, "b"), (1, "a")]


class Interleavings(RuleBasedStateMachine):
    """Against a model: a request's asker is a number, its reply is its id."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = RequestLedger()
        self.inboxes = [Inbox() for _ in range(3)]
        self.asker_of: Dict[int, int] = {}
        self.under_way: List[int] = []
        self.arrived: List[int] = []
        self.dropped = 0

    askers = st.integers(0, 2)

    @rule(asker=askers)
    def open(self, asker: int) -> None:
        request_id = self.ledger.open(self.inboxes[asker])
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
        assert self.ledger.take(self.inboxes[asker]) == (first, str(first))
        self.arrived.remove(first)

    @rule(asker=askers)
    def take_all(self, asker: int) -> None:
        mine = [one for one in self.arrived if self.asker_of[one] == asker]
        assert self.ledger.take_all(self.inboxes[asker]) == [(one, str(one)) for one in mine]
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
