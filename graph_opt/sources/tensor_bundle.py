"""Reading TensorFlow's checkpoint format, the tensor bundle, without TensorFlow.

``PREFIX.index`` is a LevelDB table: the key "" holds a BundleHeaderProto, each other key is a
tensor's name and holds a BundleEntryProto. ``PREFIX.data-00000-of-00001`` and so on hold the
tensors' bytes. The entry of a partitioned tensor says which slices there are; each has an entry of
its own under a key that encodes name and slice.

See tensorflow/core/protobuf/tensor_bundle.proto and
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.dtypes import STRING, dtype_of
from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.graph import Variable
from bert_serving.graph_opt.sources.crc32c import masked_crc32c
from bert_serving.graph_opt.sources.leveldb_table import TableError, read_table
from bert_serving.graph_opt.sources.tensor_slices import TensorSlice, overlap, within
from bert_serving.graph_opt.sources.wire import WireError, grouped, signed

__all__ = ["Bundle", "read_bundle"]

Ranges = Sequence[Tuple[int, int]]

# Of TensorFlow's shapes.
_MOST_DIMENSIONS = 254
# Tensors don't share bytes in what TensorFlow writes. Those that do are read, within bounds: a
# small file mustn't claim to be any number of large tensors.
_MOST_READERS = 16


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: np.dtype
    shape: Tuple[int, ...]
    shard: Path
    offset: int
    size: int
    crc32c: int
    # Where the tensor is partitioned: (start, end) in each dimension, and the slice's entry.
    parts: Tuple[Tuple[Ranges, "_Entry"], ...] = ()


@dataclass(frozen=True)
class Bundle:
    """The tensors of a checkpoint by name, unread, and the files that they are in."""

    variables: Dict[str, Variable]
    files: Tuple[Path, ...]
    _entries: Mapping[str, _Entry] = field(repr=False)

    def load_part(self, name: str, ranges: Ranges) -> np.ndarray:
        """A part of a tensor: from start to end in each dimension, however it is stored.

        Raises:
            ModelError: a file is damaged, or the stored slices don't cover the part.
        """
        return _load_part(self._entries[name], ranges)


def read_bundle(prefix: Path) -> Bundle:
    """Read the index of a checkpoint; data are read and verified when a variable is loaded.

    A tensor of a type that no model here uses has the dtype void and can't be loaded.

    Raises:
        ModelError: a file is missing, cut off or damaged; the message names it.
    """
    index = Path(str(prefix) + ".index")
    try:
        data = index.read_bytes()
    except FileNotFoundError:
        raise ModelError(_missing(prefix, index)) from None
    except OSError as error:
        raise ModelError("can't read %s: %s" % (index, error.strerror or error)) from error
    try:
        table = read_table(data)
        shards = _shards(prefix, index, table.pop(b"", None))
        entries = [
            _entry(key.decode("utf-8", "replace"), value, shards, table)
            for key, value in table.items()
            if not key.startswith(b"\0")  # a slice, which another entry refers to
        ]
    except (TableError, WireError) as error:
        raise ModelError("%s isn't a readable checkpoint index: %s" % (index, error)) from error
    variables = {}
    _check_extents(index, shards, entries)
    for entry in entries:
        load = partial(_load, entry)
        variables[entry.name] = Variable(entry.name, entry.shape, entry.dtype, load)
    return Bundle(variables, (index,) + shards, {entry.name: entry for entry in entries})


def _missing(prefix: Path, index: Path) -> str:
    message = "the checkpoint index %s is missing" % index
    found = sorted(path.name[: -len(".index")] for path in prefix.parent.glob("*.index"))
    if found:
        return "%s; the directory has the checkpoint %s: name it with -ckpt_name" % (
            message,
            ", ".join(found),
        )
    return message


def _shards(prefix: Path, index: Path, header: object) -> Tuple[Path, ...]:
    if not isinstance(header, bytes):
        raise ModelError("%s has no header" % index)
    values = grouped(header)
    count = values.get(1, [0])[0]
    if not isinstance(count, int) or not 0 < count < 100000:
        raise ModelError("%s: its header says that there are %r data files" % (index, count))
    if values.get(2, [0])[0] != 0:
        raise ModelError("%s was written on a big-endian machine, which isn't supported" % index)
    shards = []
    for number in range(count):
        shard = Path("%s.data-%05d-of-%05d" % (prefix, number, count))
        if not shard.is_file():
            raise ModelError("%s is missing; %s needs it" % (shard, index))
        shards.append(shard)
    return tuple(shards)


def _entry(
    name: str, value: bytes, shards: Tuple[Path, ...], table: Mapping[bytes, bytes]
) -> _Entry:
    values = grouped(value)
    numbers = {}
    for number in (1, 3, 4, 5, 6):
        field = values.get(number, [0])[0]
        if not isinstance(field, int):
            raise WireError("field %d of an entry has the wrong type" % number)
        numbers[number] = field
    if numbers[3] >= len(shards):
        raise WireError(
            "the tensor %r lies in data file %d of %d" % (name, numbers[3], len(shards))
        )
    dtype, shape = _dtype(numbers[1]), _shape(values.get(2, [b""])[0], name)
    parts = _parts(name, dtype, shape, values.get(7, []), shards, table)
    size = dtype.itemsize
    for dimension in shape:
        size *= dimension
    # Slices that overlap, or leave some out, aren't written.
    stored = sum(part.size for _, part in parts) if parts else numbers[5]
    if dtype.kind != "V" and size != stored:
        raise WireError("the tensor %r of %s %s has %d bytes" % (name, dtype, list(shape), stored))
    shard = shards[numbers[3]]
    return _Entry(name, dtype, shape, shard, numbers[4], numbers[5], numbers[6], parts)


def _dtype(number: int) -> np.dtype:
    """The dtype of arrays that lie in the data files as they are in memory; void for others."""
    dtype = dtype_of(number)
    plain = isinstance(dtype, np.dtype) and dtype.kind in "biufc" and dtype != STRING
    return dtype if isinstance(dtype, np.dtype) and plain else np.dtype("void")


def _parts(
    name: str,
    dtype: np.dtype,
    shape: Tuple[int, ...],
    slices: Sequence[object],
    shards: Tuple[Path, ...],
    table: Mapping[bytes, bytes],
) -> Tuple[Tuple[Ranges, _Entry], ...]:
    """The slices that a tensor is stored in."""
    parts = []
    for data in slices:
        if not isinstance(data, bytes):
            raise WireError("the tensor %r is stored in slices that say nothing" % name)
        one = TensorSlice.from_proto(data)
        value = table.get(one.key(name))
        if value is None:
            raise WireError("the tensor %r is stored in slices, of which one is missing" % name)
        try:
            ranges = one.ranges(shape)
        except ValueError as error:
            raise WireError("the tensor %r %s has %s" % (name, list(shape), error)) from error
        entry = _entry(name, value, shards, {})
        if entry.dtype != dtype or entry.shape != tuple(end - start for start, end in ranges):
            raise WireError("the tensor %r has a slice of another shape or type" % name)
        parts.append((ranges, entry))
    return tuple(parts)


def _shape(data: object, name: str) -> Tuple[int, ...]:
    """TensorShapeProto: dimensions are field 2, their sizes field 1."""
    if not isinstance(data, bytes):
        raise WireError("the tensor %r has no shape" % name)
    shape = []
    for dimension in grouped(data).get(2, []):
        size = grouped(dimension).get(1, [0])[0] if isinstance(dimension, bytes) else None
        if not isinstance(size, int) or signed(size) < 0:
            raise WireError("the tensor %r has an unknown dimension" % name)
        shape.append(size)
    if len(shape) > _MOST_DIMENSIONS:
        raise WireError("the tensor %r has %d dimensions" % (name, len(shape)))
    return tuple(shape)


def _check_extents(index: Path, shards: Tuple[Path, ...], entries: Sequence[_Entry]) -> None:
    """Raise ModelError if the tensors can't lie in the data files."""
    sizes = {shard: shard.stat().st_size for shard in shards}
    claimed = 0
    for entry in entries:
        for stored in [part for _, part in entry.parts] or [entry]:
            end = stored.offset + stored.size
            if end > sizes[stored.shard]:
                raise ModelError(
                    "%s is cut off: the tensor %r ends at byte %d, the file at %d; copy or "
                    "download it again" % (stored.shard, stored.name, end, sizes[stored.shard])
                )
            claimed += stored.size
    if claimed > _MOST_READERS * sum(sizes.values()):
        raise ModelError(
            "%s is damaged: its tensors have %d bytes, its data files %d; copy or download it again"
            % (index, claimed, sum(sizes.values()))
        )


def _load(entry: _Entry) -> np.ndarray:
    """Map a tensor into memory, read-only, and verify its checksum; put slices together."""
    if entry.parts:
        return _load_part(entry, [(0, size) for size in entry.shape])
    if entry.size == 0:
        return np.zeros(entry.shape, entry.dtype)
    try:
        octets = np.memmap(str(entry.shard), np.uint8, "r", entry.offset, (entry.size,))
    except (OSError, ValueError) as error:
        raise ModelError("can't read %s: %s" % (entry.shard, error)) from error
    if masked_crc32c(octets) != entry.crc32c:
        raise ModelError(
            "%s is damaged: the checksum of the tensor %r is wrong; copy or download it again"
            % (entry.shard, entry.name)
        )
    return octets.view(entry.dtype.newbyteorder("<")).reshape(entry.shape)


def _load_part(entry: _Entry, ranges: Ranges) -> np.ndarray:
    if not entry.parts:
        return _load(entry)[within(ranges, [(0, size) for size in entry.shape])]
    result = np.empty([end - start for start, end in ranges], entry.dtype)
    missing = np.ones(result.shape, bool)
    for stored, part in entry.parts:
        shared = overlap(stored, ranges)
        if shared is not None:
            target = within(shared, ranges)
            result[target] = _load(part)[within(shared, stored)]
            missing[target] = False
    if missing.any():
        raise ModelError(
            "%s: the slices of the tensor %r don't cover it: save the model again"
            % (entry.shard, entry.name)
        )
    return result
