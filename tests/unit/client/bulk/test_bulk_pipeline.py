from __future__ import annotations

import random
from typing import Any, Dict, List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client.bulk.errors import BulkError, InputError
from bert_serving.client.bulk.pipeline import BatchFailed, Encoder, Result, in_order
from bert_serving.client.bulk.rows import Batch, Position


class Shuffling(Encoder):
    """Answers in random order; a vector is the number that the text is, twice."""

    def __init__(self, seed: int = 0, failing: Optional[int] = None, width: int = 2) -> None:
        self._random = random.Random(seed)
        self._failing = failing
        self._width = width
        self.waiting: Dict[int, List[str]] = {}
        self.most = self.count = 0

    def submit(self, texts: List[str]) -> int:
        self.count += 1
        self.waiting[self.count] = texts
        self.most = max(self.most, len(self.waiting))
        return self.count

    def receive(self) -> Result:
        id = self._random.choice(sorted(self.waiting))
        texts = self.waiting.pop(id)
        if id == self._failing:
            raise BatchFailed(id, "WorkerFailed: no luck")
        vectors = np.array([[float(text)] * self._width for text in texts], "f4")
        return Result(id, vectors, len(texts) % 2)


def batches_of(*texts: List[Optional[str]]) -> List[Batch]:
    found, line = [], 0
    for some in texts:
        found.append(Batch(some, line + 1, Position(line, line + len(some)), line))
        line += len(some)
    return found


@given(
    st.lists(st.lists(st.sampled_from(["1", "2", "3", " ", None]), min_size=1, max_size=4)),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_the_order_is_that_of_the_input(texts: List[Any], window: int, seed: int) -> None:
    encoder = Shuffling(seed)
    given_batches = batches_of(*texts)
    found = list(in_order(given_batches, encoder, window, 2))
    assert [encoded.batch for encoded in found] == given_batches
    assert encoder.most <= window
    for encoded in found:
        expected = [float((text or "").strip() or 0) for text in encoded.batch.texts]
        assert encoded.vectors.tolist() == [[number, number] for number in expected]
        assert encoded.truncated == len(encoded.batch.filled()) % 2


def test_the_window_is_kept_full() -> None:
    encoder = Shuffling()
    results = in_order(batches_of(*[["1"]] * 9), encoder, 4, 2)
    next(results)
    assert encoder.most == 4
    results.close()


def test_a_failure_names_its_lines() -> None:
    batches = batches_of(["1", "2"], ["3", "4"], ["5"])
    results = in_order(batches, Shuffling(failing=2), 1, 2)
    assert next(results).batch is batches[0]
    with pytest.raises(BulkError, match=r"^lines 3 to 4 failed: WorkerFailed: no luck"):
        next(results)


def test_what_can_be_read_comes_before_the_error() -> None:
    batches = batches_of(["1"], ["2"], ["3"])

    def broken() -> Any:
        yield from batches
        raise InputError("line 4 is bad")

    results = in_order(broken(), Shuffling(seed=3), 2, 2)
    assert [next(results).batch for _ in batches] == batches
    with pytest.raises(InputError, match="line 4 is bad"):
        next(results)


def test_another_shape_than_asked_for() -> None:
    with pytest.raises(BulkError, match=r"shape \[1, 3\] instead of \[1, 2\]"):
        list(in_order(batches_of(["1"]), Shuffling(width=3), 1, 2))
