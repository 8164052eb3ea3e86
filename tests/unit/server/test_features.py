from __future__ import annotations

from typing import List

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.engines import Features
from bert_serving.server.engines.features import takes_packed

PADDED = ("input_ids", "input_mask", "input_type_ids")
PACKED = PADDED + ("places", "positions", "slots")
SEQUENCES = st.lists(
    st.lists(st.integers(1, 60000), min_size=1, max_size=9), min_size=1, max_size=8
)


def features_of(sequences: List[List[int]]) -> Features:
    """Masked are the tokens with even ids."""
    flat = np.array([number for ids in sequences for number in ids], np.int32)
    lengths = np.array([len(ids) for ids in sequences], np.int32)
    return Features(np.stack([flat, flat % 7, flat % 2]), lengths)


def filled(row: List[int], longest: int) -> List[int]:
    return row + [0] * (longest - len(row))


@given(sequences=SEQUENCES)
def test_padded_feeds_spread_rows_and_fill_with_zeros(sequences: List[List[int]]) -> None:
    feeds = features_of(sequences).feeds(PADDED)
    longest = max(map(len, sequences))
    assert feeds["input_ids"].tolist() == [filled(row, longest) for row in sequences]
    types = [filled([one % 7 for one in row], longest) for row in sequences]
    assert feeds["input_type_ids"].tolist() == types
    mask = [filled([one % 2 for one in row], longest) for row in sequences]
    assert feeds["input_mask"].tolist() == mask


@given(sequences=SEQUENCES)
def test_packed_feeds_lead_from_tokens_to_padded_places_and_back(
    sequences: List[List[int]],
) -> None:
    features = features_of(sequences)
    padded, packed = features.feeds(PADDED), features.feeds(PACKED)
    assert sorted(packed) == sorted(PACKED)
    assert packed["input_ids"].tolist() == [one for row in sequences for one in row]
    np.testing.assert_array_equal(packed["input_mask"], padded["input_mask"])
    for name in ("input_ids", "input_type_ids"):
        flat = padded[name].ravel()
        np.testing.assert_array_equal(flat[packed["places"]], packed[name])
        spread = packed[name][packed["slots"]].reshape(padded[name].shape)
        np.testing.assert_array_equal(spread[features.valid], packed[name])
    assert packed["positions"].tolist() == [place for row in sequences for place in range(len(row))]


@given(sequences=SEQUENCES)
def test_padding_is_filled_with_its_own_row_s_last_token(sequences: List[List[int]]) -> None:
    features = features_of(sequences)
    slots = features.feeds(PACKED)["slots"].reshape(features.valid.shape)
    ids = features.tokens[0][slots]
    for row, spread in zip(sequences, ids.tolist()):
        assert spread[len(row) :] == [row[-1]] * (len(spread) - len(row))


@given(sequences=SEQUENCES)
def test_feeds_are_int32_and_only_those_that_a_graph_has(sequences: List[List[int]]) -> None:
    for inputs in (PADDED, PACKED, PADDED[:2], PACKED[1:]):
        feeds = features_of(sequences).feeds(inputs)
        assert sorted(feeds) == sorted(inputs)
        assert {array.dtype for array in feeds.values()} == {np.dtype("int32")}


def test_which_graphs_take_packed_batches() -> None:
    assert not takes_packed(PADDED)
    assert takes_packed(PACKED)


def test_a_batch_counts_its_rows() -> None:
    features = features_of([[5, 6, 7], [8]])
    assert features.rows == 2
    assert features.starts.tolist() == [0, 3]
    assert features.positions.tolist() == [0, 1, 2, 0]
    assert features.valid.tolist() == [[True, True, True], [True, False, False]]
