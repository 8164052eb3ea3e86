from __future__ import annotations

import numpy as np
import pytest

from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.holding import LEAST_AHEAD, NEVER, Holder, Opening
from bert_serving.server.work import Batch

#: A batch of 10 tokens costs 10.
LIMITS = BatchLimits(rows=100, tokens=1000, call_tokens=0.0)


def batch_of(tokens: int, number: int) -> Batch:
    return Batch(number, (Row(1, number, np.ones((3, tokens), np.int32)),))


def opening(holder: Holder, tokens: int = 0, ahead: float = 0.2) -> Opening:
    return holder.opening(LIMITS, ahead, tokens)


def test_a_worker_is_known_by_its_pace() -> None:
    holder = Holder(credits=2)
    holder.begin(batch_of(10, 1), False, 0.0)
    assert holder.finish(1, LIMITS, 5.0).batch_id == 1
    assert holder.pace == pytest.approx(0.5)
    holder.begin(batch_of(20, 2), False, 5.0)
    assert opening(holder) == Opening(pytest.approx(5.0 + 0.8 * 10))
    assert opening(holder, ahead=1.0) == Opening(5.0)
    holder.finish(2, LIMITS, 25.0)
    assert holder.pace == pytest.approx(0.5 + 0.2 * (1.0 - 0.5)), "smoothed"


def test_short_batches_are_sent_for_a_little_earlier() -> None:
    holder = Holder(credits=2, pace=0.001)
    holder.begin(batch_of(10, 1), False, 0.0)
    assert opening(holder, ahead=0.0).at == pytest.approx(0.010 - LEAST_AHEAD)


def test_a_batch_that_waits_is_begun_when_any_ends() -> None:
    holder = Holder(credits=4, streams=2, pace=1.0)
    for number in (1, 2, 3):
        holder.begin(batch_of(10, number), False, float(number))
    assert holder.began == {1: 1.0, 2: 2.0}
    holder.finish(2, LIMITS, 9.0)
    assert holder.began == {1: 1.0, 3: 9.0}
    assert holder.credits == 2


def test_one_that_is_alone_is_begun_when_all_before_it_have_ended() -> None:
    holder = Holder(credits=4, streams=2, pace=1.0)
    for number, alone in ((1, False), (2, True), (3, False), (4, False)):
        holder.begin(batch_of(10, number), alone, float(number))
    assert holder.began == {1: 1.0}
    holder.finish(1, LIMITS, 11.0)
    assert holder.began == {2: 11.0}
    holder.finish(2, LIMITS, 16.0)
    assert holder.began == {3: 16.0, 4: 16.0}
    assert holder.pace == pytest.approx(1.0), "twice as fast, with twice the threads"


def test_there_is_a_place_in_an_idle_stream_and_then_in_the_one_that_ends_first() -> None:
    holder = Holder(credits=9, streams=2, pace=1.0)
    assert opening(holder) == Opening(0.0, False, 2)
    holder.begin(batch_of(100, 1), False, 0.0)
    assert opening(holder) == Opening(0.0), "one is idle"
    holder.begin(batch_of(10, 2), False, 0.0)
    assert opening(holder) == Opening(pytest.approx(8.0)), "the second ends first"
    holder.begin(batch_of(10, 3), False, 8.0)
    assert opening(holder) == Opening(pytest.approx(80.0)), "its place is taken"
    holder.begin(batch_of(10, 4), False, 80.0)
    assert opening(holder) == Opening(pytest.approx(80.0))


@pytest.mark.parametrize(
    ("tokens", "alone", "shares"),
    [
        (0, True, 1),
        (99, True, 1),
        (199, True, 1),
        (200, False, 2),
        (399, False, 3),
        (900, False, 4),
    ],
)
def test_what_waits_is_shared_by_as_many_streams_as_it_is_enough_for(
    tokens: int, alone: bool, shares: int
) -> None:
    holder = Holder(credits=8, streams=4, split_tokens=100)
    assert opening(holder, tokens) == Opening(0.0, alone, shares)


def test_little_waits_for_a_stream_to_end() -> None:
    holder = Holder(credits=4, streams=2, split_tokens=100, pace=1.0)
    holder.begin(batch_of(10, 1), False, 0.0)
    assert opening(holder, 99) == Opening(pytest.approx(8.0), True), "then nothing else runs"
    assert opening(holder, 100) == Opening(0.0)
    holder.begin(batch_of(20, 2), False, 0.0)
    assert opening(holder, 99) == Opening(pytest.approx(8.0), False), "the other stream does"


def test_nothing_is_computed_beside_a_batch_that_is_alone() -> None:
    holder = Holder(credits=4, streams=2, split_tokens=100, pace=1.0)
    holder.begin(batch_of(20, 1), True, 0.0)
    assert opening(holder, 99) == Opening(pytest.approx(8.0), True)
    assert opening(holder, 500) == Opening(pytest.approx(8.0), False, 2)
    holder.begin(batch_of(10, 2), False, 8.0)
    assert opening(holder, 250) == Opening(pytest.approx(8.0)), "for the other stream"
    assert opening(holder, 99) == Opening(NEVER), "too little for it"


def test_what_follows_one_that_is_to_be_alone_is_not_known_yet() -> None:
    holder = Holder(credits=4, streams=2, split_tokens=100, pace=1.0)
    holder.begin(batch_of(10, 1), True, 0.0)
    holder.begin(batch_of(10, 2), True, 0.0)
    assert opening(holder, 1000) == Opening(NEVER)


def test_a_batch_that_took_very_long_changes_the_pace_a_little() -> None:
    holder = Holder(credits=2, pace=1.0)
    holder.begin(batch_of(10, 1), False, 0.0)
    holder.finish(1, LIMITS, 5000.0)
    assert holder.pace == pytest.approx(1.0 + 0.2 * 3.0)


def test_a_pace_that_is_known_from_such_a_batch_is_soon_forgotten() -> None:
    holder = Holder(credits=2)
    for number, seconds in enumerate((5000.0, 10.0, 10.0), 1):
        holder.begin(batch_of(10, number), False, 0.0)
        holder.finish(number, LIMITS, seconds)
    assert holder.pace < 4.0


def test_it_hangs_if_a_batch_takes_longer_than_the_timeout_and_than_its_like() -> None:
    holder = Holder(credits=2, pace=1.0)
    holder.begin(batch_of(10, 1), False, 0.0)
    assert holder.unfitness(LIMITS, 60.0, 199.0) is None, "batches like this take 10 s"
    assert not holder.is_kept
    assert holder.unfitness(LIMITS, 300.0, 201.0) is None
    assert holder.unfitness(LIMITS, 0.0, 201.0) is None, "any time is allowed"
    assert holder.unfitness(LIMITS, 60.0, 201.0) == "it has computed a batch for 201 s"
    assert holder.unfitness(LIMITS, 60.0, 202.0) is None, "it was told"
    assert opening(holder) == Opening(NEVER)
    holder.finish(1, LIMITS, 203.0)
    assert not holder.is_kept


def test_nothing_is_put_beside_a_suspect() -> None:
    holder = Holder(credits=2, streams=2)
    holder.begin(Batch(1, batch_of(10, 1).rows, suspect=True), True, 0.0)
    assert opening(holder, 1000) == Opening(NEVER)
    holder.finish(1, LIMITS, 1.0)
    assert opening(holder).at == 1.0
