"""The protobuf wire format, as far as the headers of a checkpoint need it.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from typing import Dict, Iterator, List, Tuple, Union

__all__ = ["WireError", "fields", "grouped", "read_varint", "signed"]

Value = Union[int, bytes]


class WireError(ValueError):
    """The bytes aren't a protobuf message. Translated by whoever knows the file."""


def read_varint(data: bytes, position: int) -> Tuple[int, int]:
    """The unsigned varint at a position, and the position behind it.

    Raises:
        WireError: the data ends inside it, or it has more than 64 bits.
    """
    result = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise WireError("a varint at byte %d runs on" % position)
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def fields(data: bytes) -> Iterator[Tuple[int, Value]]:
    """Pairs of (field number, value): an int for varints and fixed sizes, else bytes.

    Raises:
        WireError: malformed data.
    """
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        kind = tag & 7
        if kind == 0:
            value, position = read_varint(data, position)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, position = read_varint(data, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise WireError("unknown wire type %d" % kind)
        if position + size > len(data):
            raise WireError("a field at byte %d runs on" % position)
        chunk = bytes(data[position : position + size])
        position += size
        yield tag >> 3, chunk if kind == 2 else struct.unpack("<Q" if kind == 1 else "<I", chunk)[0]


def grouped(data: bytes) -> Dict[int, List[Value]]:
    """Field number -> its values in order."""
    result: Dict[int, List[Value]] = {}
    for number, value in fields(data):
        result.setdefault(number, []).append(value)
    return result


def signed(value: int) -> int:
    """An int32 or int64 field's value, which the wire holds as unsigned 64 bits."""
    return value - (1 << 64) if value >> 63 else value
