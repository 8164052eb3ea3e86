from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.batch_messages import BatchMessage, Part
from bert_serving.server.computing import compute, compute_batch
from bert_serving.server.engines import Engine, Features
from bert_serving.server.engines.echo import EchoEngine
from bert_serving.server.errors import EngineError
from bert_serving.server.pooling import HiddenStates, Pooling
from bert_serving.server.spec import EngineSpec, PoolingSpec

OWN = PoolingSpec("REDUCE_MEAN", (-2,), False, False, 12, False)
UNIT = Pooling("REDUCE_MEAN", (10,), True)
MEAN_OF_LAST = Pooling("REDUCE_MEAN", (11,), False)
TOKENS = Pooling("NONE", (3,), False)
WIDE = Pooling("REDUCE_MEAN_MAX", (0, 11), False)


class Recorder(Engine):
    """Returns what it is told to, and keeps what it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: List[Tuple[Any, ...]] = []

    def load(self, spec: EngineSpec, device: int) -> None:
        raise NotImplementedError

    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        self.asked.append((features, is_alone))
        return self.answer

    def hidden_states(
        self, features: Features, layers: Sequence[int], pooled: bool, is_alone: bool = True
    ) -> HiddenStates:
        self.asked.append((features.lengths.tolist(), layers, pooled, is_alone))
        tokens = np.zeros((features.tokens.shape[1], 3), np.float32)
        first = np.ones((features.rows, 3), np.float32) if pooled else None
        return HiddenStates({layer: tokens + layer for layer in layers}, first)

    def close(self) -> None:
        raise NotImplementedError


def two_rows() -> Features:
    """One of three tokens and one of a single token."""
    tokens = np.array([[5, 6, 7, 8], [0] * 4, [1] * 4], np.int32)
    return Features(tokens, np.array([3, 1], np.int32))


def spec(dimension: int, per_token: bool) -> EngineSpec:
    return EngineSpec("echo", None, dimension, per_token, threads=1, gpu_memory_fraction=0.5)


def echo(per_token: bool = False) -> EchoEngine:
    engine = EchoEngine()
    engine.load(spec(8, per_token), -1)
    return engine


def batch_of(requests: List[Tuple[Optional[Pooling], List[int]]], alone: bool = True) -> Any:
    """A batch of requests with handles from 100, each with rows of these lengths."""
    lengths = [length for _, row_lengths in requests for length in row_lengths]
    handles = [100 + place for place, (_, rows) in enumerate(requests) for _ in rows]
    indices = [index for _, rows in requests for index in range(len(rows))]
    count = sum(lengths)
    ids = np.arange(count) * 7 % 50
    mask = np.where(np.arange(count) % 5 == 3, 0, 1)
    return BatchMessage(
        1,
        np.array(handles, np.int64),
        np.array(indices, np.int32),
        np.array(lengths, np.int32),
        np.array([ids, ids * 0, mask], np.int32),
        alone,
        {100 + place: one for place, (one, _) in enumerate(requests) if one is not None},
    )


def vectors_by_row(parts: List[Part]) -> Any:
    """(handle, index) -> vectors of the row."""
    found = {}
    for part in parts:
        starts = np.cumsum(part.lengths) - part.lengths
        for place, key in enumerate(zip(part.handles.tolist(), part.indices.tolist())):
            assert key not in found
            first = starts[place] if part.per_token else place
            count = part.lengths[place] if part.per_token else 1
            found[key] = part.vectors[first : first + count]
    return found


# --------------------------------------------------------------------- the server's own


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


def test_a_batch_that_asks_for_nothing_is_one_part_without_a_copy() -> None:
    answer = np.zeros((3, 2), np.float32)
    engine, batch = Recorder(answer), batch_of([(None, [2, 3]), (None, [1])], alone=False)
    (part,) = compute_batch(engine, spec(2, False), OWN, batch, 12.5)
    assert part.vectors is answer
    assert part.handles is batch.handles
    assert (part.began, part.per_token) == (12.5, False)
    assert len(engine.asked) == 1
    assert engine.asked[0][0].tokens is batch.features


# ------------------------------------------------------------------------------- others


def test_each_graph_runs_once_and_only_what_is_asked_for_is_fetched() -> None:
    engine = Recorder(np.ones((2, 2), np.float32))
    first = Pooling("CLS_POOLED", (), False)
    batch = batch_of(
        [(WIDE, [1]), (None, [2]), (TOKENS, [3, 4]), (None, [5]), (first, [6])], alone=False
    )
    parts = compute_batch(engine, spec(2, False), OWN, batch, 7.0)
    (own, is_alone), others = engine.asked
    assert (own.lengths.tolist(), is_alone) == ([2, 5], False)
    assert others == ([1, 3, 4, 6], [0, 3, 11], True, False)
    summary = [
        (part.handles.tolist(), part.indices.tolist(), part.vectors.shape, part.per_token)
        for part in parts
    ]
    assert summary == [
        ([101, 103], [0, 0], (2, 2), False),
        ([100], [0], (1, 12), False),
        ([102, 102], [0, 1], (7, 3), True),
        ([104], [0], (1, 3), False),
    ]
    assert {part.began for part in parts} == {7.0}


def test_only_other_poolings_need_no_run_of_the_own_graph() -> None:
    engine = Recorder()
    batch = batch_of([(TOKENS, [3]), (TOKENS, [2])])
    (part,) = compute_batch(engine, spec(2, False), OWN, batch, 0.0)
    assert engine.asked == [([3, 2], [3], False, True)]
    assert part.handles.tolist() == [100, 101]
    assert part.lengths.tolist() == [3, 2]


def test_unit_length_needs_no_other_graph() -> None:
    engine = Recorder(np.array([[3, 4], [6, 8], [0, 0]], np.float32))
    batch = batch_of([(None, [1]), (UNIT, [1, 1])])
    parts = compute_batch(engine, spec(2, False), OWN, batch, 0.0)
    assert len(engine.asked) == 1
    found = vectors_by_row(parts)
    np.testing.assert_array_equal(found[100, 0], [[3, 4]])
    np.testing.assert_allclose(found[101, 0], [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(found[101, 1], [[0, 0]])


def test_an_engine_that_fails_in_one_graph_fails_the_batch() -> None:
    class Broken(Recorder):
        def hidden_states(self, *_: Any, **__: Any) -> HiddenStates:
            raise EngineError("the disk is full")

    engine = Broken(np.zeros((1, 2), np.float32))
    with pytest.raises(EngineError, match="the disk is full"):
        compute_batch(engine, spec(2, False), OWN, batch_of([(None, [1]), (TOKENS, [1])]), 0.0)


@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([None, UNIT, MEAN_OF_LAST, TOKENS, WIDE]),
            st.lists(st.integers(1, 6), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=6,
    ),
    per_token=st.booleans(),
)
def test_rows_get_what_they_would_get_alone(
    requests: List[Tuple[Optional[Pooling], List[int]]], per_token: bool
) -> None:
    """Whatever the company; with echo, whose vectors tell their row and layer."""
    own = PoolingSpec("NONE" if per_token else "REDUCE_MEAN", (-2,), False, False, 12, False)
    engine, engine_spec = echo(per_token), spec(8, per_token)
    batch = batch_of(requests)
    found = vectors_by_row(compute_batch(engine, engine_spec, own, batch, 0.0))
    starts = np.cumsum(batch.lengths) - batch.lengths
    for place, (start, length) in enumerate(zip(starts, batch.lengths)):
        one = slice(place, place + 1)
        alone = BatchMessage(
            2,
            batch.handles[one],
            batch.indices[one],
            batch.lengths[one],
            batch.features[:, start : start + length],
            poolings=batch.poolings,
        )
        (part,) = compute_batch(engine, engine_spec, own, alone, 0.0)
        key = int(batch.handles[place]), int(batch.indices[place])
        np.testing.assert_allclose(found.pop(key), part.vectors, rtol=1e-6)
    assert not found
