from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client.protocol import ErrorKind
from bert_serving.server.assembly import Assembly, Complete
from bert_serving.server.batch_messages import Part
from bert_serving.server.reply_plan import ReplyPlan
from bert_serving.server.request_messages import (
    Announced,
    Dropped,
    Registered,
    RequestFailed,
    RowLost,
)

DIMENSION = 3
NOW = 100.0
MODEL = "0123456789abcdef"
Place = Tuple[int, int]


def vector(handle: int, index: int, position: int = 0) -> List[float]:
    return [float(handle), float(index), float(position + 1)]


def length_of(handle: int, index: int) -> int:
    return 1 + (handle * 7 + index * 3) % 5


def part(places: Sequence[Place], per_token: bool = False, began: float = 0.0) -> Part:
    """What a worker sends for these rows, in this order."""
    lengths = [length_of(*place) for place in places]
    vectors = []
    for place, length in zip(places, lengths):
        vectors += [vector(*place, position=i) for i in range(length if per_token else 1)]
    return Part(
        np.array([handle for handle, _ in places], np.int64),
        np.array([index for _, index in places], np.int32),
        np.array(lengths, np.int32),
        np.array(vectors, np.float32).reshape(-1, DIMENSION),
        per_token,
        began,
    )


def registered(handle: int, rows: int, padded_length: int = 6) -> Registered:
    return Registered(handle, b"client %d" % handle, handle + 100, rows, padded_length)


def failed(handle: Optional[int]) -> RequestFailed:
    return RequestFailed(handle, b"client", 7, ErrorKind.DEADLINE, "too late")


def expected_array(handle: int, rows: int, padded_length: Optional[int]) -> np.ndarray:
    if padded_length is None:
        return np.array([vector(handle, index) for index in range(rows)], np.float32)
    array = np.zeros((rows, padded_length, DIMENSION), np.float32)
    for index in range(rows):
        for position in range(length_of(handle, index)):
            array[index, position] = vector(handle, index, position)
    return array


@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    per_token=st.booleans(),
    data=st.data(),
)
def test_parts_in_any_order_make_each_request_complete_once(
    sizes: List[int], per_token: bool, data: Any
) -> None:
    places = [(handle, index) for handle, rows in enumerate(sizes, 1) for index in range(rows)]
    twice = data.draw(st.lists(st.sampled_from(places), max_size=6))
    events: List[Any] = [registered(handle, rows) for handle, rows in enumerate(sizes, 1)]
    rest = data.draw(st.permutations(places)) + twice
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        # A row is at most once in a batch, and a batch is ordered by request and index.
        events.append(part(sorted(set(rest[:size])), per_token))
        rest = rest[size:]
    target = Assembly()
    outcomes: Dict[bytes, Complete] = {}
    for event in data.draw(st.permutations(events)):
        for outcome in target.handle(event, NOW):
            assert isinstance(outcome, Complete)
            assert outcome.client not in outcomes
            outcomes[outcome.client] = outcome
    assert len(outcomes) == len(sizes)
    for handle, rows in enumerate(sizes, 1):
        outcome = outcomes[b"client %d" % handle]
        assert outcome.request_id == handle + 100
        expected = expected_array(handle, rows, 6 if per_token else None)
        np.testing.assert_array_equal(outcome.array, expected)
        assert outcome.array.dtype == np.float32
    assert target.open_requests == 0
    assert target.ended_requests == len(sizes)


def test_token_vectors_are_padded_with_zeros() -> None:
    target = Assembly()
    target.handle(registered(1, 2, padded_length=9), NOW)
    (outcome,) = target.handle(part([(1, 0), (1, 1)], per_token=True), NOW)
    assert isinstance(outcome, Complete)
    assert outcome.array.shape == (2, 9, DIMENSION)
    for index in range(2):
        length = length_of(1, index)
        assert (outcome.array[index, :length] != 0).any(axis=-1).all()
        assert not outcome.array[index, length:].any()


def test_a_part_that_is_the_whole_request_is_not_copied() -> None:
    target = Assembly()
    target.handle(registered(1, 3), NOW)
    whole = part([(1, 0), (1, 1), (1, 2)])
    (outcome,) = target.handle(whole, NOW)
    assert isinstance(outcome, Complete)
    assert np.shares_memory(outcome.array, whole.vectors)


def test_each_request_of_a_shared_batch_is_a_view_of_it() -> None:
    target = Assembly()
    target.handle(registered(1, 2), NOW)
    target.handle(registered(2, 1), NOW)
    shared = part([(1, 0), (1, 1), (2, 0)])
    first, second = target.handle(shared, NOW)
    assert isinstance(first, Complete)
    assert isinstance(second, Complete)
    assert np.shares_memory(first.array, shared.vectors)
    assert np.shares_memory(second.array, shared.vectors)
    np.testing.assert_array_equal(second.array, expected_array(2, 1, None))


def test_parts_before_registration_wait_for_it() -> None:
    target = Assembly()
    assert target.handle(part([(1, 1)]), NOW) == []
    assert target.handle(part([(1, 0)]), NOW) == []
    assert target.open_requests == 1
    (outcome,) = target.handle(registered(1, 2), NOW)
    assert isinstance(outcome, Complete)
    np.testing.assert_array_equal(outcome.array, expected_array(1, 2, None))


def test_tokens_are_handed_on() -> None:
    target = Assembly()
    target.handle(Registered(1, b"client", 5, 1, 6, b'[["a"]]'), NOW)
    (outcome,) = target.handle(part([(1, 0)]), NOW)
    assert isinstance(outcome, Complete)
    assert outcome.tokens == b'[["a"]]'


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_is_that_of_the_parts(dtype: Any) -> None:
    target = Assembly()
    target.handle(registered(1, 2), NOW)
    outcomes = []
    for index in range(2):
        one = part([(1, index)])
        vectors = one.vectors.astype(dtype)
        outcomes += target.handle(Part(one.handles, one.indices, one.lengths, vectors, False), NOW)
    (outcome,) = outcomes
    assert isinstance(outcome, Complete)
    assert outcome.array.dtype == dtype


def test_an_error_is_passed_on_and_late_parts_are_ignored() -> None:
    target = Assembly()
    target.handle(registered(1, 2), NOW)
    target.handle(part([(1, 0)]), NOW)
    assert target.handle(failed(1), NOW) == [failed(1)]
    assert target.handle(part([(1, 1)]), NOW) == []
    assert target.handle(registered(1, 2), NOW) == []
    assert target.handle(failed(1), NOW) == []
    assert target.open_requests == 0
    assert target.ended_requests == 1


def test_an_error_may_come_before_anything_else() -> None:
    target = Assembly()
    assert target.handle(failed(1), NOW) == [failed(1)]
    assert target.handle(registered(1, 1), NOW) == []
    assert target.handle(part([(1, 0)]), NOW) == []
    assert target.open_requests == 0


def test_errors_of_requests_that_were_never_accepted_are_all_passed_on() -> None:
    target = Assembly()
    assert target.handle(failed(None), NOW) == [failed(None)]
    assert target.handle(failed(None), NOW) == [failed(None)]
    assert target.ended_requests == 0


def test_a_row_that_was_given_up_and_comes_after_all_has_not_failed() -> None:
    target = Assembly()
    plan = ReplyPlan(False, False, 1, NOW, NOW)
    target.handle(Registered(1, b"client", 11, 3, 0, plan=plan), NOW)
    assert target.handle(part([(1, 0)]), NOW) == []
    for row in (1, 2):
        outcomes = target.handle(RowLost(1, row, "it kills workers"), NOW)
        if row == 1:
            assert outcomes == []
            assert target.handle(part([(1, 1)]), NOW) == []
    (outcome,) = outcomes
    assert isinstance(outcome, Complete)
    assert outcome.details is not None
    assert outcome.details.failed == {2: "it kills workers"}
    np.testing.assert_array_equal(outcome.array[:2], expected_array(1, 3, None)[:2])
    assert not outcome.array[2].any()


def test_which_requests_would_be_lost_in_silence() -> None:
    """Those of protocol 1, from their announcement to their end, whatever comes first."""
    target = Assembly()
    for handle in (1, 2, 3):
        target.handle(part([(handle, 0)]), NOW)
        assert target.handle(Announced(handle, b"client", 10 + handle), NOW) == []
    assert target.of_protocol_1() == [("client", 11), ("client", 12), ("client", 13)]
    target.handle(Registered(1, b"client", 11, 2, 25), NOW)
    target.handle(failed(2), NOW)
    assert target.of_protocol_1() == [("client", 11), ("client", 13)]
    (outcome,) = target.handle(part([(1, 1)]), NOW)
    assert not outcome.asks_again
    target.handle(Dropped(3), NOW)
    assert target.of_protocol_1() == []


def test_a_dropped_request_gives_no_reply() -> None:
    target = Assembly()
    target.handle(registered(1, 2), NOW)
    target.handle(part([(1, 0)]), NOW)
    assert target.handle(Dropped(1), NOW) == []
    assert target.handle(part([(1, 1)]), NOW) == []
    assert target.open_requests == 0
    assert target.ended_requests == 1


def test_a_batch_that_ran_again_after_its_request_completed_is_ignored() -> None:
    target = Assembly()
    target.handle(registered(1, 1), NOW)
    assert len(target.handle(part([(1, 0)]), NOW)) == 1
    assert target.handle(part([(1, 0)]), NOW) == []
    assert target.ended_requests == 1


def test_what_comes_after_any_number_of_others_is_known_as_late() -> None:
    """Its worker was slow, and meanwhile its client took it back and others were quick."""
    target = Assembly()
    target.handle(registered(1, 2), NOW)
    target.handle(Dropped(1), NOW)
    for handle in range(2, 20_002):
        target.handle(failed(handle), NOW)
    assert target.handle(part([(1, 0)]), NOW) == []
    for late in (Announced(1, b"client", 7), registered(1, 2), RowLost(1, 1, "lost")):
        assert target.handle(late, NOW) == []
        assert target.open_requests == 0
    assert target.handle(failed(1), NOW) == []
    assert target.ended_requests == 20_001


def test_what_comes_early_waits_though_later_requests_have_ended() -> None:
    target = Assembly()
    for handle in (2, 4, 5):
        target.handle(failed(handle), NOW)
    assert target.handle(part([(1, 0), (3, 0)]), NOW) == []
    assert target.open_requests == 2
    for handle in (3, 1):
        (outcome,) = target.handle(registered(handle, 1), NOW)
        assert isinstance(outcome, Complete)
        np.testing.assert_array_equal(outcome.array, expected_array(handle, 1, None))
    assert target.open_requests == 0
    assert target.ended_requests == 5


# ------------------------------------------------------------------------------- protocol 2


def plan(stream: bool = False, half: bool = False, truncated: Tuple[int, ...] = ()) -> ReplyPlan:
    return ReplyPlan(stream, half, 17, NOW, NOW + 1, MODEL.encode("ascii"), truncated)


def planned(handle: int, rows: int, plan: ReplyPlan, **texts: bytes) -> Registered:
    return Registered(handle, b"client %d" % handle, 7, rows, 6, plan=plan, **texts)


def test_details_tell_of_tokens_cuts_and_times() -> None:
    target = Assembly()
    target.handle(part([(1, 1)], began=NOW + 3), NOW + 4)
    target.handle(planned(1, 2, plan(truncated=(0,)), offsets=b"[[[0,1]],[]]"), NOW + 4)
    (outcome,) = target.handle(part([(1, 0)], began=NOW + 2), NOW + 8)
    assert isinstance(outcome, Complete)
    assert outcome.part is None
    assert outcome.offsets == b"[[[0,1]],[]]"
    details = outcome.details
    assert details is not None
    assert (details.num_tokens, details.truncated, details.model) == (17, (0,), MODEL)
    # The batch that came last was begun first.
    assert details.timings == (1, 2, 6, 8)


def test_protocol_1_has_no_details() -> None:
    target = Assembly()
    target.handle(registered(1, 1), NOW)
    (outcome,) = target.handle(part([(1, 0)]), NOW)
    assert isinstance(outcome, Complete)
    assert outcome.details is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_half_precision(stream: bool, per_token: bool, whole: bool) -> None:
    target = Assembly()
    target.handle(planned(1, 2, plan(stream, half=True)), NOW)
    places = [(1, 0), (1, 1)]
    parts = [places] if whole else [[place] for place in places]
    outcomes = [o for one in parts for o in target.handle(part(one, per_token), NOW)]
    assert len(outcomes) == (len(parts) if stream else 1)
    for outcome in outcomes:
        assert isinstance(outcome, Complete)
        assert outcome.array.dtype == np.float16


@given(rows=st.integers(1, 12), per_token=st.booleans(), data=st.data())
def test_a_stream_has_each_row_once(rows: int, per_token: bool, data: Any) -> None:
    places = [(1, index) for index in range(rows)]
    twice = data.draw(st.lists(st.sampled_from(places), max_size=6))
    rest = data.draw(st.permutations(places)) + twice
    cut = set(data.draw(st.lists(st.integers(0, rows - 1), max_size=3)))
    tokens = [["row %d" % row] for row in range(rows)]
    events: List[Any] = []
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        events.append(part(sorted(set(rest[:size])), per_token))
        rest = rest[size:]
    start = planned(
        1, rows, plan(stream=True, truncated=tuple(sorted(cut))), tokens=json.dumps(tokens).encode()
    )
    events.insert(data.draw(st.integers(0, len(events))), start)
    target = Assembly()
    outcomes = [outcome for event in events for outcome in target.handle(event, NOW)]
    expected = expected_array(1, rows, 6 if per_token else None)
    seen: List[int] = []
    for number, outcome in enumerate(outcomes, 1):
        assert isinstance(outcome, Complete)
        assert outcome.part is not None
        assert outcome.details is not None
        numbers = outcome.part.rows
        seen += numbers
        np.testing.assert_array_equal(outcome.array, expected[numbers])
        assert outcome.part.is_last == (number == len(outcomes))
        assert json.loads(outcome.tokens or b"") == [tokens[row] for row in numbers]
        assert set(outcome.details.truncated) == cut & set(numbers)
        assert outcome.details.model == MODEL
    assert sorted(seen) == list(range(rows))
    assert target.open_requests == 0
    assert target.ended_requests == 1


@given(
    rows=st.integers(2, 9),
    per_token=st.booleans(),
    stream=st.booleans(),
    data=st.data(),
)
def test_rows_that_are_lost_are_zeros_and_told(
    rows: int, per_token: bool, stream: bool, data: Any
) -> None:
    lost = data.draw(st.sets(st.integers(0, rows - 1), min_size=1, max_size=rows - 1))
    places = [(1, index) for index in range(rows) if index not in lost]
    rest = data.draw(st.permutations(places))
    events: List[Any] = [planned(1, rows, plan(stream))]
    events += [RowLost(1, index, "row %d is poison" % index) for index in lost]
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        events.append(part(sorted(rest[:size]), per_token))
        rest = rest[size:]
    target = Assembly()
    outcomes = [o for event in data.draw(st.permutations(events)) for o in target.handle(event, 0)]
    expected = expected_array(1, rows, 6 if per_token else None)
    expected[list(lost)] = 0
    seen: List[int] = []
    told: Dict[int, str] = {}
    for number, outcome in enumerate(outcomes, 1):
        assert isinstance(outcome, Complete)
        assert outcome.details is not None
        numbers = list(range(rows)) if outcome.part is None else outcome.part.rows
        assert outcome.part is None or outcome.part.is_last == (number == len(outcomes))
        seen += numbers
        told.update(outcome.details.failed)
        np.testing.assert_array_equal(outcome.array, expected[numbers])
    assert sorted(seen) == list(range(rows))
    assert told == {index: "row %d is poison" % index for index in lost}
    assert target.open_requests == 0


def test_a_row_that_came_before_it_was_lost_has_not_failed() -> None:
    """Its worker died after it had sent the vectors, and so did another one over it."""
    target = Assembly()
    target.handle(planned(1, 2, plan()), NOW)
    target.handle(part([(1, 0)]), NOW)
    assert target.handle(RowLost(1, 0, "it is poison"), NOW) == []
    (outcome,) = target.handle(part([(1, 1)]), NOW)
    assert isinstance(outcome, Complete)
    assert outcome.details is not None
    assert outcome.details.failed == {}
    assert target.handle(RowLost(1, 0, "it is poison"), NOW) == []


def test_a_stream_that_fails_ends_with_the_error() -> None:
    target = Assembly()
    target.handle(planned(1, 2, plan(stream=True)), NOW)
    (first,) = target.handle(part([(1, 0)]), NOW)
    assert isinstance(first, Complete)
    assert first.part == ([0], False)
    assert target.handle(failed(1), NOW) == [failed(1)]
    assert target.handle(part([(1, 1)]), NOW) == []
