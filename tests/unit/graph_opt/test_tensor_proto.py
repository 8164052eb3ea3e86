from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from unit.graph_opt.engines import import_tensorflow

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.tensor_proto import (
    Room,
    array_of,
    octets,
    shape_of,
    shape_proto,
    tensor_proto,
)
from bert_serving.graph_opt.tf_messages import TensorProto

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES = INTEGERS + ["float16", "float32", "float64", "bool"]


def proto_of(dtype, shape, **fields):
    proto = TensorProto(dtype=dtype, **fields)
    proto.tensor_shape.CopyFrom(shape_proto(shape))
    return proto


@given(
    st.sampled_from(DTYPES + ["complex64", "complex128"]).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=4))
    )
)
def test_an_array_comes_back(array):
    proto = TensorProto.FromString(tensor_proto(array).SerializeToString())
    back = array_of(proto)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert not back.flags.writeable


@given(st.lists(st.binary(max_size=5), max_size=4))
def test_strings_come_back(values):
    array = np.empty(len(values), object)
    array[:] = values
    assert list(array_of(tensor_proto(array))) == values


def test_text_is_written_as_utf8():
    assert list(array_of(tensor_proto(np.array(["ä"], object)))) == ["ä".encode()]
    with pytest.raises(GraphError, match="holds a int"):
        tensor_proto(np.array([1], object))


@pytest.mark.parametrize("dtype", DTYPES + ["complex64", "complex128"])
@pytest.mark.parametrize("values", [[1], [1, 0], [1, 0, 1, 1, 0, 0]])
def test_values_one_by_one_repeat_the_last(dtype, values):

    tf = import_tensorflow()

    fields = {
        "float16": ("half_val", np.array(values, np.float16).view(np.uint16).tolist()),
        "complex64": ("scomplex_val", [part for value in values for part in (value, 0)]),
        "complex128": ("dcomplex_val", [part for value in values for part in (value, 0)]),
    }
    name = {"float32": "float", "float64": "double", "uint32": "uint32", "uint64": "uint64"}
    name.update({"int64": "int64", "bool": "bool"})
    field, listed = fields.get(dtype, (name.get(dtype, "int") + "_val", values))
    compact = proto_of(tf.as_dtype(dtype).as_datatype_enum, (2, 3), **{field: listed})
    expected = values + values[-1:] * (6 - len(values))
    array = array_of(compact)
    assert array.dtype == np.dtype(dtype)
    assert array.ravel().tolist() == expected
    if dtype in ("uint32", "uint64") and tf.__version__.startswith("1."):
        return  # which TensorFlow 1.15 can't make an array of
    theirs = type(tf.make_tensor_proto(0)).FromString(compact.SerializeToString())
    np.testing.assert_array_equal(array, tf.make_ndarray(theirs))


def test_bfloat16():
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    array = np.array([1.5, -2, 0], dtype)
    assert array_of(tensor_proto(array)).tolist() == array.tolist()
    listed = proto_of(14, (3,), half_val=array.view(np.uint16).tolist())
    assert array_of(listed).tolist() == array.tolist()


def test_negative_small_integers():
    assert array_of(proto_of(6, (2,), int_val=[-1, -128])).tolist() == [-1, -128]


def test_no_values_are_zeros():
    assert array_of(proto_of(1, (2,))).tolist() == [0.0, 0.0]
    assert array_of(proto_of(7, (2,))).tolist() == [b"", b""]
    assert array_of(proto_of(3, (0, 2))).shape == (0, 2)


def test_packed_strings():
    proto = proto_of(7, (3,), tensor_content=b"\x01\x00\x02abc")
    assert array_of(proto).tolist() == [b"a", b"", b"bc"]


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (proto_of(1, (2,), tensor_content=b"abc"), r"float32 \[2\] has 3 bytes"),
        (proto_of(1, (None,), float_val=[1]), "unknown dimension"),
        (proto_of(1, None, float_val=[1]), "unknown shape"),
        (proto_of(1, (2**31, 2**31), float_val=[1]), "claims to have the shape"),
        (proto_of(1, (2**26,), float_val=[1, 2]), "far more values than are stored"),
        (proto_of(1, (0, 2**62), float_val=[]), "claims to have the shape"),
        (proto_of(1, (1,) * 33, float_val=[1]), "33 dimensions"),
        (proto_of(20, ()), "type resource can't be read"),
        (proto_of(0, ()), "type invalid can't be read"),
        (proto_of(8, (1,), scomplex_val=[1.0]), "half a value"),
        (proto_of(7, (2,), tensor_content=b"\x01"), "strings is damaged"),
        (proto_of(7, (1,), tensor_content=b"\x05ab"), "strings has 3 bytes"),
    ],
)
def test_damaged_tensors(proto, message):
    with pytest.raises(GraphError, match=message):
        array_of(proto)


def test_the_tensors_of_a_file_share_its_room():
    room = Room()
    proto = proto_of(1, (2**24,), float_val=[1])
    assert array_of(proto, room).nbytes == 2**26
    array_of(proto, room)
    with pytest.raises(GraphError, match="far more values than are stored"):
        array_of(proto, room)


@pytest.mark.parametrize("shape", [None, (), (None,), (2, None, 0)])
def test_shapes_come_back(shape):
    assert shape_of(shape_proto(shape)) == shape


def test_octets_are_little_endian_and_in_c_order():
    array = np.asfortranarray(np.arange(4, dtype=">i2").reshape(2, 2))
    assert bytes(octets(array)) == b"\0\0\1\0\2\0\3\0"
