from __future__ import annotations

import numpy as np
import pytest

from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.holding import LEAST_AHEAD, Holder
from bert_serving.server.work import Batch

#: A batch of 10 tokens costs 10.
LIMITS = BatchLimits(rows=100, tokens=1000, call_tokens=0.0)


def batch_of(tokens: int, number: int) -> Batch:
    return Batch(number, (Row(1, number, np.ones((3, tokens), np.int32)),))


def test_a_worker_is_asked_for_its_pace() -> None:
    holder = Holder(credits=2)
    holder.begin(batch_of(10, 1), 0.0)
    assert holder.finish(1, LIMITS, 5.0).batch_id == 1
    assert holder.pace == pytest.approx(0.5)
    holder.begin(batch_of(20, 2), 5.0)
    assert holder.ready_at(LIMITS, 0.2) == pytest.approx(5.0 + 0.8 * 10)
    assert holder.ready_at(LIMITS, 1.0) == 5.0
    holder.finish(2, LIMITS, 25.0)
    assert holder.pace == pytest.approx(0.5 + 0.2 * (1.0 - 0.5)), "smoothed"


def test_short_batches_are_sent_for_a_little_earlier() -> None:
    holder = Holder(credits=2, pace=0.001)
    holder.begin(batch_of(10, 1), 0.0)
    assert holder.ready_at(LIMITS, 0.0) == pytest.approx(0.010 - LEAST_AHEAD)


def test_a_batch_that_waits_is_begun_when_any_ends() -> None:
    holder = Holder(credits=4, streams=2, pace=1.0)
    for number in (1, 2, 3):
        holder.begin(batch_of(10, number), float(number))
    assert holder.began == {1: 1.0, 2: 2.0}
    holder.finish(2, LIMITS, 9.0)
    assert holder.began == {1: 1.0, 3: 9.0}
    assert holder.credits == 2


def test_readiness_goes_by_the_streams_that_are_not_spoken_for() -> None:
    holder = Holder(credits=9, streams=2, pace=1.0)
    assert holder.ready_at(LIMITS, 0.2) == 0.0
    holder.begin(batch_of(100, 1), 0.0)
    assert holder.ready_at(LIMITS, 0.2) == 0.0, "one is idle"
    holder.begin(batch_of(10, 2), 0.0)
    assert holder.ready_at(LIMITS, 0.2) == pytest.approx(8.0), "the second ends first"
    holder.begin(batch_of(10, 3), 8.0)
    assert holder.ready_at(LIMITS, 0.2) == pytest.approx(80.0), "its place is taken"
    holder.begin(batch_of(10, 4), 80.0)
    assert holder.ready_at(LIMITS, 0.2) == pytest.approx(80.0)
