"""Slices of tensors: how a checkpoint names the parts of a partitioned variable.

A slice is a pair (start, length) for each dimension. It is written as a TensorSliceProto
(tensorflow/core/framework/tensor_slice.proto), as text such as ``"0,2:-"`` by savers
(tensorflow/core/framework/tensor_slice.cc), and within keys in the order-preserving code of
tensorflow/core/lib/strings/ordered_code.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from bert_serving.graph_opt.sources.wire import WireError, grouped, signed

__all__ = ["TensorSlice", "parse_shape_and_slice"]

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class TensorSlice:
    """(start, length) for each dimension; length None is all there is."""

    extents: Tuple[Tuple[int, Optional[int]], ...]

    @classmethod
    def from_proto(cls, data: bytes) -> TensorSlice:
        """Parse a TensorSliceProto: extents are field 1, their start field 1 and length field 2.

        Raises:
            WireError: malformed data.
        """
        extents: List[Tuple[int, Optional[int]]] = []
        for extent in grouped(data).get(1, []):
            if not isinstance(extent, bytes):
                raise WireError("a slice has no extents")
            values = grouped(extent)
            start, length = values.get(1, [0])[0], values.get(2, [None])[0]
            if not isinstance(start, int) or not (length is None or isinstance(length, int)):
                raise WireError("an extent of a slice isn't a number")
            extents.append((signed(start), None if length is None else signed(length)))
        return cls(tuple(extents))

    def key(self, name: str) -> bytes:
        """The key of the slice's entry in a checkpoint's index: ``EncodeTensorNameSlice``."""
        escaped = bytearray()
        for byte in name.encode("utf-8"):
            escaped.append(byte)
            if byte in (0x00, 0xFF):
                escaped.append(0xFF - byte)
        key = _ordered(0) + bytes(escaped) + b"\0\1" + _ordered(len(self.extents))
        for start, length in self.extents:
            key += _ordered_signed(start) + _ordered_signed(-1 if length is None else length)
        return key

    def ranges(self, shape: Shape) -> Tuple[Tuple[int, int], ...]:
        """(start, end) for each dimension of a tensor of this shape.

        Raises:
            ValueError: the slice has other dimensions, or reaches beyond them.
        """
        if len(shape) != len(self.extents):
            raise ValueError("a slice of %d dimensions" % len(self.extents))
        result = []
        for (start, length), size in zip(self.extents, shape):
            end = size if length is None else start + length
            if not 0 <= start <= end <= size:
                raise ValueError("a slice from %d to %d of %d" % (start, end, size))
            result.append((start, end))
        return tuple(result)


def parse_shape_and_slice(text: str) -> Optional[Tuple[Shape, TensorSlice]]:
    """What a saver says of a partition: ``"4 3 0,2:-"`` is rows 0 and 1 of a tensor of [4, 3].

    None if the text is empty, which stands for the whole tensor.

    Raises:
        ValueError: the text is malformed.
    """
    if not text:
        return None
    words = text.split(" ")
    extents: List[Tuple[int, Optional[int]]] = []
    for part in words[-1].split(":") if words[-1] else ():
        if part == "-":
            extents.append((0, None))
        else:
            start, _, length = part.partition(",")
            extents.append((int(start), int(length)))
    return tuple(int(word) for word in words[:-1]), TensorSlice(tuple(extents))


def overlap(
    one: Sequence[Tuple[int, int]], other: Sequence[Tuple[int, int]]
) -> Optional[Tuple[Tuple[int, int], ...]]:
    """The (start, end) that two ranges share in each dimension; None if they share nothing."""
    shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other))
    return shared if all(start < end for start, end in shared) else None


def within(ranges: Sequence[Tuple[int, int]], origin: Sequence[Tuple[int, int]]) -> Tuple:
    """An index that takes ``ranges`` from an array that begins at ``origin``."""
    pairs = zip(ranges, origin)
    return tuple(slice(start - first, end - first) for (start, end), (first, _) in pairs)


def _ordered(number: int) -> bytes:
    """The number of bytes, then the bytes, the most significant first."""
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([len(octets)]) + octets


def _ordered_signed(number: int) -> bytes:
    """Two's complement, in front of which as many bits are flipped as there are bytes."""
    magnitude = ~number if number < 0 else number
    size = magnitude.bit_length() // 7 + 1
    mask = ((1 << size) - 1) << (7 * size)
    value = (number & ((1 << (8 * size)) - 1)) ^ mask
    return value.to_bytes(size, "big")
