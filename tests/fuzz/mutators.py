"""Damaging inputs: blindly, or so that a format's outer layers stay whole and inner ones break."""

from __future__ import annotations

import json
import random
import re
import struct
from typing import Any, Callable, List, Sequence, Tuple

from fuzz.container import Entry, pack, unpack

from bert_serving.graph_opt.sources.crc32c import masked_crc32c
from bert_serving.graph_opt.sources.leveldb_table import TableError, read_table
from bert_serving.graph_opt.sources.wire import WireError, read_varint

__all__ = ["mutate_bytes", "mutate_container", "mutate_json", "mutate_proto", "varint"]

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


# ---------------------------------------------------------------------------------- protobuf


def mutate_proto(rng: Random, data: bytes, pool: Sequence[bytes] = ()) -> bytes:
    """One change of a field, at any depth, with the sizes of what is around it put right."""
    if rng.random() < 0.1:
        return mutate_bytes(rng, data, pool)
    fields = _fields(data)
    if not fields:
        return mutate_bytes(rng, data, pool)
    place = _weighted(rng, fields)
    tag, raw = fields[place]
    kind = rng.random()
    # Long fields are descended into: most of a graph's bytes lie deep.
    if tag & 7 == 2 and len(raw) > 1 and rng.random() < 0.85 and _fields(raw):
        fields[place] = tag, mutate_proto(rng, raw, ())
    elif kind < 0.12:
        del fields[place]
    elif kind < 0.24:
        fields[place:place] = [fields[place]] * rng.choice((1, 1, 2, 50, 1000))
    elif kind < 0.34:
        other = rng.randrange(len(fields))
        fields[place], fields[other] = fields[other], fields[place]
    elif kind < 0.44:
        fields[place] = tag, fields[_weighted(rng, fields)][1]
    elif kind < 0.5:
        fields[place] = (rng.randrange(1, 20) << 3) | tag & 7, raw
    elif tag & 7 == 0:
        fields[place] = tag, varint(rng.choice(NUMBERS) + rng.choice((0, 0, -1)))
    elif tag & 7 == 2:
        fields[place] = tag, _other_text(rng, raw, data)
    else:
        fields[place] = tag, mutate_bytes(rng, raw)[: len(raw)].ljust(len(raw), b"\0")
    return _joined(fields)


def _other_text(rng: Random, raw: bytes, data: bytes) -> bytes:
    words = re.findall(rb"[A-Za-z][\w/:^-]{1,40}", data[:65536])
    if words and rng.random() < 0.6:
        return bytes(rng.choice(words))
    return mutate_bytes(rng, raw)


def _weighted(rng: Random, fields: Sequence[Tuple[int, bytes]]) -> int:
    sizes = [len(raw) + 2 for _, raw in fields]
    if rng.random() < 0.3:
        return rng.randrange(len(fields))
    return rng.choices(range(len(fields)), sizes)[0]


def _fields(data: bytes) -> List[Tuple[int, bytes]]:
    """(tag, content); nothing if it is no message."""
    result = []
    position = 0
    try:
        while position < len(data):
            tag, position = read_varint(data, position)
            kind = tag & 7
            if not 0 < tag >> 3 < 1000 or kind in (3, 4, 6, 7):
                return []
            if kind == 0:
                _, stop = read_varint(data, position)
            elif kind == 2:
                size, position = read_varint(data, position)
                stop = position + size
            else:
                stop = position + (8 if kind == 1 else 4)
            if stop > len(data):
                return []
            result.append((tag, data[position:stop]))
            position = stop
    except WireError:
        return []
    return result


def _joined(fields: Sequence[Tuple[int, bytes]]) -> bytes:
    return b"".join(
        varint(tag) + (varint(len(raw)) if tag & 7 == 2 else b"") + raw for tag, raw in fields
    )


# ---------------------------------------------------------------------------- files of models


def mutate_table(rng: Random, data: bytes, pool: Sequence[bytes] = ()) -> bytes:
    """One change of a LevelDB table, whose checksums are made to fit mostly."""
    if rng.random() < 0.1:
        return mutate_bytes(rng, data, pool)
    try:
        pairs = sorted(read_table(data).items())
    except TableError:
        return mutate_bytes(rng, data, pool)
    if rng.random() < 0.2:
        return table(pairs, rng=rng)
    if not pairs:
        return table([(b"", b"\x08\x01")])
    place = rng.randrange(len(pairs))
    key, value = pairs[place]
    kind = rng.random()
    if kind < 0.1:
        del pairs[place]
    elif kind < 0.2:
        pairs[place] = mutate_bytes(rng, key), value
    elif kind < 0.3:
        pairs[place] = key, rng.choice(pairs)[1]
    else:
        pairs[place] = key, mutate_proto(rng, value)
    return table(pairs if rng.random() < 0.1 else sorted(pairs))


def table(pairs: Sequence[Tuple[bytes, bytes]], rng: Any = None) -> bytes:
    """A LevelDB table of one block; ``rng`` damages a block before its checksum is made."""
    body = _block(pairs)
    index = _block([(b"\xff", varint(0) + varint(len(body)))])
    if rng is not None:
        if rng.random() < 0.5:
            body = mutate_bytes(rng, body)
        else:
            index = mutate_bytes(rng, index)
    blocks = b""
    handles = []
    for block in (body, index):
        handles.append(varint(len(blocks)) + varint(len(block)))
        blocks += block + b"\0" + struct.pack("<I", masked_crc32c(block + b"\0"))
    footer = (varint(0) + varint(0) + handles[1]).ljust(40, b"\0")
    return blocks + footer + struct.pack("<Q", 0xDB4775248B80FB57)


def _block(pairs: Sequence[Tuple[bytes, bytes]]) -> bytes:
    body = b""
    before = b""
    for key, value in pairs:
        shared = 0
        while shared < min(len(before), len(key)) and before[shared] == key[shared]:
            shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value))
        body += key[shared:] + value
        before = key
    return body + struct.pack("<II", 0, 1)


def mutate_safetensors(rng: Random, data: bytes, pool: Sequence[bytes] = ()) -> bytes:
    """One change of the header, whose size is put right, or of any bytes."""
    if rng.random() < 0.25 or len(data) < 8:
        return mutate_bytes(rng, data, pool)
    (size,) = struct.unpack("<Q", data[:8])
    header = mutate_json(rng, data[8 : 8 + size])
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


_BY_SUFFIX: Tuple[Tuple[str, Callable[..., bytes]], ...] = (
    (".json", mutate_json),
    (".progress", mutate_json),
    (".safetensors", mutate_safetensors),
    (".index", mutate_table),
    (".meta", mutate_proto),
    (".pb", mutate_proto),
)


def mutate_container(rng: Random, data: bytes, pool: Sequence[bytes] = ()) -> bytes:
    """One change of one entry, by its kind, or of which entries there are."""
    entries = unpack(data)
    if not entries or rng.random() < 0.02:
        return mutate_bytes(rng, data, pool)
    place = rng.randrange(len(entries))
    name, content = entries[place]
    kind = rng.random()
    if kind < 0.03:
        del entries[place]
    elif kind < 0.05:
        entries.insert(place, entries[place])
    elif kind < 0.08:
        other = _other(rng, pool, name)
        entries[place] = name, other[1]
    elif kind < 0.1:
        entries[place] = name, rng.choice(entries)[1]
    else:
        mutate = next((one for end, one in _BY_SUFFIX if name.endswith(end)), mutate_bytes)
        entries[place] = name, mutate(rng, content)
    return pack(entries)


def _other(rng: Random, pool: Sequence[bytes], name: str) -> Entry:
    """An entry of the same name of another input, if there is one."""
    found = unpack(rng.choice(pool)) if pool else []
    same = [one for one in found if one[0] == name]
    return rng.choice(same or found or [(name, b"")])
