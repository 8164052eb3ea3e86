from __future__ import annotations

from typing import List

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.batching import (
    FREE_TOKENS,
    LEAST_FILL,
    BatchLimits,
    Row,
    provenance,
    select_rows,
)


def make_row(length: int, request: int = 1, index: int = 0) -> Row:
    return Row(request, index, np.zeros((3, length), np.int32))


def select(lengths: List[int], rows: int = 100, tokens: int = 10**6) -> List[int]:
    return select_rows([make_row(length) for length in lengths], BatchLimits(rows, tokens))


@given(
    lengths=st.lists(st.integers(1, 512), min_size=1, max_size=60),
    rows=st.integers(1, 40),
    tokens=st.integers(1, 4096),
)
def test_limits_are_kept(lengths: List[int], rows: int, tokens: int) -> None:
    chosen = select(lengths, rows, tokens)
    assert chosen[0] == 0
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(len(lengths)))
    assert len(chosen) <= rows
    padded = max(lengths[i] for i in chosen) * len(chosen)
    assert len(chosen) == 1 or padded <= tokens


@given(lengths=st.lists(st.integers(1, 512), min_size=1, max_size=60))
def test_most_of_a_batch_is_not_padding(lengths: List[int]) -> None:
    chosen = select(lengths)
    padded = max(lengths[i] for i in chosen) * len(chosen)
    assert padded <= FREE_TOKENS or sum(lengths[i] for i in chosen) >= LEAST_FILL * padded


@given(
    lengths=st.lists(st.integers(1, 512), min_size=2, max_size=60),
    rows=st.integers(1, 40),
)
def test_chosen_rows_are_the_nearest_in_length(lengths: List[int], rows: int) -> None:
    """No row that stays lies strictly between row 0 and a chosen one."""
    chosen = set(select(lengths, rows))
    low, high = min(lengths[i] for i in chosen), max(lengths[i] for i in chosen)
    for i, length in enumerate(lengths):
        assert i in chosen or not low < length < high


@given(length=st.integers(1, 512), count=st.integers(1, 60), rows=st.integers(1, 40))
def test_rows_of_one_length_fill_the_batch_in_order(length: int, count: int, rows: int) -> None:
    assert select([length] * count, rows) == list(range(min(count, rows)))


def test_the_token_budget_counts_the_longest_row_times_rows() -> None:
    assert select([10, 10, 10, 10], tokens=39) == [0, 1, 2]
    assert select([10, 10, 10, 10], tokens=40) == [0, 1, 2, 3]


def test_a_row_above_the_budget_is_still_computed() -> None:
    assert select([500, 500], tokens=100) == [0]


def test_a_long_row_does_not_take_short_ones_along() -> None:
    assert select([100, 10, 100, 10]) == [0, 2]


def test_a_short_row_does_not_wait_for_being_grouped() -> None:
    assert select([10, 100, 100, 100]) == [0]


def test_padding_is_free_in_a_tiny_batch() -> None:
    assert select([2, 20]) == [0, 1]


def test_a_shorter_row_is_preferred_when_equally_near() -> None:
    assert select([50, 55, 45], rows=2) == [0, 2]


def test_provenance_names_request_place_and_length_of_each_row() -> None:
    handles, indices, lengths = provenance([make_row(5, 2**40, 3), make_row(7, 2**40 + 1, 0)])
    assert (handles.dtype, indices.dtype, lengths.dtype) == (np.int64, np.int32, np.int32)
    assert handles.tolist() == [2**40, 2**40 + 1]
    assert indices.tolist() == [3, 0]
    assert lengths.tolist() == [5, 7]
