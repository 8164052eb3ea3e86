"""Reading LevelDB's sorted table, in which TensorFlow writes a checkpoint's index.

https://github.com/google/leveldb/blob/main/doc/table_format.md: blocks of key-value pairs with
shared key prefixes; behind each block a byte for the compression and a masked CRC-32C; at the end
of the file a footer of 48 bytes that points to the block that points to the blocks.
"""

from __future__ import annotations

import struct
from typing import Dict, Iterator, Optional, Tuple

from bert_serving.graph_opt.sources.crc32c import masked_crc32c
from bert_serving.graph_opt.sources.wire import WireError, read_varint

__all__ = ["TableError", "read_table"]

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5
# A key is stored as what it has beyond the one before, so that a few bytes can be many long keys.
# Those of a block, and of all blocks, have in full at most so many times its size, and some more.
_MOST = 64
_SPARE = 1 << 20


class TableError(ValueError):
    """The bytes aren't such a table. Translated by whoever knows the file."""


def read_table(data: bytes) -> Dict[bytes, bytes]:
    """All pairs of a table, which has them in the order of their keys.

    Raises:
        TableError: it is cut off, damaged, or compressed.
    """
    if len(data) < _FOOTER:
        raise TableError("%d bytes are too few" % len(data))
    footer = data[-_FOOTER:]
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise TableError("it doesn't end as an index does; it may be cut off, or of another format")
    pairs: Dict[bytes, bytes] = {}
    room = _room(data)
    last: Optional[bytes] = None
    try:
        _, position = _handle(footer, 0)
        index, _ = _handle(footer, position)
        for _, handle in _pairs(_block(data, index)):
            for key, value in _pairs(_block(data, _handle(handle, 0)[0])):
                room = _left(room, key, last)  # no block is read twice: its keys wouldn't rise
                pairs[key] = value
                last = key
    except WireError as error:
        raise TableError(str(error)) from error
    return pairs


def _handle(data: bytes, position: int) -> Tuple[Tuple[int, int], int]:
    """(offset, size) of a block, and the position behind it."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(data: bytes, handle: Tuple[int, int]) -> bytes:
    offset, size = handle
    end = offset + size
    if end + _TRAILER > len(data):
        raise TableError("a block at byte %d reaches beyond the end" % offset)
    stored = struct.unpack("<I", data[end + 1 : end + _TRAILER])[0]
    if masked_crc32c(data[offset : end + 1]) != stored:
        raise TableError("the checksum of the block at byte %d is wrong: it is damaged" % offset)
    if data[end] != 0:
        raise TableError("it is compressed (type %d); TensorFlow writes it plain" % data[end])
    return data[offset:end]


def _room(data: bytes) -> int:
    """How many bytes the keys in ``data`` may have."""
    return _MOST * len(data) + _SPARE


def _left(room: int, key: bytes, last: Optional[bytes]) -> int:
    """What is left of ``room`` by a key behind ``last``."""
    if last is not None and key <= last:
        raise TableError("the key %r follows %r" % (key[:80], last[:80]))
    if len(key) > room:
        raise TableError("its keys are too long for its size")
    return room - len(key)


def _pairs(block: bytes) -> Iterator[Tuple[bytes, bytes]]:
    if len(block) < 4:
        raise TableError("a block has no restart points")
    end = len(block) - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    position, key, room = 0, b"", _room(block)
    last: Optional[bytes] = None
    while position < end:
        shared, position = read_varint(block, position)
        fresh, position = read_varint(block, position)
        size, position = read_varint(block, position)
        if shared > len(key) or position + fresh + size > end:
            raise TableError("an entry at byte %d of a block runs on" % position)
        key = key[:shared] + block[position : position + fresh]
        room, last = _left(room, key, last), key
        position += fresh
        yield key, block[position : position + size]
        position += size
