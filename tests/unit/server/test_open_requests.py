from __future__ import annotations

from typing import Any, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client.frames import encode_texts
from bert_serving.client.protocol import ErrorKind, Request
from bert_serving.server.intake import Accepted
from bert_serving.server.open_requests import LONGEST_WAIT, SHORTEST_WAIT, OpenRequests, Refusal
from bert_serving.server.pooling import Pooling
from bert_serving.server.stats import Statistics


def accepted(
    handle: int, texts: int = 1, request_id: Optional[int] = None, pooling: Optional[Pooling] = None
) -> Accepted:
    words = ["text"] * texts
    number = handle if request_id is None else request_id
    request = Request(b"me", encode_texts(words), number, texts)
    return Accepted(handle, request, words, False, pooling, False, False, now=10.0)


def make(max_rows: int = 0, max_bytes: int = 0) -> OpenRequests:
    return OpenRequests(Statistics(0.0), max_rows, max_bytes)


def refused(requests: OpenRequests, *size: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        requests.check(*size)
    return caught.value


def test_requests_are_found_until_they_end() -> None:
    requests = make()
    first = accepted(1, request_id=7)
    requests.add(first)
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
    requests.add(accepted(1, request_id=7))
    requests.add(accepted(2, request_id=7))
    assert requests.find(b"me", 7) == 2
    requests.pop(1)
    assert requests.find(b"me", 7) == 2
    requests.pop(2)
    assert requests.find(b"me", 7) is None


def test_rows_above_the_bound_are_refused_until_there_is_place() -> None:
    requests = make(max_rows=10)
    requests.add(accepted(1, 8))
    requests.check(2, 0, 100.0)
    refusal = refused(requests, 3, 0, 100.0)
    assert refusal.kind == ErrorKind.OVERLOADED
    assert "8 of at most 10 texts are waiting" in str(refusal)
    assert refusal.retry_after == pytest.approx(0.11)
    requests.pop(1)
    requests.check(10, 0, 100.0)


def test_bytes_above_the_bound_are_refused() -> None:
    requests = make(max_bytes=100)
    requests.add(accepted(1, 8))
    assert refused(requests, 1, 60, 1.0).kind == ErrorKind.OVERLOADED
    requests.check(1, 20, 1.0)


def test_what_would_never_find_a_place_is_a_bad_request() -> None:
    refusal = refused(make(max_rows=10), 11, 0, 1.0)
    assert refusal.kind == ErrorKind.BAD_REQUEST
    assert refusal.retry_after is None
    assert "the request has 11 texts, but the server takes 10" in str(refusal)
    assert "-max_queue_rows" in str(refusal)
    assert "-max_queue_mb" in str(refused(make(max_bytes=10), 1, 11, 1.0))


@pytest.mark.parametrize(
    ("rate", "seconds"), [(0.0, LONGEST_WAIT), (1e9, SHORTEST_WAIT), (20.0, 5.0)]
)
def test_the_hint_follows_the_rate(rate: float, seconds: float) -> None:
    requests = make(max_rows=100)
    requests.add(accepted(1, 99))
    assert refused(requests, 2, 0, rate).retry_after == pytest.approx(seconds, rel=0.02)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=30))
def test_the_books_are_kept(steps: Any) -> None:
    requests = make(max_rows=20)
    inside: List[int] = []
    sizes = {}
    for handle, (rows, is_end) in enumerate(steps, 1):
        if is_end and inside:
            requests.pop(inside.pop(0))
        fits = sum(sizes[one] for one in inside) + rows <= 20
        if fits:
            requests.check(rows, 0, 1.0)
            requests.add(accepted(handle, rows))
            inside.append(handle)
            sizes[handle] = rows
        else:
            refused(requests, rows, 0, 1.0)
        assert requests.rows == sum(sizes[one] for one in inside) <= 20
        assert len(requests) == len(inside)


def test_stages_are_counted_once_a_request() -> None:
    statistics = Statistics(0.0)
    requests = OpenRequests(statistics, 0, 0)
    pooling = Pooling("CLS_TOKEN", (1,), False)
    requests.add(accepted(1))
    requests.add(accepted(2, pooling=pooling))
    assert requests.note_sent([1], 11.0) == {}
    assert requests.note_sent([1, 2], 13.0) == {2: pooling}
    requests.note_completed(requests.pop(1), 14.0)
    histograms = statistics.report(15.0)["histograms"]
    sums = {name: (one["count"], one["sum"]) for name, one in histograms.items()}
    assert sums["stage_queue_seconds"] == (2, 1.0 + 3.0)
    assert sums["stage_compute_seconds"] == (1, 3.0)
    assert sums["stage_total_seconds"] == (1, 4.0)
    assert statistics.rows_per_second(14.0) > 0
