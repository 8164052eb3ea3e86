from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bert_serving.client.frames import encode_texts
from bert_serving.client.options import Options
from bert_serving.client.protocol import ErrorKind, Request
from bert_serving.server.intake import Accepted
from bert_serving.server.open_requests import LONGEST_WAIT, SHORTEST_WAIT, OpenRequests, Refusal
from bert_serving.server.pooling import Pooling
from bert_serving.server.sizes import Size
from bert_serving.server.stats import Statistics

ME, YOU = b"me", b"you"


def asked(texts: int, client: bytes = ME, number: int = 1, user: Optional[str] = None) -> Request:
    options = Options(user=user) if user else None
    return Request(client, encode_texts(["text"] * texts), number, texts, options)


def accepted(
    handle: int,
    texts: int = 1,
    request_id: Optional[int] = None,
    pooling: Optional[Pooling] = None,
    client: bytes = ME,
    user: Optional[str] = None,
) -> Accepted:
    words = ["text"] * texts
    request = asked(texts, client, handle if request_id is None else request_id, user)
    return Accepted(handle, request, words, False, pooling, False, False, now=10.0)


def make(rows: int = 0, memory: int = 0, reply: int = 0, share: float = 1.0) -> OpenRequests:
    return OpenRequests(Statistics(0.0), Size(rows, memory, reply), share)


def add(
    requests: OpenRequests, handle: int, size: Size, client: bytes = ME, **options: Any
) -> Accepted:
    one = accepted(handle, size.rows, client=client, **options)
    requests.add(one, size)
    return one


def check(requests: OpenRequests, size: Size, rate: float = 1.0, **who: Any) -> None:
    requests.check(asked(size.rows, **who), size, rate)


def refused(requests: OpenRequests, size: Size, rate: float = 1.0, **who: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        check(requests, size, rate, **who)
    return caught.value


def test_what_would_be_lost_in_silence() -> None:
    """Of clients that don't ask again: open requests, and replies that wait for them."""
    requests = make()
    add(requests, 1, Size(1, 0), request_id=7)
    requests.note_waiting(YOU, 2, is_over=False)
    requests.note_waiting(YOU, 3, is_over=False)
    requests.note_waiting(ME, 7, is_over=False)  # it is as good as answered, and counts once
    assert requests.of_protocol_1() == [("me", 7), ("you", 2), ("you", 3)]
    requests.note_waiting(YOU, 2, is_over=True)
    requests.note_waiting(ME, 7, is_over=True)
    assert requests.of_protocol_1() == [("me", 7), ("you", 3)]
    requests.pop(1)
    requests.forget_waiting(YOU)
    requests.forget_waiting(YOU)
    assert requests.of_protocol_1() == []


def test_requests_are_found_until_they_end() -> None:
    requests = make()
    first = add(requests, 1, Size(1, 0), request_id=7)
    assert requests.get(1) is first
    assert 1 in requests
    assert requests.find(b"me", 7) == 1
    assert requests.find(b"you", 7) is None
    assert requests.pop(1) is first
    assert requests.get(1) is None
    assert requests.find(b"me", 7) is None
    assert len(requests) == 0


def test_a_client_may_use_a_number_again() -> None:
    requests = make()
    add(requests, 1, Size(1, 0), request_id=7)
    add(requests, 2, Size(1, 0), request_id=7)
    assert requests.find(b"me", 7) == 2
    requests.pop(1)
    assert requests.find(b"me", 7) == 2
    requests.pop(2)
    assert requests.find(b"me", 7) is None


def test_rows_above_the_bound_are_refused_until_there_is_place() -> None:
    requests = make(rows=10)
    add(requests, 1, Size(8, 0), YOU)
    check(requests, Size(2, 0), 100.0)
    refusal = refused(requests, Size(3, 0), 100.0)
    assert refusal.kind == ErrorKind.OVERLOADED
    assert "8 of at most 10 texts are waiting" in str(refusal)
    assert refusal.retry_after == pytest.approx(0.11)
    requests.pop(1)
    check(requests, Size(10, 0), 100.0)


@pytest.mark.parametrize("which", ["memory", "reply"])
def test_bytes_above_the_bound_are_refused(which: str) -> None:
    requests = make(**{which: 100})
    add(requests, 1, Size(8, 0)._replace(**{which: 50}))
    assert refused(requests, Size(1, 0)._replace(**{which: 60})).kind == ErrorKind.OVERLOADED
    check(requests, Size(1, 0)._replace(**{which: 20}))


def test_what_would_never_find_a_place_is_a_bad_request() -> None:
    refusal = refused(make(rows=10), Size(11, 0))
    assert refusal.kind == ErrorKind.BAD_REQUEST
    assert refusal.retry_after is None
    assert "the request has 11 texts, but the server takes 10" in str(refusal)
    assert "-max_queue_rows" in str(refusal)
    assert "-max_queue_mb" in str(refused(make(memory=10), Size(1, 11)))
    assert "-max_reply_mb" in str(refused(make(reply=10), Size(1, 1, 11)))


def test_one_client_may_take_its_share() -> None:
    requests = make(rows=100, share=0.5)
    add(requests, 1, Size(40, 0))
    refusal = refused(requests, Size(20, 0), 10.0)
    assert refusal.kind == ErrorKind.OVERLOADED
    assert "this client's own requests have 40 of at most 50 texts" in str(refusal)
    assert refusal.retry_after == pytest.approx(6.0)
    check(requests, Size(50, 0), 10.0, client=YOU)
    add(requests, 2, Size(50, 0), YOU)
    assert "90 of at most 100" in str(refused(requests, Size(11, 0), client=b"third"))
    assert refused(requests, Size(51, 0)).kind == ErrorKind.BAD_REQUEST


def test_a_user_of_a_client_may_take_its_share_of_the_client_s() -> None:
    requests = make(rows=100, share=0.5)
    add(requests, 1, Size(20, 0), user="ann")
    refusal = refused(requests, Size(6, 0), 10.0, user="ann")
    assert refusal.kind == ErrorKind.OVERLOADED
    assert "this user's own requests have 20 of at most 25 texts" in str(refusal)
    assert refusal.retry_after == pytest.approx(2.6)
    check(requests, Size(6, 0), user="bob")
    check(requests, Size(6, 0), client=YOU, user="ann")
    add(requests, 2, Size(25, 0), user="bob")
    assert "this client's own requests have 45" in str(refused(requests, Size(6, 0), user="eve"))
    refusal = refused(requests, Size(26, 0), user="eve")
    assert refusal.kind == ErrorKind.BAD_REQUEST
    assert "the server takes 25 of one user at a time" in str(refusal)
    requests.pop(1)
    check(requests, Size(6, 0), user="ann")


def test_a_share_is_never_nothing() -> None:
    check(make(rows=1, share=0.1), Size(1, 0))
    check(make(rows=1, share=0.1), Size(1, 0), user="ann")


def test_a_client_that_has_nothing_open_takes_no_memory() -> None:
    requests = make()
    for handle in (1, 2):
        add(requests, handle, Size(1, 5, 7), request_id=handle, user="ann")
    assert requests.of_client(ME) == [1, 2]
    assert requests.of_client(YOU) == []
    for handle in (1, 2):
        requests.pop(handle)
    assert requests._taken_by == requests._taken_by_user == {}


def test_a_request_may_turn_out_smaller_or_larger() -> None:
    requests = make(memory=100, reply=100)
    add(requests, 1, Size(1, 20, 90))
    requests.settle(1, 200, 30, 1.0)
    assert requests.taken == requests.taken_by(ME) == Size(1, 200, 30)
    assert refused(requests, Size(1, 1, 1)).kind == ErrorKind.OVERLOADED
    requests.pop(1)
    assert requests.taken == Size(0, 0, 0)


def test_a_reply_grows_where_there_is_place() -> None:
    requests = make(memory=100, reply=100, share=0.5)
    add(requests, 1, Size(1, 20, 10))
    add(requests, 2, Size(1, 20, 70), YOU)
    requests.grow(1, 30, 1.0)
    assert requests.taken_by(ME) == Size(1, 20, 30)
    requests.grow(1, 20, 1.0)
    assert requests.taken_by(ME) == Size(1, 20, 30), "that was known before"
    with pytest.raises(Refusal, match="the server is overloaded: 70 of at most 100") as caught:
        requests.grow(1, 31, 1.0)
    assert caught.value.kind == ErrorKind.OVERLOADED
    assert caught.value.retry_after == 2.0, "two rows wait, and one a second is computed"
    assert requests.taken_by(ME) == Size(1, 20, 30)
    with pytest.raises(Refusal, match=r"has 51 bytes .* takes 50 of one client") as caught:
        requests.settle(1, 20, 51, 1.0)
    assert caught.value.kind == ErrorKind.BAD_REQUEST
    assert caught.value.retry_after is None
    requests.pop(2)
    # Memory for texts that is above the bound doesn't keep the reply out.
    requests.settle(1, 200, 50, 1.0)
    assert requests.taken == Size(1, 200, 50)
    add(requests, 3, Size(1, 0, 0), user="ann")
    with pytest.raises(Refusal, match="takes 25 of one user") as caught:
        requests.grow(3, 26, 1.0)
    with pytest.raises(Refusal, match="this client's own requests have 50 of at most 50"):
        requests.grow(3, 25, 1.0)


@pytest.mark.parametrize(
    ("rate", "seconds"), [(0.0, LONGEST_WAIT), (1e9, SHORTEST_WAIT), (20.0, 5.0)]
)
def test_the_hint_follows_the_rate(rate: float, seconds: float) -> None:
    requests = make(rows=100)
    add(requests, 1, Size(99, 0))
    refusal = refused(requests, Size(2, 0), rate)
    assert refusal.retry_after == pytest.approx(seconds, rel=0.02)


MOST, SHARE = Size(20, 2000, 500), 0.5
CLIENTS = (b"a", b"b", b"c")
USERS = ("ann", "bob")


class Books(RuleBasedStateMachine):
    """Whatever comes and goes: the bounds hold, and what is refused wouldn't fit. Requests whose
    texts turn out larger than they were taken for are above the bounds by no more than that;
    those whose replies do end if there is no place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests = make(*MOST, share=SHARE)
        self.inside: Dict[int, Tuple[bytes, Optional[str], Size]] = {}
        self.handle = 0
        self.grown = 0

    def total(self, client: Optional[bytes] = None, user: Optional[str] = None) -> Size:
        sizes = [
            size
            for its_client, its_user, size in self.inside.values()
            if client in (None, its_client) and user in (None, its_user)
        ]
        return Size(*map(sum, zip(*sizes))) if sizes else Size(0, 0, 0)

    def fits(self, client: bytes, user: Optional[str], size: Size) -> bool:
        parties = [(self.total(), 1.0), (self.total(client), SHARE)]
        if user is not None:
            parties.append((self.total(client, user), SHARE * SHARE))
        return all(
            a + b <= most * share
            for taken, share in parties
            for a, b, most in zip(taken, size, MOST)
        )

    @rule(
        client=st.sampled_from(CLIENTS),
        user=st.sampled_from((None,) + USERS),
        rows=st.integers(1, 12),
        memory=st.integers(1, 1200),
        reply=st.integers(0, 300),
    )
    def come(self, client: bytes, user: Optional[str], rows: int, memory: int, reply: int) -> None:
        size = Size(rows, memory, reply)
        if not self.fits(client, user, size):
            refused(self.requests, size, client=client, user=user)
            return
        check(self.requests, size, client=client, user=user)
        self.handle += 1
        add(self.requests, self.handle, size, client, user=user)
        self.inside[self.handle] = client, user, size

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        handle = data.draw(st.sampled_from(sorted(self.inside)))
        self.requests.pop(handle)
        del self.inside[handle]

    def reply_fits(self, handle: int, reply: int) -> bool:
        client, user, size = self.inside[handle]
        parties = [(self.total(), 1.0), (self.total(client), SHARE)]
        if user is not None:
            parties.append((self.total(client, user), SHARE * SHARE))
        return all(
            taken.reply - size.reply + reply <= MOST.reply * share for taken, share in parties
        )

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), reply=st.integers(0, 300))
    def grow(self, data: Any, reply: int) -> None:
        handle = data.draw(st.sampled_from(sorted(self.inside)))
        client, user, size = self.inside[handle]
        if not self.reply_fits(handle, max(reply, size.reply)):
            self.end_refused(handle, lambda: self.requests.grow(handle, reply, 1.0))
            return
        self.inside[handle] = client, user, size._replace(reply=max(reply, size.reply))
        self.requests.grow(handle, reply, 1.0)

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), memory=st.integers(0, 1500), reply=st.integers(0, 300))
    def settle(self, data: Any, memory: int, reply: int) -> None:
        handle = data.draw(st.sampled_from(sorted(self.inside)))
        client, user, size = self.inside[handle]
        if not self.reply_fits(handle, reply):
            self.end_refused(handle, lambda: self.requests.settle(handle, memory, reply, 1.0))
            return
        self.grown += max(0, memory - size.memory)
        self.inside[handle] = client, user, Size(size.rows, memory, reply)
        self.requests.settle(handle, memory, reply, 1.0)

    def end_refused(self, handle: int, change: Callable[[], None]) -> None:
        user = self.inside[handle][1]
        with pytest.raises(Refusal) as caught:
            change()
        share = SHARE if user is None else SHARE * SHARE
        is_for_ever = caught.value.kind == ErrorKind.BAD_REQUEST
        reply = int(str(caught.value).split("has ")[1].split()[0]) if is_for_ever else 0
        assert (reply > MOST.reply * share) == is_for_ever
        self.requests.pop(handle)
        del self.inside[handle]

    @invariant()
    def the_books_are_kept(self) -> None:
        assert self.requests.taken == self.total()
        assert len(self.requests) == len(self.inside)
        most = MOST._replace(memory=MOST.memory + self.grown)
        assert all(taken <= bound for taken, bound in zip(self.requests.taken, most))
        for client in CLIENTS:
            own = self.requests.taken_by(client)
            assert own == self.total(client)
            assert own.rows <= MOST.rows * SHARE
            assert own.reply <= MOST.reply * SHARE
            for user in USERS:
                own = self.requests.taken_by_user(client, user)
                assert own == self.total(client, user)
                assert own.rows <= MOST.rows * SHARE * SHARE
                assert own.reply <= MOST.reply * SHARE * SHARE

    def teardown(self) -> None:
        for handle in self.inside:
            self.requests.pop(handle)
        assert self.requests.taken == Size(0, 0, 0)
        assert self.requests._taken_by == self.requests._taken_by_user == {}


TestBooks = Books.TestCase


def test_stages_are_counted_once_a_request() -> None:
    statistics = Statistics(0.0)
    requests = OpenRequests(statistics, Size(0, 0))
    pooling = Pooling("CLS_TOKEN", (1,), False)
    add(requests, 1, Size(1, 0))
    add(requests, 2, Size(1, 0), pooling=pooling)
    assert requests.note_sent([1], 11.0) == {}
    assert requests.note_sent([1, 2], 13.0) == {2: pooling}
    requests.note_completed(requests.pop(1), 14.0)
    histograms = statistics.report(15.0)["histograms"]
    sums = {name: (one["count"], one["sum"]) for name, one in histograms.items()}
    assert sums["stage_queue_seconds"] == (2, 1.0 + 3.0)
    assert sums["stage_compute_seconds"] == (1, 3.0)
    assert sums["stage_total_seconds"] == (1, 4.0)
    assert statistics.rows_per_second(14.0) > 0
