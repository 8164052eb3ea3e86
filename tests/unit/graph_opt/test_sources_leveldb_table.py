from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.graph_opt.support import GOOGLE, leveldb_table

from bert_serving.graph_opt.sources.leveldb_table import TableError, read_table
from bert_serving.graph_opt.sources.wire import WireError, fields, grouped, signed

TABLE = (GOOGLE / "bert_model.ckpt.index").read_bytes()


def test_what_is_written_is_read():
    pairs = {b"": b"header", b"name": b"value", b"name/of": bytes(300)}
    assert read_table(leveldb_table(sorted(pairs.items()))) == pairs


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(TABLE) - 1))
def test_a_cut_table_is_noticed(size):
    with pytest.raises(TableError):
        read_table(TABLE[:size])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TABLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(position, change):
    damaged = bytearray(TABLE)
    damaged[position] ^= change
    try:
        pairs = read_table(bytes(damaged))
    except TableError:
        return
    # The footer's padding and its pointer to the unused metaindex mean nothing.
    assert pairs == read_table(TABLE)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(TableError):
        read_table(data)


def test_keys_must_rise():
    with pytest.raises(TableError, match="the key b'a' follows b'a'"):
        read_table(leveldb_table([(b"a", b"1"), (b"a", b"2")]))


def test_the_wire_format():
    message = b"\x08\x96\x01\x12\x02hi\x1d\x01\x00\x00\x00\x21" + struct.pack("<Q", 2**40)
    assert list(fields(message)) == [(1, 150), (2, b"hi"), (3, 1), (4, 2**40)]
    assert grouped(b"\x08\x01\x08\x02") == {1: [1, 2]}
    assert signed(2**64 - 1) == -1
    for bad in (b"\x08", b"\x12\x05hi", b"\x0b", b"\x08" + b"\xff" * 11, b"\x1d\x00"):
        with pytest.raises(WireError):
            list(fields(bad))
