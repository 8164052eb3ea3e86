"""TensorProto and TensorShapeProto <-> numpy arrays and tuples.

See tensorflow/core/framework/{tensor, tensor_shape}.proto and, for the compressed forms,
``FromProtoField`` in tensorflow/core/framework/tensor.cc.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.dtypes import STRING, data_type_number, dtype_of
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.sources.wire import WireError, read_varint
from bert_serving.graph_opt.tf_messages import TensorProto, TensorShapeProto

__all__ = ["Room", "Shape", "array_of", "octets", "shape_of", "shape_proto", "tensor_proto"]

Shape = Optional[Tuple[Optional[int], ...]]

# A message can't be larger; a few bytes that claim to be more are damaged.
_LIMIT = (1 << 31) - 1
# What the tensors of a file may have beyond what is stored of them, since the last value is
# repeated: those that are one value everywhere are large, and few.
_REPEATED_LIMIT = 1 << 27
# What numpy can hold.
_MOST_DIMENSIONS = 32

_FIELDS: Mapping[str, str] = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "uint16": "int_val",
    "uint8": "int_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "object": "string_val",
}


class Room:
    """How many bytes tensors may still take that their files don't have.

    A few bytes can stand for any number of values; a file can have many such.
    """

    def __init__(self) -> None:
        self._left = _REPEATED_LIMIT

    def take(self, size: int) -> None:
        """Raise GraphError if there isn't as much left."""
        self._left -= size
        if self._left < 0:
            raise GraphError("its tensors claim to have far more values than are stored")


def shape_of(proto: Any) -> Shape:
    """A tuple with None for unknown dimensions, or None if the rank is unknown."""
    if proto.unknown_rank:
        return None
    return tuple(dimension.size if dimension.size >= 0 else None for dimension in proto.dim)


def shape_proto(shape: Shape) -> Any:
    """The TensorShapeProto of a shape."""
    if shape is None:
        return TensorShapeProto(unknown_rank=True)
    proto = TensorShapeProto()
    for size in shape:
        proto.dim.add(size=-1 if size is None else int(size))
    return proto


def array_of(proto: Any, room: Optional[Room] = None) -> np.ndarray:
    """The read-only array of a TensorProto; strings become bytes objects in an object array.

    Values may be given as raw bytes, or one by one, where the last is repeated until the shape is
    filled. ``room`` is that of the file.

    Raises:
        GraphError: a type that numpy lacks, an unknown shape, or data that don't fit the shape.
    """
    dtype = dtype_of(proto.dtype)
    if not isinstance(dtype, np.dtype) or dtype.name not in _FIELDS:
        raise GraphError("a tensor of the type %s can't be read" % dtype)
    shape = _known(proto)
    count = 1
    for size in shape:
        count *= size
    # The other sizes count where one is 0, too: numpy doesn't take them either.
    if count * dtype.itemsize > _LIMIT or max(shape, default=0) > _LIMIT:
        raise GraphError("a tensor claims to have the shape %s" % list(shape))
    content = proto.tensor_content
    if content and dtype == STRING:
        array = _objects(_string_list(content, count))
    elif content:
        if len(content) != count * dtype.itemsize:
            raise GraphError("a tensor of %s %s has %d bytes" % (dtype, list(shape), len(content)))
        array = np.frombuffer(content, _little(dtype)).astype(dtype, copy=False)
    else:
        values = _listed(proto, dtype)
        (room or Room()).take(max(0, count - len(values)) * dtype.itemsize)
        array = _filled(values, count, dtype)
    array = array.reshape(shape)
    array.setflags(write=False)
    return array


def tensor_proto(array: np.ndarray, content: bool = True) -> Any:
    """The TensorProto of an array; without ``content`` the raw bytes of numbers are left out.

    Raises:
        GraphError: TensorFlow has no such type, or an object isn't bytes or str.
    """
    array = np.asarray(array)
    proto = TensorProto(dtype=data_type_number(array.dtype))
    proto.tensor_shape.CopyFrom(shape_proto(array.shape))
    if array.dtype == STRING:
        proto.string_val.extend(_encoded(value) for value in array.ravel())
    elif content:
        proto.tensor_content = bytes(octets(array))
    return proto


def octets(array: np.ndarray) -> Any:
    """The bytes of an array in C order, little-endian, as a buffer."""
    plain = np.ascontiguousarray(array, _little(array.dtype))
    return plain.reshape(-1).view(np.uint8).data


def _little(dtype: np.dtype) -> np.dtype:
    # A dtype that isn't numpy's own can't be told its byte order; it has the machine's.
    return dtype if dtype.kind == "V" else dtype.newbyteorder("<")


def _known(proto: Any) -> Tuple[int, ...]:
    shape = shape_of(proto.tensor_shape)
    if shape is None:
        raise GraphError("a tensor has an unknown shape")
    if len(shape) > _MOST_DIMENSIONS:
        raise GraphError("a tensor has %d dimensions" % len(shape))
    sizes = []
    for size in shape:
        if size is None:
            raise GraphError("a tensor has an unknown dimension")
        sizes.append(size)
    return tuple(sizes)


def _listed(proto: Any, dtype: np.dtype) -> np.ndarray:
    """The values given one by one."""
    values = getattr(proto, _FIELDS[dtype.name])
    if dtype == STRING:
        return _objects(list(values))
    if dtype.name in ("float16", "bfloat16"):
        return np.array(values, np.int64).astype(np.uint16).view(dtype)
    if dtype.kind == "c":
        parts = np.array(values, np.float64)
        if parts.size % 2:
            raise GraphError("a tensor of %s has half a value" % dtype)
        return parts.view(np.complex128).astype(dtype)
    # Integers of few bits come as int32: a wide type takes them all, and astype cuts as C does.
    wide = np.dtype("uint64") if dtype.kind == "u" and dtype.itemsize > 2 else np.dtype("int64")
    return np.array(values, wide if dtype.kind in "iu" else dtype).astype(dtype)


def _filled(values: np.ndarray, count: int, dtype: np.dtype) -> np.ndarray:
    if len(values) >= count:
        return values[:count].copy()
    if len(values) == 0:
        return _objects([b""] * count) if dtype == STRING else np.zeros(count, dtype)
    result = np.empty(count, dtype)
    result[: len(values)] = values
    result[len(values) :] = values[-1]
    return result


def _objects(values: List[bytes]) -> np.ndarray:
    array = np.empty(len(values), STRING)
    array[:] = values
    return array


def _string_list(content: bytes, count: int) -> List[bytes]:
    """All lengths as varints, then all strings: ``EncodeStringList`` in TensorFlow."""
    position, lengths = 0, []
    try:
        for _ in range(count):
            length, position = read_varint(content, position)
            lengths.append(length)
    except WireError as error:
        raise GraphError("a tensor of strings is damaged: %s" % error) from error
    if position + sum(lengths) != len(content):
        raise GraphError("a tensor of strings has %d bytes" % len(content))
    values = []
    for length in lengths:
        values.append(content[position : position + length])
        position += length
    return values


def _encoded(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    raise GraphError("a tensor of strings holds a %s" % type(value).__name__)
