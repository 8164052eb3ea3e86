from __future__ import annotations

from typing import Any, List, Tuple

import numpy as np
import pytest

from bert_serving.server.engines import Engine, Features
from bert_serving.server.errors import EngineError
from bert_serving.server.spec import EngineSpec
from bert_serving.server.worker import WARM_UP, compute, warm_up


class Recorder(Engine):
    """Returns what it is told to, and keeps what it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: List[Tuple[Features, bool]] = []

    def load(self, spec: EngineSpec, device: int) -> None:
        raise NotImplementedError

    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        self.asked.append((features, is_alone))
        return np.zeros((features.rows, 2)) if self.answer is None else self.answer

    def close(self) -> None:
        raise NotImplementedError


def two_rows() -> Features:
    """One of three tokens and one of a single token."""
    tokens = np.array([[5, 6, 7, 8], [0] * 4, [1] * 4], np.int32)
    return Features(tokens, np.array([3, 1], np.int32))


def spec(dimension: int, per_token: bool) -> EngineSpec:
    return EngineSpec("echo", None, dimension, per_token, threads=1, gpu_memory_fraction=0.5)


@pytest.mark.parametrize(("per_token", "count"), [(False, 2), (True, 4)])
def test_vectors_are_handed_on(per_token: bool, count: int) -> None:
    answer = np.zeros((count, 3))
    engine, features = Recorder(answer), two_rows()
    assert compute(engine, features, spec(3, per_token), is_alone=False) is answer
    assert engine.asked == [(features, False)]


@pytest.mark.parametrize(
    ("shape", "per_token"),
    [
        ((2, 5), True),
        ((4, 5), False),
        ((1, 5), False),
        ((3, 5), False),
        ((2, 3, 5), True),
        ((4,), True),
        ((2, 6), False),
        ((4, 6), True),
    ],
)
def test_a_wrong_shape_is_an_error(shape: Tuple[int, ...], per_token: bool) -> None:
    expected = (4, 5) if per_token else (2, 5)
    with pytest.raises(EngineError) as raised:
        compute(Recorder(np.zeros(shape)), two_rows(), spec(5, per_token))
    assert "of shape %s, not %s" % (shape, expected) in str(raised.value)


@pytest.mark.parametrize(("max_length", "lengths"), [(512, [8, 16]), (10, [8, 10]), (4, [4, 4])])
def test_warming_up_keeps_to_the_longest_sequence(max_length: int, lengths: List[int]) -> None:
    engine = Recorder()
    warm_up(engine, max_length)
    assert [(features.lengths.tolist(), is_alone) for features, is_alone in engine.asked] == [
        ([length] * rows, is_alone)
        for (rows, _), length in zip(WARM_UP, lengths)
        for is_alone in (True, False)
    ]
