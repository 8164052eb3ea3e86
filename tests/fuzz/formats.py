"""Damaging files so that a format's outer layers stay whole and its inner ones break."""

from __future__ import annotations

import random
import re
import struct
from typing import Any, Callable, List, Sequence, Tuple

from fuzz.container import Entry, pack, unpack
from fuzz.mutators import NUMBERS, mutate_bytes, mutate_json, varint

from bert_serving.graph_opt.sources.crc32c import masked_crc32c
from bert_serving.graph_opt.sources.leveldb_table import TableError, read_table
from bert_serving.graph_opt.sources.wire import WireError, read_varint

__all__ = ["mutate_container", "table"]

Random = random.Random


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
