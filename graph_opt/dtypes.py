"""TensorFlow's data types and numpy's: numbers, as in tensorflow/core/framework/types.proto."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Union

import numpy as np

from bert_serving.graph_opt.errors import GraphError, OptionError

__all__ = [
    "RESOURCE",
    "STRING",
    "VARIANT",
    "DataType",
    "Opaque",
    "bfloat16",
    "data_type_number",
    "dtype_of",
]

# A reference to a tensor (what VariableV2 gives) has the number of the plain type plus this.
_REFERENCE = 100
_BFLOAT16 = 14


@dataclass(frozen=True)
class Opaque:
    """A data type that no array has here, e.g. handles of variables; equal if the numbers are.

    numpy before 1.20 raises a TypeError where a dtype is compared with one: ask with ``is`` or
    isinstance first. There is only one RESOURCE and one VARIANT.
    """

    name: str
    number: int

    def __str__(self) -> str:
        return self.name


DataType = Union[np.dtype, Opaque]

STRING = np.dtype(object)
RESOURCE = Opaque("resource", 20)
VARIANT = Opaque("variant", 21)

_NUMBERS: Mapping[int, np.dtype] = {
    1: np.dtype("float32"),
    2: np.dtype("float64"),
    3: np.dtype("int32"),
    4: np.dtype("uint8"),
    5: np.dtype("int16"),
    6: np.dtype("int8"),
    7: STRING,
    8: np.dtype("complex64"),
    9: np.dtype("int64"),
    10: np.dtype("bool"),
    17: np.dtype("uint16"),
    18: np.dtype("complex128"),
    19: np.dtype("float16"),
    22: np.dtype("uint32"),
    23: np.dtype("uint64"),
}
_BY_DTYPE: Mapping[np.dtype, int] = {dtype: number for number, dtype in _NUMBERS.items()}
_OPAQUE: Mapping[int, Opaque] = {
    RESOURCE.number: RESOURCE,
    VARIANT.number: VARIANT,
    0: Opaque("invalid", 0),
    11: Opaque("qint8", 11),
    12: Opaque("quint8", 12),
    13: Opaque("qint32", 13),
    15: Opaque("qint16", 15),
    16: Opaque("quint16", 16),
}


def bfloat16() -> np.dtype:
    """The dtype of brain floating point, 16 bits: ml_dtypes registers it with numpy.

    Raises:
        OptionError: ml_dtypes isn't installed.
    """
    try:
        import ml_dtypes
    except ImportError:
        raise OptionError(
            "bfloat16 needs the package ml_dtypes, which exists for Python 3.9 and later: install"
            " it, or use fp16"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def dtype_of(number: int) -> DataType:
    """The dtype of a DataType number; a reference type gives the type it refers to.

    What numpy can't hold is :class:`Opaque`, so that a graph may contain it where it isn't needed.
    That goes for bfloat16, too, where ml_dtypes isn't installed.
    """
    if number > _REFERENCE:
        number -= _REFERENCE
    if number in _NUMBERS:
        return _NUMBERS[number]
    if number == _BFLOAT16:
        try:
            return bfloat16()
        except OptionError:
            return Opaque("bfloat16", _BFLOAT16)
    return _OPAQUE.get(number) or Opaque("data type %d" % number, number)


def data_type_number(dtype: Any) -> int:
    """The DataType number of a dtype, or of what :class:`numpy.dtype` makes one of.

    Raises:
        GraphError: TensorFlow has no such type.
    """
    if isinstance(dtype, Opaque):
        return dtype.number
    plain = np.dtype(dtype)
    if plain.kind != "V":
        plain = plain.newbyteorder("=")
    if plain in _BY_DTYPE:
        return _BY_DTYPE[plain]
    if plain.name == "bfloat16":
        return _BFLOAT16
    raise GraphError("TensorFlow has no data type for numpy's %s" % plain)
