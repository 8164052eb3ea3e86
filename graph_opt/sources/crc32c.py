"""CRC-32C (Castagnoli, RFC 3720) in numpy, and the masked form that TensorFlow stores.

A CRC is linear over GF(2): what a message adds to the checksum is the XOR of what its words add,
each advanced by the number of words behind it. So a block is folded in halves: advance the even
words by one word and XOR the odd ones onto them, then the same with twice the distance, until one
word is left. Each round is two table look-ups a word over the whole block at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, List, Tuple

import numpy as np

__all__ = ["crc32c", "masked_crc32c"]

_POLYNOMIAL = 0x82F63B78  # bit-reversed 0x1EDC6F41
_MASK_DELTA = 0xA282EAD8  # leveldb/util/crc32c.h
_BLOCK_LEVEL = 16  # words of a block, as a power of 2: its tables and it stay in a CPU's cache
_ALL = 0xFFFFFFFF

Tables = Tuple[np.ndarray, np.ndarray]


def masked_crc32c(data: Any) -> int:
    """The checksum as LevelDB and TensorFlow store it: rotated and moved by a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL


def crc32c(data: Any) -> int:
    """CRC-32C of a contiguous buffer (bytes, or an array of any dtype)."""
    octets = np.frombuffer(data, np.uint8)
    if octets.size < 4:
        return _ALL ^ _bytewise(_ALL, octets)
    level = min(_BLOCK_LEVEL, max(0, (octets.size // 4 - 1).bit_length()))
    block_bytes = 4 << level
    # Zeros in front leave a CRC that starts at 0 as it is, so the first block may be filled up. The
    # start value, all ones, is XORed onto the first four bytes of the message instead.
    head_size = octets.size % block_bytes or min(block_bytes, octets.size)
    if head_size < 4:
        head_size += block_bytes
    state = _head(octets[:head_size], level)
    for start in range(head_size, octets.size, block_bytes):
        words = octets[start : start + block_bytes].view("<u4")
        state = _advance(state, level) ^ _advance(_fold(words, level), 0)
    return _ALL ^ state


def _head(octets: np.ndarray, level: int) -> int:
    """The state after the first bytes of a message, filled up with zeros to whole blocks."""
    block_bytes = 4 << level
    padded = np.zeros(-(-octets.size // block_bytes) * block_bytes, np.uint8)
    start = padded.size - octets.size
    padded[start:] = octets
    padded[start : start + 4] ^= 0xFF
    state = 0
    for words in padded.view("<u4").reshape(-1, 1 << level):
        state = _advance(state, level) ^ _advance(_fold(words, level), 0)
    return state


def _fold(words: np.ndarray, level: int) -> int:
    """``2**level`` words to one, whose advance by a word is the state after them."""
    for step in range(level):
        low, high = _tables(step)
        halves = words[0::2].astype("<u4").view("<u2")
        words = low[halves[0::2]] ^ high[halves[1::2]] ^ words[1::2]
    return int(words[0])


def _advance(state: int, level: int) -> int:
    """The state after ``2**level`` more words of zeros."""
    low, high = _tables(level)
    return int(low[state & 0xFFFF] ^ high[state >> 16])


@lru_cache(maxsize=None)
def _tables(level: int) -> Tables:
    """What the low and the high half of a state become after ``2**level`` words of zeros."""
    bits = [_one_word(1 << bit) for bit in range(32)]
    for _ in range(level):
        bits = [_apply(bits, column) for column in bits]
    return _table_of(bits[:16]), _table_of(bits[16:])


def _table_of(columns: List[int]) -> np.ndarray:
    table = np.zeros(1 << 16, np.uint32)
    for bit, column in enumerate(columns):
        table[1 << bit : 2 << bit] = table[: 1 << bit] ^ np.uint32(column)
    return table


def _apply(columns: List[int], state: int) -> int:
    result = 0
    for bit in range(32):
        if state >> bit & 1:
            result ^= columns[bit]
    return result


def _one_word(state: int) -> int:
    for _ in range(32):
        state = (state >> 1) ^ (_POLYNOMIAL if state & 1 else 0)
    return state


@lru_cache(maxsize=None)
def _byte_table() -> Tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _bytewise(state: int, octets: np.ndarray) -> int:
    table = _byte_table()
    for octet in octets.tolist():
        state = (state >> 8) ^ table[(state ^ octet) & 0xFF]
    return state
