from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.algebra import classifier, classifier_case, encoder
from unit.graph_opt.draft import Draft
from unit.graph_opt.support import small_batch

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.dimensions import Dim, broadcast, cancelled, product, quotient
from bert_serving.graph_opt.passes.shapes import Shapes
from bert_serving.graph_opt.signatures import output_dtypes

SIZES = {"a": 3, "b": 5, "c": 7}
dims = st.builds(
    lambda factor, symbols: Dim(factor, tuple(sorted(symbols))),
    st.integers(1, 12),
    st.lists(st.sampled_from(sorted(SIZES)), max_size=3),
)


def number(dim, sizes=None):
    return dim.factor * int(np.prod([(sizes or SIZES)[one] for one in dim.symbols], dtype=int))


@given(dims, dims)
def test_products_and_quotients_are_exact(one, other):
    whole = product([one, other])
    assert number(whole) == number(one) * number(other)
    assert quotient(whole, other) == one
    divided = quotient(one, other)
    assert divided is None or number(divided) * number(other) == number(one)


@given(dims, dims)
def test_cancelling_keeps_the_ratio(one, other):
    left, right = cancelled(one, other)
    assert number(left) * number(other) == number(right) * number(one)
    assert (left == right) == (one == other)


@given(dims, dims)
def test_a_broadcast_size_is_that_of_numpy(one, other):
    size = broadcast(one, other)
    sizes = [number(one), number(other)]
    if size is not None and (sizes[0] == sizes[1] or 1 in sizes):
        assert number(size) == max(sizes)


def assert_consistent(graph, feeds, least):
    """What is said of every tensor holds at run time, one number for each symbol."""
    shapes = Shapes(graph)
    names = [node.name for node in graph if output_dtypes(node.op, node.attrs)]
    values = run(graph.replaced(outputs=names), feeds)
    sizes = {}
    open_dims = []
    known = 0
    for name in names:
        shape, value = shapes.shape(name), shapes.value(name)
        known += shape is not None
        actual = np.shape(values[name])
        assert shape is None or len(shape) == len(actual), name
        pairs = list(zip(shape or (), actual))
        if value is not None:
            pairs += list(zip(value, np.ravel(values[name])))
            assert len(value) == np.size(values[name])
        for dim, size in pairs:
            if len(dim.symbols) == 1 and dim.factor == 1:
                assert sizes.setdefault(dim.symbols[0], int(size)) == size, (name, dim)
            open_dims.append((name, dim, int(size)))
    for name, dim, size in open_dims:
        if set(dim.symbols) <= set(sizes):
            assert number(dim, sizes) == size, (name, dim)
    assert known >= least * len(names)
    return shapes


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN_MAX", "CLS_POOLED", "LAST_TOKEN", "NONE"])
def test_what_is_said_of_our_own_graph_is_true(strategy):
    shapes = assert_consistent(encoder(strategy, (-1,)), small_batch(), 0.9)
    batch, length, width = shapes.shape("bert/encoder/layer_2/hidden")
    assert (batch.symbols, length.symbols, width) == (("batch",), ("input_ids:1",), Dim(8))
    rows, _ = shapes.shape("bert/encoder/layer_2/output/LayerNorm/AddV2_1")
    assert rows == product([batch, length])


def test_what_is_said_of_the_classifier_is_true():
    feeds, _ = classifier_case()
    shapes = assert_consistent(classifier(), feeds, 0.95)
    rows, width = shapes.shape("bert/encoder/layer_2/output/LayerNorm/batchnorm/add_1")
    assert rows == Dim(1, ("batch", "input_ids:1"))
    assert width == Dim(40)


def test_sizes_that_a_reshape_compares_are_equal():
    draft = Draft()
    draft.input("x", np.zeros((2, 3), np.float32), open_axes=(0, 1))
    draft.input("y", np.zeros((2, 3), np.float32), open_axes=(0, 1))
    shape = draft.op("Shape", ("x",), dtypes={"out_type": "int32"})
    reshaped = draft.op("Reshape", ("y", shape))
    shapes = Shapes(draft.graph([reshaped]))
    assert shapes.shape("x") == shapes.shape("y") == shapes.shape(reshaped)
    # Nobody runs the Reshape: nothing is known.
    unread = Shapes(draft.graph(["x", "y"]))
    assert unread.shape("x") != unread.shape("y")


def test_sequences_of_two_inputs_may_differ():
    draft = Draft()
    for name, length in (("query", 3), ("document", 5)):
        draft.input(name, np.zeros((2, length), np.float32), open_axes=(0, 1))
    shapes = Shapes(draft.graph(["query", "document"]))
    assert shapes.shape("query")[0] == shapes.shape("document")[0]
    assert shapes.shape("query")[1] != shapes.shape("document")[1]


def test_a_placeholder_that_is_not_fed_has_a_batch_of_its_own():
    shape = {"dtype": np.dtype("float32"), "shape": (None, 4)}
    nodes = [Node(name, "Placeholder", (), shape) for name in ("x", "labels")]
    shapes = Shapes(Graph(nodes, ["x"], inputs=["x"]))
    assert shapes.shape("x") != shapes.shape("labels")


def test_what_is_not_known_is_said_to_be_unknown():
    nodes = [
        Node("x", "Placeholder", (), {"dtype": np.dtype("float32"), "shape": None}),
        Node("n", "NobodyKnows", ("x",), {}),
        Node("t", "Tanh", ("n",), {"T": np.dtype("float32")}),
        Node("s", "Shape", ("t",), {"T": np.dtype("float32"), "out_type": np.dtype("int32")}),
    ]
    shapes = Shapes(Graph(nodes, ["s"]))
    assert [shapes.shape(name) for name in "xnts"] == [None] * 4
    assert shapes.value("s") is None
    assert shapes.rank("x") is None
    assert shapes.shape("n:1") is None
