from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.support import GOLDEN

from bert_serving.graph_opt.dtypes import RESOURCE, STRING, VARIANT
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.graph_def import (
    AttrReference,
    Function,
    node_def,
    node_of_def,
    nodes_of,
)
from bert_serving.graph_opt.tf_messages import (
    GraphDef,
    MessageError,
    MetaGraphDef,
    NodeDef,
    decoded,
)

FLOAT = np.dtype("float32")
DTYPES = st.sampled_from([FLOAT, np.dtype("int64"), np.dtype("bool"), STRING, RESOURCE, VARIANT])
LONG = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32, allow_nan=False)
SIZES = st.none() | st.integers(0, 2**40)
SHAPES = st.none() | st.lists(SIZES, max_size=4).map(tuple)
SCALARS = (LONG, FLOATS, st.booleans(), st.binary(max_size=6), DTYPES)
NAMES = st.text("abcXYZ019", min_size=1, max_size=8)
FUNCTIONS = st.builds(
    Function,
    NAMES,
    st.dictionaries(NAMES, st.one_of(*SCALARS), max_size=2).map(
        lambda attrs: tuple(sorted(attrs.items(), key=lambda pair: pair[0]))
    ),
)
ARRAYS = st.lists(FLOATS, max_size=3).map(lambda values: np.array(values, np.float32))
# A list isn't empty here: what an empty tuple is, the attribute's name says.
LISTS = [st.lists(one, min_size=1, max_size=3).map(tuple) for one in (*SCALARS, SHAPES, FUNCTIONS)]
VALUES = st.one_of(*SCALARS, ARRAYS, FUNCTIONS, *LISTS, NAMES.map(AttrReference))
ATTRS = st.dictionaries(NAMES, VALUES, max_size=4)
INPUTS = st.lists(st.sampled_from(["a", "b:1", "^c", "scope/d:2"]), max_size=3)


def same(one, other):
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
        return one.dtype == other.dtype
    return type(one) is type(other) and one == other


@given(NAMES, NAMES, INPUTS, ATTRS, SHAPES)
def test_a_node_comes_back(name, op, inputs, attrs, shape):
    node = Node(name, op, tuple(inputs), dict(attrs, shape=shape))
    back = node_of_def(NodeDef.FromString(node_def(node).SerializeToString()))
    assert (back.name, back.op, back.inputs) == (node.name, node.op, node.inputs)
    assert set(back.attrs) == set(node.attrs)
    for key, value in node.attrs.items():
        assert same(value, back.attrs[key]), key


@given(st.binary(max_size=200))
def test_random_bytes_give_typed_errors(data):
    with suppress(MessageError, GraphError):
        nodes_of(decoded(GraphDef, data))


@given(st.integers(0, 4000), st.integers(0, 255))
def test_a_damaged_node_gives_typed_errors(position, byte):
    constant = Node("c", "Const", (), {"dtype": FLOAT, "value": np.ones((2, 3), "f4")})
    graph = GraphDef(
        node=[node_def(constant), node_def(Node("x", "Abs", ("c",), {"shape": (2, 3)}))]
    )
    data = bytearray(graph.SerializeToString())
    data[position % len(data)] = byte
    with suppress(MessageError, GraphError):
        nodes_of(decoded(GraphDef, bytes(data)))


def test_a_whole_training_graph_comes_back():
    meta = MetaGraphDef.FromString(
        (GOLDEN / "tf1-tiny" / "classifier" / "model.ckpt-7.meta").read_bytes()
    )
    nodes = nodes_of(meta.graph_def)
    assert len(nodes) == 4998
    for node in nodes:
        back = node_of_def(node_def(node))
        assert (back.name, back.op, back.inputs) == (node.name, node.op, node.inputs)
        assert all(same(value, back.attrs[key]) for key, value in node.attrs.items())


def test_private_attributes_are_dropped():
    proto = node_def(Node("n", "Abs", ("x",), {"T": np.dtype("float32")}))
    for name in ("_class", "_output_shapes", "_XlaCompile"):
        proto.attr[name].b = True
    proto.device = "/gpu:0"
    assert set(node_of_def(proto).attrs) == {"T"}


def test_reference_types_are_read_as_plain_ones():
    proto = NodeDef(name="v", op="Identity")
    proto.attr["T"].type = 101
    assert node_of_def(proto).attrs["T"] == np.dtype("float32")


def test_empty_tuples_are_told_apart_by_name():
    proto = node_def(Node("n", "Op", (), {"shape": (), "strides": (), "shapes": ((), None)}))
    assert proto.attr["shape"].WhichOneof("value") == "shape"
    assert proto.attr["strides"].WhichOneof("value") == "list"
    assert len(proto.attr["shapes"].list.shape) == 2
    assert proto.attr["shapes"].list.shape[1].unknown_rank


def test_text_is_written_as_a_string():
    assert (
        node_def(Node("n", "BiasAdd", (), {"data_format": "NHWC"})).attr["data_format"].s == b"NHWC"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, "no attribute like"),
        (2**63, "attribute odd"),
        ((1, 2.0), "several kinds"),
        (np.dtype("S3"), "no data type for numpy's"),
    ],
)
def test_what_tensorflow_cannot_hold(value, message):
    with pytest.raises(GraphError, match="Op 'n': the attribute odd: .*|" + message) as raised:
        node_def(Node("n", "Op", (), {"odd": value}))
    assert message in str(raised.value)


def test_a_damaged_constant_is_named():
    proto = node_def(Node("c", "Const", (), {"value": np.ones(2, np.float32)}))
    proto.attr["value"].tensor.tensor_content = b"abc"
    with pytest.raises(GraphError, match=r"Const 'c': a tensor of float32 \[2\] has 3 bytes"):
        nodes_of(GraphDef(node=[proto]))


def test_a_node_needs_a_name_and_an_operation():
    with pytest.raises(GraphError, match="a node '' has the operation 'Abs'"):
        nodes_of(GraphDef(node=[NodeDef(op="Abs")]))
    with pytest.raises(GraphError, match="a node 'n' has the operation ''"):
        nodes_of(GraphDef(node=[NodeDef(name="n")]))
