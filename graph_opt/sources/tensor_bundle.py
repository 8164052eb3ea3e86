"""Reading TensorFlow's checkpoint format, the tensor bundle, without TensorFlow.

``PREFIX.index`` is a LevelDB table: the key "" holds a BundleHeaderProto, each other key is a
tensor's name and holds a BundleEntryProto. ``PREFIX.data-00000-of-00001`` and so on hold the
tensors' bytes. See tensorflow/core/protobuf/tensor_bundle.proto and
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Dict, Tuple

import numpy as np

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.graph import Variable
from bert_serving.graph_opt.sources.crc32c import masked_crc32c
from bert_serving.graph_opt.sources.leveldb_table import TableError, read_table
from bert_serving.graph_opt.sources.wire import WireError, grouped, signed

__all__ = ["Bundle", "read_bundle"]

# tensorflow/core/framework/types.proto
_DTYPES = {1: "float32", 2: "float64", 3: "int32", 9: "int64", 10: "bool", 19: "float16"}


@dataclass(frozen=True)
class Bundle:
    """The tensors of a checkpoint by name, unread, and the files that they are in."""

    variables: Dict[str, Variable]
    files: Tuple[Path, ...]


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: np.dtype
    shape: Tuple[int, ...]
    shard: Path
    offset: int
    size: int
    crc32c: int


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
        entries = [_entry(key, value, shards) for key, value in table.items()]
    except (TableError, WireError) as error:
        raise ModelError("%s isn't a readable checkpoint index: %s" % (index, error)) from error
    variables = {}
    for entry in entries:
        _check_extent(entry)
        load = partial(_load, entry)
        variables[entry.name] = Variable(entry.name, entry.shape, entry.dtype, load)
    return Bundle(variables, (index,) + shards)


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
    shards = tuple(
        Path("%s.data-%05d-of-%05d" % (prefix, number, count)) for number in range(count)
    )
    for shard in shards:
        if not shard.is_file():
            raise ModelError("%s is missing; %s needs it" % (shard, index))
    return shards


def _entry(key: bytes, value: bytes, shards: Tuple[Path, ...]) -> _Entry:
    values = grouped(value)
    numbers = {}
    for number in (1, 3, 4, 5, 6):
        field = values.get(number, [0])[0]
        if not isinstance(field, int):
            raise WireError("field %d of an entry has the wrong type" % number)
        numbers[number] = field
    name = key.decode("utf-8", "replace")
    if 7 in values:
        raise WireError("the tensor %r is stored in slices; save the model unpartitioned" % name)
    if numbers[3] >= len(shards):
        raise WireError(
            "the tensor %r lies in data file %d of %d" % (name, numbers[3], len(shards))
        )
    dtype, shape = np.dtype(_DTYPES.get(numbers[1], "void")), _shape(values.get(2, [b""])[0], name)
    size = dtype.itemsize
    for dimension in shape:
        size *= dimension
    if numbers[1] in _DTYPES and size != numbers[5]:
        raise WireError(
            "the tensor %r of %s %s has %d bytes" % (name, dtype, list(shape), numbers[5])
        )
    return _Entry(name, dtype, shape, shards[numbers[3]], numbers[4], numbers[5], numbers[6])


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
    return tuple(shape)


def _check_extent(entry: _Entry) -> None:
    end = entry.offset + entry.size
    actual = entry.shard.stat().st_size
    if end > actual:
        raise ModelError(
            "%s is cut off: the tensor %r ends at byte %d, the file at %d; copy or download it"
            " again" % (entry.shard, entry.name, end, actual)
        )


def _load(entry: _Entry) -> np.ndarray:
    """Map a tensor into memory, read-only, and verify its checksum."""
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
