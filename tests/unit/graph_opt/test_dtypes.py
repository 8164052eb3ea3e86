from __future__ import annotations

import sys

import numpy as np
import pytest
from unit.graph_opt.engines import import_tensorflow

from bert_serving.graph_opt.dtypes import (
    RESOURCE,
    STRING,
    VARIANT,
    Opaque,
    bfloat16,
    data_type_number,
    dtype_of,
)
from bert_serving.graph_opt.errors import GraphError, OptionError

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
PLAIN = INTEGERS + ["float16", "float32", "float64", "bool"]


@pytest.mark.parametrize("name", PLAIN + ["complex64", "complex128", "object"])
def test_numbers_are_tensorflows(name):
    tf = import_tensorflow()
    dtype = np.dtype(name)
    number = tf.as_dtype("string" if name == "object" else name).as_datatype_enum
    assert data_type_number(dtype) == number
    assert dtype_of(number) == dtype


def test_a_reference_is_read_as_its_plain_type():
    assert dtype_of(101) == np.dtype("float32")
    assert dtype_of(107) == STRING


def test_what_numpy_cannot_hold():
    assert dtype_of(20) is RESOURCE
    assert dtype_of(21) is VARIANT
    assert dtype_of(120) is RESOURCE
    for number in (0, 11, 12, 13, 15, 16, 24, 99):
        opaque = dtype_of(number)
        assert isinstance(opaque, Opaque)
        assert data_type_number(opaque) == number
        assert opaque == dtype_of(number) != RESOURCE
    assert str(RESOURCE) == "resource"


def test_bfloat16():
    pytest.importorskip("ml_dtypes")
    assert bfloat16().itemsize == 2
    assert dtype_of(14) == bfloat16()
    assert data_type_number(bfloat16()) == 14


def test_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(OptionError, match="needs the package ml_dtypes"):
        bfloat16()
    # A graph may have it somewhere where it isn't needed.
    assert dtype_of(14) == Opaque("bfloat16", 14)


def test_byte_order_does_not_matter():
    assert data_type_number(np.dtype(">i4")) == 3


@pytest.mark.parametrize("dtype", ["datetime64[s]", "S3", "U2", [("a", "i4")]])
def test_what_tensorflow_cannot_hold(dtype):
    with pytest.raises(GraphError, match="no data type for numpy's"):
        data_type_number(np.dtype(dtype))
