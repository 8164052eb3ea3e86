"""Damaging bytes blindly, and JSON by its values."""

from __future__ import annotations

import json
import random
import re
from typing import Any, List, Sequence, Tuple

__all__ = ["NUMBERS", "mutate_bytes", "mutate_json", "varint"]

Random = random.Random

NUMBERS = (
    0, 1, 2, 3, 7, 8, 63, 64, 127, 128, 255, 256, 4096, 65535, 65536, 2**20, 2**24, 2**31 - 1,
    2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
WORDS = (
    b"\0", b"\xff", b"\xff\xff\xff\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b",",
    b"[", b"{", b"]", b"}", b"\\ud800", b"-1", b"1e999", b"NaN", b"../", b"%s", b" ||| ", b"null",
)  # fmt: skip
DIGITS = re.compile(rb"-?[0-9]+")


def varint(value: int) -> bytes:
    """An unsigned number as protobuf and LevelDB have it."""
    value &= (1 << 64) - 1
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(octets + bytes([value]))


# ------------------------------------------------------------------------------------- bytes


def mutate_bytes(rng: Random, data: bytes, pool: Sequence[bytes] = ()) -> bytes:
    """One change that knows of no format."""
    return rng.choice(_BYTES)(rng, data, pool)


def _span(rng: Random, data: bytes) -> Tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + int(rng.expovariate(1 / 8.0)) + 1)


def _flip(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return bytes([rng.randrange(256)])
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _remove(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _span(rng, data)
    return data[:start] + data[stop:]


def _repeat(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _span(rng, data)
    return data[:stop] + data[start:stop] * rng.choice((1, 1, 2, 100, 2000)) + data[stop:]


def _insert(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, _stop = _span(rng, data)
    return data[:start] + rng.choice(WORDS) + data[start:]


def _number(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    size = rng.choice((1, 2, 4, 8))
    value = (rng.choice(NUMBERS) + rng.choice((0, 0, -1, 1))) % (1 << (8 * size))
    start = rng.randint(0, max(0, len(data) - size))
    return data[:start] + value.to_bytes(size, rng.choice(("little", "big"))) + data[start + size :]


def _varint(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start = rng.randint(0, len(data))
    stop = start
    while stop < len(data) and data[stop] > 0x7F:
        stop += 1
    return data[:start] + varint(rng.choice(NUMBERS)) + data[stop + 1 :]


def _digits(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(DIGITS.finditer(data[:20000]))
    if not found:
        return _flip(rng, data, ())
    one = rng.choice(found)
    sign = rng.choice((b"", b"", b"-"))
    value = rng.choice((b"%d" % rng.choice(NUMBERS), b"9" * rng.choice((30, 5000)), b"1e400"))
    return data[: one.start()] + sign + value + data[one.end() :]


def _splice(rng: Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    other = rng.choice(pool) if pool else data
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


_BYTES = (_flip, _flip, _truncate, _remove, _repeat, _insert, _number, _varint, _digits, _splice)


# -------------------------------------------------------------------------------------- JSON


def mutate_json(rng: Random, data: bytes, pool: Sequence[bytes] = ()) -> bytes:
    """One change of a value, a key or the text."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data, pool)
    try:
        value = json.loads(data.decode("utf-8", "surrogatepass"))
        return _dumped(_changed(rng, value))
    except (ValueError, RecursionError):
        return mutate_bytes(rng, data, pool)


class _Raw:
    """JSON that Python can't write."""

    def __init__(self, text: str) -> None:
        self.text = text


def _dumped(value: Any) -> bytes:
    raw: List[str] = []

    def stand_in(one: Any) -> str:
        raw.append(one.text)
        return "\0raw%d\0" % (len(raw) - 1)

    text = json.dumps(value, default=stand_in)
    for number, one in enumerate(raw):
        text = text.replace('"\\u0000raw%d\\u0000"' % number, one)
    return text.encode("utf-8", "surrogatepass")


def _changed(rng: Random, value: Any) -> Any:
    """``value``, or something in it, replaced, removed, doubled or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        keys = list(value)
        key = rng.choice(keys)
        changed = dict(value)
        kind = rng.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.2:
            changed[rng.choice((key + "x", "", "error", "\0", "\ud800"))] = changed.pop(key)
        elif kind < 0.3:
            changed[key] = value[rng.choice(keys)]
        else:
            changed[key] = _changed(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        changed_list = list(value)
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.1:
            del changed_list[place]
        elif kind < 0.25:
            changed_list[place:place] = [value[place]] * rng.choice((1, 2, 70, 3000))
        elif kind < 0.3:
            rng.shuffle(changed_list)
        else:
            changed_list[place] = _changed(rng, value[place])
        return changed_list
    if isinstance(value, str) and rng.random() < 0.4:
        octets = mutate_bytes(rng, value.encode("utf-8", "surrogatepass"))
        return octets.decode("utf-8", rng.choice(("replace", "ignore")))
    return _any_value(rng)


def _any_value(rng: Random) -> Any:
    kind = rng.randrange(10)
    if kind < 3:
        return rng.choice(NUMBERS) * rng.choice((1, -1))
    if kind == 3:
        depth = rng.choice((10, 200, 900, 950, 990, 5000, 100000))
        begin, end = rng.choice((("[", "]"), ('{"a":', "}")))
        return _Raw(begin * depth + "1" + end * depth)
    if kind == 4:
        return _Raw(rng.choice(("NaN", "-Infinity", "1e999", "-0", "9" * 5000, "1" + "0" * 400)))
    if kind == 5:
        return rng.choice((0.5, -1.5, 1e308, 5e-324, 1.0, 2.0))
    if kind == 6:
        return rng.choice(
            ("", "\0", "\ud800", "a" * 300, "x" * 5000, "../../x", "/", "..", "\u0130")
        )
    if kind == 7:
        return rng.choice(([], {}, [[]], [{}], {"a": []}, [None], [1, "a"], ["a", "b"]))
    return rng.choice((None, True, False, "float32", "object", "bert", "O", "i4,i4", "S0", "M8"))
