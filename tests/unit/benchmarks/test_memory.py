"""Which shapes have to be measured."""

from __future__ import annotations

from typing import Dict, List, Tuple

from hypothesis import given
from hypothesis import strategies as st

from bert_serving.benchmarks.memory import Peak, smallest_first, surely_exceeds

SIZES = st.lists(st.integers(1, 512), min_size=1, max_size=5)


@given(SIZES, SIZES)
def test_every_shape_once_and_smaller_ones_first(lengths: List[int], sizes: List[int]) -> None:
    shapes = smallest_first(lengths, sizes)
    assert set(shapes) == {(length, rows) for length in lengths for rows in sizes}
    assert len(shapes) == len(set(shapes))
    for position, (length, rows) in enumerate(shapes):
        assert not any(other[0] <= length and other[1] <= rows for other in shapes[position + 1 :])


def test_larger_in_every_way() -> None:
    peaks = [Peak(32, 16, 100, 50), Peak(64, 16, None, None)]
    assert surely_exceeds(peaks, 64, 64)
    assert surely_exceeds(peaks, 128, 16)
    assert not surely_exceeds(peaks, 32, 512)
    assert not surely_exceeds(peaks, 512, 8)


@given(SIZES, SIZES, st.integers(1, 100_000))
def test_what_is_not_tried_would_have_exceeded(
    lengths: List[int], sizes: List[int], limit: int
) -> None:
    found: Dict[Tuple[int, int], Peak] = {}
    for length, rows in smallest_first(lengths, sizes):
        if surely_exceeds(list(found.values()), length, rows):
            assert length * rows > limit
        peak = length * rows if length * rows <= limit else None
        found[length, rows] = Peak(length, rows, peak, 0)
