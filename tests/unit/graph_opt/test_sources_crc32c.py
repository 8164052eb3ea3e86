from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.graph_opt.sources.crc32c import crc32c, masked_crc32c


def bit_by_bit(data):
    """The definition: a division of polynomials over GF(2), bits reversed."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720, appendix B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data, expected):
    assert crc32c(data) == expected


@given(st.binary(max_size=300))
def test_against_the_definition(data):
    assert crc32c(data) == bit_by_bit(data)


@pytest.mark.parametrize("size", [2**18 - 1, 2**18, 2**18 + 1, 2**18 + 4, 2**19 + 3])
def test_several_blocks(size):
    data = np.random.RandomState(size).bytes(size)
    # A byte more, from the definition of the checksum alone.
    last = crc32c(data) ^ 0xFFFFFFFF ^ 0x5A
    for _ in range(8):
        last = (last >> 1) ^ (0x82F63B78 if last & 1 else 0)
    assert crc32c(data + b"\x5a") == last ^ 0xFFFFFFFF
    changed = bytearray(data)
    changed[size // 3] ^= 1
    assert crc32c(bytes(changed)) != crc32c(data)


def test_arrays_are_taken_as_their_bytes():
    array = np.arange(10, dtype=np.float32)
    assert crc32c(array) == crc32c(array.tobytes())


def test_masked():
    # What leveldb/util/crc32c_test.cc says: unlike the plain value, and undone by the inverse.
    plain, masked = crc32c(b"foo"), masked_crc32c(b"foo")
    assert masked != plain
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF == plain
