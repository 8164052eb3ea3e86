from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.engines import import_tensorflow

from bert_serving.graph_opt.sources.tensor_slices import (
    TensorSlice,
    overlap,
    parse_shape_and_slice,
    within,
)
from bert_serving.graph_opt.sources.wire import WireError

EXTENTS = st.lists(
    st.tuples(st.integers(0, 2**40), st.none() | st.integers(0, 2**40)), max_size=4
).map(tuple)
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(NUMBERS, NUMBERS)
def test_keys_sort_as_numbers_do(one, other):
    keys = [TensorSlice(((number, 1),)).key("v") for number in (one, other)]
    assert (keys[0] < keys[1]) == (one < other)
    assert (keys[0] == keys[1]) == (one == other)


@given(EXTENTS)
def test_tensorflow_reads_the_proto_alike(extents):
    import_tensorflow()
    from tensorflow.core.framework import tensor_slice_pb2

    proto = tensor_slice_pb2.TensorSliceProto()
    for start, length in extents:
        extent = proto.extent.add(start=start)
        if length is not None:
            extent.length = length
    assert TensorSlice.from_proto(proto.SerializeToString()) == TensorSlice(extents)


def test_a_key():
    """Bytes that TensorFlow 1.15 writes for rows 4 to 6 of "ref/table" [7, 4]."""
    key = TensorSlice(((4, 3), (0, None))).key("ref/table")
    assert key == b"\x00ref/table\x00\x01\x01\x02\x84\x83\x80\x7f"


def test_a_key_of_large_numbers_and_odd_names():
    key = TensorSlice(((64, 8192),)).key("a\0b")
    assert key == b"\x00a\x00\xffb\x00\x01\x01\x01\xc0\x40\xe0\x20\x00"


def test_a_saver_s_text():
    assert parse_shape_and_slice("") is None
    shape, one = parse_shape_and_slice("7 4 4,3:-")
    assert (shape, one) == ((7, 4), TensorSlice(((4, 3), (0, None))))
    assert one.ranges(shape) == ((4, 7), (0, 4))
    assert parse_shape_and_slice("5 -") == ((5,), TensorSlice(((0, None),)))


@pytest.mark.parametrize("text", ["7", "7 a", "7 1", "x 0,1", "7 1,b"])
def test_malformed_text(text):
    with pytest.raises(ValueError):
        parse_shape_and_slice(text)


@pytest.mark.parametrize(
    ("extents", "message"),
    [
        (((0, 1),), "of 1 dimensions"),
        (((0, 3), (0, 1)), "from 0 to 3 of 2"),
        (((-1, 1), (0, 1)), "-1"),
    ],
)
def test_a_slice_that_does_not_fit(extents, message):
    with pytest.raises(ValueError, match=message):
        TensorSlice(extents).ranges((2, 1))


@pytest.mark.parametrize("data", [b"\x08\x01", b"\x0a\x03\x0a\x01a"])
def test_a_malformed_proto(data):
    with pytest.raises(WireError):
        TensorSlice.from_proto(data)


def test_overlap():
    assert overlap([(0, 4), (0, 2)], [(3, 6), (1, 2)]) == ((3, 4), (1, 2))
    assert overlap([(0, 3)], [(3, 6)]) is None
    assert overlap([], []) == ()
    assert within([(3, 4)], [(2, 6)]) == (slice(1, 2),)
