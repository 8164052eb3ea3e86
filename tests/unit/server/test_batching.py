from __future__ import annotations

from collections import Counter
from typing import Dict, List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.batching import BatchLimits, Load, Row, best_counts, pack, rows_of

Lengths = st.lists(st.integers(1, 512), min_size=1, max_size=60)
Weights = st.sampled_from([0.0, 0.1, 0.3, 1.0])


def choose(
    lengths: List[int],
    rows: int = 100,
    tokens: int = 10**6,
    weight: float = 1.0,
    load: Optional[Load] = None,
) -> Dict[int, int]:
    """What joins a batch that begins with the first of ``lengths``, or has ``load``."""
    limits = BatchLimits(rows, tokens, weight)
    load = load or Load()
    near = load.longest or lengths[0]
    return best_counts(Counter(lengths), near, load, limits, tokens)


def weighted(chosen: Dict[int, int], weight: float) -> float:
    rows = sum(chosen.values())
    tokens = sum(length * count for length, count in chosen.items())
    return BatchLimits(1, 1, weight).weighted(rows, tokens, max(chosen))


@given(lengths=Lengths, rows=st.integers(1, 40), tokens=st.integers(1, 4096), weight=Weights)
def test_limits_are_kept(lengths: List[int], rows: int, tokens: int, weight: float) -> None:
    chosen = choose(lengths, rows, tokens, weight)
    assert chosen[lengths[0]] >= 1
    assert all(1 <= count <= Counter(lengths)[length] for length, count in chosen.items())
    assert sum(chosen.values()) <= rows
    assert sum(chosen.values()) == 1 or weighted(chosen, weight) <= tokens + 1e-6


@given(lengths=Lengths, weight=Weights)
def test_no_shorter_choice_of_nearest_lengths_has_a_larger_share_of_real_tokens(
    lengths: List[int], weight: float
) -> None:
    limits = BatchLimits(100, 10**6, weight)

    def share(chosen: Dict[int, int]) -> float:
        tokens = sum(length * count for length, count in chosen.items())
        return tokens / (limits.call_tokens + weighted(chosen, weight))

    chosen = choose(lengths, weight=weight)
    near_first = sorted(chosen, key=lambda length: (abs(length - lengths[0]), length))
    for stop in range(1, len(near_first)):
        part = {length: chosen[length] for length in near_first[:stop]}
        assert share(part) <= share(chosen) + 1e-9


@given(lengths=Lengths, rows=st.integers(1, 40), weight=Weights)
def test_chosen_rows_are_the_nearest_in_length(
    lengths: List[int], rows: int, weight: float
) -> None:
    """No length that stays lies strictly between that of the first row and a chosen one."""
    chosen = choose(lengths, rows, weight=weight)
    for length in lengths:
        assert length in chosen or not min(chosen) < length < max(chosen)


@given(lengths=Lengths, rows=st.integers(1, 100))
def test_everything_joins_where_padding_is_free(lengths: List[int], rows: int) -> None:
    chosen = choose(lengths, rows, weight=0.0)
    assert sum(chosen.values()) == min(rows, len(lengths))


def test_the_token_budget_counts_padding_by_its_weight() -> None:
    lengths = [20] + [10] * 9
    assert sum(choose(lengths, tokens=100, weight=1.0).values()) == 5
    assert sum(choose(lengths, tokens=100, weight=0.5).values()) == 6
    assert sum(choose(lengths, tokens=100, weight=0.0).values()) == 9


def test_a_budget_that_is_met_exactly_is_not_missed() -> None:
    assert choose([10] * 4, tokens=39) == {10: 3}
    assert choose([10] * 4, tokens=40) == {10: 4}
    assert choose([7] * 40, tokens=70, weight=0.3) == {7: 10}


def test_a_row_above_the_budget_is_still_computed() -> None:
    assert choose([500, 500], tokens=100) == {500: 1}


def test_nothing_joins_a_full_batch() -> None:
    assert choose([10], tokens=100, load=Load(10, 100, 10)) == {}
    assert choose([10], rows=3, load=Load(3, 30, 10)) == {}


def test_what_joins_a_batch_is_near_to_its_longest_row() -> None:
    lengths = [10] * 50 + [38] * 2 + [100] * 50
    assert choose(lengths, rows=4, load=Load(2, 60, 40)) == {38: 2}


def test_a_long_row_does_not_take_short_ones_along() -> None:
    assert choose([100, 10, 100, 10]) == {100: 2}


def test_a_short_row_goes_with_long_ones_rather_than_alone() -> None:
    """Alone it is 10 tokens for the price of 42, the call counted."""
    assert choose([10, 100, 100, 100]) == {10: 1, 100: 3}


def test_a_shorter_row_is_preferred_when_equally_near() -> None:
    assert choose([50, 55, 45], rows=2) == {50: 1, 45: 1}


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 70), (0.5, 85), (1.0, 100)])
def test_padding_counts_by_its_weight(weight: float, expected: float) -> None:
    assert BatchLimits(10, 1000, weight).weighted(rows=2, tokens=70, longest=50) == expected


def test_rows_are_packed_as_columns() -> None:
    random = np.random.RandomState(0)
    chunk, other = random.randint(0, 9, (3, 20), np.int32), random.randint(0, 9, (3, 7), np.int32)
    rows = [
        *rows_of(2**40, 3, [5, 2, 4], chunk, [10, 0, 3]),
        Row(2**40 + 1, 0, other),
        *rows_of(2**40 + 2, 0, [1], chunk, [19]),
    ]
    arrays = handles, indices, lengths, features = pack(rows)
    assert [array.dtype for array in arrays] == [np.int64, np.int32, np.int32, np.int32]
    assert handles.tolist() == [2**40] * 3 + [2**40 + 1, 2**40 + 2]
    assert indices.tolist() == [3, 4, 5, 0, 0]
    assert lengths.tolist() == [5, 2, 4, 7, 1]
    expected = [chunk[:, 10:15], chunk[:, :2], chunk[:, 3:7], other, chunk[:, 19:]]
    np.testing.assert_array_equal(features, np.concatenate(expected, axis=1))
    for row, part in zip(rows, expected):
        assert isinstance(row, Row)
        np.testing.assert_array_equal(row.features, part)


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
)
def test_rows_of_few_or_many_chunks_are_packed_alike(counts: List[int], seed: int) -> None:
    random = np.random.RandomState(seed)
    rows: List[Row] = []
    for handle, count in enumerate(counts):
        lengths = random.randint(1, 6, count)
        chunk = random.randint(0, 99, (3, lengths.sum())).astype(np.int32)
        starts = lengths.cumsum() - lengths
        rows += rows_of(handle, 0, lengths.tolist(), chunk, starts.tolist())
    taken = [row for row in rows if random.rand() < 0.8] or rows
    features = pack(taken)[3]
    np.testing.assert_array_equal(features, np.concatenate([one.features for one in taken], 1))
