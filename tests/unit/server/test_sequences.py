"""Truncation and special tokens; by their rules, token by token."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.sequences import EncodedTexts, Pieces, SequenceMaker, TextTooLong, merge

CLS, SEP = 1, 2


def expected_ids(text: Pieces, most: int, left: bool, bare: bool) -> Tuple[List[int], bool]:
    """A sequence, and whether it lost tokens."""
    first, second = list(text[0]), list(text[1])
    room = most - (3 if second else 0 if bare else 2)
    is_pair, is_cut = bool(second), len(first) + len(second) > room
    while len(first) + len(second) > room:
        longer = first if len(first) > len(second) else second
        longer.pop(0 if left else -1)
    if is_pair:
        return [CLS, *first, SEP, *second, SEP], is_cut
    return (first if bare else [CLS, *first, SEP]), is_cut


IDS = st.lists(st.integers(3, 1000), max_size=20)


@given(
    texts=st.lists(st.tuples(IDS, st.one_of(st.just([]), IDS)), min_size=1, max_size=5),
    most=st.integers(4, 30),
    left=st.booleans(),
    bare=st.booleans(),
    mask_special=st.booleans(),
)
def test_sequences(
    texts: List[Pieces], most: int, left: bool, bare: bool, mask_special: bool
) -> None:
    made = SequenceMaker(CLS, SEP, most, mask_special).make(texts, left, bare)
    expected = [expected_ids(text, most, left, bare) for text in texts]
    assert made.truncated == [number for number, (_, is_cut) in enumerate(expected) if is_cut]
    assert made.offsets is None
    for text, one, (ids, _) in zip(texts, made, expected):
        special = [number in (CLS, SEP) for number in ids]
        assert one.features[0].tolist() == ids
        boundary = ids.index(SEP) + 1 if text[1] else len(ids)
        assert one.features[1].tolist() == [int(place >= boundary) for place in range(len(ids))]
        assert one.features[2].tolist() == [int(not (mask_special and one)) for one in special]
        assert one.wanted_length == min(len(text[0]) + len(text[1]), most)
        assert one.is_pair is bool(text[1])


@given(
    texts=st.lists(IDS, min_size=1, max_size=8),
    most=st.integers(4, 30),
    left=st.booleans(),
    mask_special=st.booleans(),
)
def test_made_together_they_are_those_made_one_by_one(
    texts: List[List[int]], most: int, left: bool, mask_special: bool
) -> None:
    maker = SequenceMaker(CLS, SEP, most, mask_special)
    joined = sum(([SEP, CLS] + ids for ids in texts[1:]), texts[0])
    assert_same(maker.make_together(joined, left), maker.make([(ids, []) for ids in texts], left))


def assert_same(one: EncodedTexts, other: EncodedTexts) -> None:
    """Wherever the features of each text lie."""
    assert one.features.dtype == other.features.dtype == np.int32
    assert len(one) == len(other)
    for mine, its in zip(one, other):
        np.testing.assert_array_equal(mine.features, its.features)
        assert mine[1:] == its[1:]
    assert one.truncated == other.truncated
    assert all(type(place) is int for place in one.truncated + one.starts + one.lengths)


@given(first=IDS, second=st.one_of(st.just([]), IDS), most=st.integers(4, 30), left=st.booleans())
def test_spans_stay_with_their_tokens(
    first: List[int], second: List[int], most: int, left: bool
) -> None:
    maker = SequenceMaker(CLS, SEP, most, False)
    spans = maker.spans([(one, one) for one in first], [(one, one) for one in second], left)
    (encoded,) = maker.make([(first, second)], left)
    ids = [0 if number in (CLS, SEP) else number for number in encoded.features[0].tolist()]
    assert spans == [(number, number) for number in ids]


@given(
    texts=st.lists(st.tuples(IDS, IDS, st.booleans()), min_size=2, max_size=8),
    left=st.booleans(),
)
def test_merged_texts_are_in_order(
    texts: List[Tuple[List[int], List[int], bool]], left: bool
) -> None:
    maker = SequenceMaker(CLS, SEP, 12, False)
    parts = []
    for which in (True, False):
        numbers = [number for number, (_, _, here) in enumerate(texts) if here is which]
        parts.append((numbers, maker.make([texts[number][:2] for number in numbers], left)))
    whole = maker.make([(first, second) for first, second, _ in texts], left)
    assert_same(merge(*parts), whole)


def test_of_a_pair_the_longer_text_is_cut() -> None:
    maker = SequenceMaker(CLS, SEP, 8, False)
    long, short = [11, 12, 13, 14, 15, 16], [21, 22]
    for pair, left, ids in (
        ((long, short), False, [CLS, 11, 12, 13, SEP, 21, 22, SEP]),
        ((long, short), True, [CLS, 14, 15, 16, SEP, 21, 22, SEP]),
        ((short, long), True, [CLS, 21, 22, SEP, 14, 15, 16, SEP]),
        # From the second one if they are equally long.
        ((long, long), False, [CLS, 11, 12, 13, SEP, 11, 12, SEP]),
        ((long, long), True, [CLS, 14, 15, 16, SEP, 15, 16, SEP]),
    ):
        assert maker.make([pair], left).features[0].tolist() == ids


def test_a_text_of_the_longest_length_is_whole() -> None:
    maker = SequenceMaker(CLS, SEP, 6, False)
    made = maker.make([([3] * 4, []), ([3] * 2, [3]), ([3] * 5, []), ([3] * 2, [3] * 2)], False)
    assert made.truncated == [2, 3]
    assert made.lengths == [6, 6, 6, 6]
    assert maker.make([([3] * 6, []), ([3] * 7, [])], False, bare=True).truncated == [1]


def test_too_long_says_how_much() -> None:
    message = "text 3 has 40 tokens with the special ones, and 25 is the limit"
    with pytest.raises(ValueError, match=message):
        raise TextTooLong(3, 40, 25)
