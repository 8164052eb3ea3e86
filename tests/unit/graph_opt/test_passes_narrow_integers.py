from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.support import random_source, small_batch, snapshot

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.passes.intervals import interval_of
from bert_serving.graph_opt.passes.narrow_integers import INT32, narrow_integers
from bert_serving.graph_opt.pipeline import GraphOptions, build
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES

LONG, SHORT = np.dtype("int64"), np.dtype("int32")
around_the_limits = st.one_of(
    st.integers(-(2**62), 2**62),
    st.sampled_from([limit + delta for limit in INT32 for delta in (-1, 0, 1)]),
    st.integers(-10, 10),
)


def gathered(*indices):
    """A table read at constant indices plus those fed."""
    builder = GraphBuilder()
    builder.placeholder("ids", "int64", (None,))
    table = builder.constant(np.arange(10), "float32", "table")
    offset = builder.constant(list(indices), "int64", "offset")
    total = builder.op("AddV2", ("ids", offset), "total")
    axis = builder.constant(0, "int64", "axis")
    return builder.build(builder.op("GatherV2", (table, total, axis), "out", batch_dims=0))


def dtypes_of(graph):
    return {
        (node.name, key): value
        for node in graph
        for key, value in node.attrs.items()
        if isinstance(value, np.dtype)
    }


def wide(graph):
    return {slot for slot, dtype in dtypes_of(graph).items() if dtype == LONG}


@given(st.lists(around_the_limits, min_size=1, max_size=4))
def test_constants_are_narrowed_exactly_if_they_fit(values):
    builder = GraphBuilder()
    shape = builder.constant(values, "int64", "values")
    floats = builder.op("Cast", (shape,), "out", dtypes={"DstT": "float32"})
    narrowed = narrow_integers(builder.build(floats)).graph
    fits = INT32[0] <= min(values) and max(values) <= INT32[1]
    assert (narrowed["values"].attrs["dtype"] == SHORT) == fits
    assert narrowed["out"].attrs["SrcT"] == narrowed["values"].attrs["value"].dtype
    assert narrowed["values"].attrs["value"].tolist() == values


@given(around_the_limits, around_the_limits, st.sampled_from(["AddV2", "Sub", "Mul", "Maximum"]))
def test_results_are_narrowed_exactly_if_they_fit(left, right, op):
    builder = GraphBuilder()
    operands = [builder.constant(value, "int64") for value in (left, right)]
    result = builder.op(op, operands, "result")
    graph = builder.build(builder.op("Cast", (result,), "out", dtypes={"DstT": "float32"}))
    exact = {"AddV2": left + right, "Sub": left - right, "Mul": left * right}.get(
        op, max(left, right)
    )
    # The interval of a maximum is taken wider than it is: from the smaller operand up.
    fits = all(INT32[0] <= value <= INT32[1] for value in (left, right, exact))
    assert (narrow_integers(graph).graph["result"].attrs["T"] == SHORT) == fits


def test_fed_values_plus_a_constant_may_not_fit():
    assert wide(narrow_integers(gathered(0)).graph) == set()
    # 2**31 - 1, which may be fed, plus 1 is too large: ids, offset and total stay as they are.
    assert wide(narrow_integers(gathered(0, 1)).graph) == {
        ("ids", "dtype"),
        ("offset", "dtype"),
        ("total", "T"),
        ("out", "Tindices"),
    }


@pytest.mark.parametrize("strategy", [one for one in POOLING_STRATEGIES if one not in HEADS])
def test_the_model_keeps_its_outputs_and_takes_int32(strategy):
    graph = build(random_source(), GraphOptions(strategy, (-1,)))
    before = snapshot(graph)
    narrowed = narrow_integers(graph).graph
    assert snapshot(graph) == before
    for name in ("input_ids", "input_mask", "input_type_ids"):
        assert narrowed[name].attrs["dtype"] == SHORT
    feeds = dict(small_batch(), **inference_feeds(graph))
    np.testing.assert_array_equal(
        run(narrowed, feeds)["final_encodes"], run(graph, feeds)["final_encodes"]
    )
    left = wide(narrowed)
    if strategy in ("SEP_TOKEN", "LAST_TOKEN"):
        # A length computed in floats could be anything.
        assert left
        assert all(name.startswith("pooling/") for name, _ in left)
    else:
        assert left == set()


def test_an_integer_sum_stays_wide():
    builder = GraphBuilder()
    builder.placeholder("x", "int64", (None,))
    axis = builder.constant([0], "int64", "axis")
    total = builder.op("Sum", ("x", axis), "sum", keep_dims=False)
    graph = builder.build(builder.op("Cast", (total,), dtypes={"DstT": "float32"}))
    assert wide(narrow_integers(graph).graph) == {("x", "dtype"), ("sum", "T"), ("Cast", "SrcT")}


def test_an_integer_output_keeps_its_dtype():
    builder = GraphBuilder()
    builder.placeholder("x", "int64", (None,))
    graph = builder.build(builder.op("Shape", ("x",), "out", dtypes={"out_type": "int64"}))
    assert wide(narrow_integers(graph).graph) == {("out", "out_type")}


def test_casts_from_small_integers_fit():
    builder = GraphBuilder()
    for dtype in ("int32", "bool", "int16"):
        builder.placeholder(dtype, dtype, (None,))
        longer = builder.op("Cast", (dtype,), "long_" + dtype, dtypes={"DstT": "int64"})
        last = builder.op("Cast", (longer,), "out_" + dtype, dtypes={"DstT": "float32"})
    assert wide(narrow_integers(builder.build(last)).graph) == set()


def test_a_graph_without_int64_stays():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None,))
    graph = builder.build(builder.op("Relu", ("x",)))
    assert snapshot(narrow_integers(graph).graph) == snapshot(graph)


def long(builder, values, name="Const"):
    return builder.constant(values, "int64", name)


def slice_of(builder, tensor):
    return builder.op("Slice", (tensor, long(builder, [1]), long(builder, [2])))


def strided_slice_of(builder, tensor):
    bounds = tuple(long(builder, [bound]) for bound in (0, 3, 2))
    masks = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    return builder.op("StridedSlice", (tensor, *bounds), **{"%s_mask" % mask: 0 for mask in masks})


def squeezed(builder, tensor):
    row = builder.op("ExpandDims", (tensor, long(builder, 0)))
    return builder.op("Squeeze", (row,), squeeze_dims=(0,))


def filled(builder, tensor):
    size = builder.op("Size", (tensor,), dtypes={"out_type": "int32"})
    shape = builder.op("Pack", (size,), axis=0)
    return builder.op("Fill", (shape, long(builder, 7)))


def positions(builder, tensor):
    axis = long(builder, 0)
    best = builder.op("ArgMax", (tensor, axis), dtypes={"output_type": "int64"})
    return builder.op("ExpandDims", (best, axis))


def one_hot(builder, tensor):
    depth = builder.constant(3, "int32")
    marks = (long(builder, 5), long(builder, -5))
    rows = builder.op("OneHot", (tensor, depth) + marks, axis=-1)
    return builder.op("Max", (rows, long(builder, [1])), keep_dims=False)


def parts(builder, tensor):
    axis = builder.constant(0, "int32")
    builder.op("Split", (axis, tensor), "halves", num_split=2)
    return builder.op("AddV2", ("halves", "halves:1"))


def unequal_parts(builder, tensor):
    sizes = long(builder, [1, 3])
    axis = builder.constant(0, "int32")
    builder.op("SplitV", (tensor, sizes, axis), "pieces", num_split=2)
    return builder.op("Mul", ("pieces", "pieces:1"))


def unpacked(builder, tensor):
    builder.op("Unpack", (tensor,), "elements", num=4, axis=0)
    return builder.op("Pack", ("elements:3", "elements"), axis=0)


def divided(builder, tensor):
    return builder.op("FloorDiv", (tensor, long(builder, [3])))


def rest(builder, tensor):
    return builder.op("FloorMod", (tensor, long(builder, [3])))


def tiled(builder, tensor):
    return builder.op("Tile", (tensor, long(builder, [2])))


def padded(builder, tensor):
    return builder.op("Pad", (tensor, long(builder, [[1, 1]])))


def added(builder, tensor):
    return builder.op("AddN", (tensor, tensor, tensor))


def turned(builder, tensor):
    return builder.op("Abs", (builder.op("Neg", (tensor,)),))


FOLLOWED = (
    slice_of,
    strided_slice_of,
    squeezed,
    filled,
    positions,
    one_hot,
    parts,
    unequal_parts,
    unpacked,
    divided,
    rest,
    tiled,
    padded,
    added,
    turned,
)


@pytest.mark.parametrize("operation", FOLLOWED, ids=lambda one: one.__name__)
@pytest.mark.parametrize("largest", [9, 2**31])
def test_operations_that_are_followed(operation, largest):
    builder = GraphBuilder()
    values = long(builder, [-4, 2, 0, largest], "values")
    result = operation(builder, values)
    graph = builder.build(builder.op("Cast", (result,), "out", dtypes={"DstT": "float32"}))
    before = snapshot(graph)
    narrowed = narrow_integers(graph).graph
    assert snapshot(graph) == before
    np.testing.assert_array_equal(run(narrowed, {})["out"], run(graph, {})["out"])
    if largest == 9:
        assert wide(narrowed) == set()
    else:
        assert ("values", "dtype") in wide(narrowed)


@pytest.mark.parametrize("divisor", [0, -3])
@pytest.mark.parametrize("op", ["Div", "FloorDiv", "FloorMod"])
def test_a_division_by_what_may_not_be_positive_is_not_followed(op, divisor):
    builder = GraphBuilder()
    left, right = long(builder, [7], "left"), long(builder, [divisor], "right")
    result = builder.op(op, (left, right), "result")
    graph = builder.build(builder.op("Cast", (result,), dtypes={"DstT": "float32"}))
    assert ("result", "T") in wide(narrow_integers(graph).graph)


@given(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40), st.integers(1, 2**40))
def test_the_interval_of_a_division_holds_every_quotient(left, right, divisor):
    low, high = min(left, right), max(left, right)
    found = interval_of(
        Node("out", "Div", ("a", "b"), {"T": LONG}),
        "T",
        {"a": (low, high), "b": (1, divisor)},
    )
    for dividend in {low, high, (low + high) // 2}:
        for by in {1, divisor, (1 + divisor) // 2}:
            assert found[0] <= dividend // by <= found[1]
            assert found[0] <= -(-dividend // by) <= found[1]


@pytest.mark.parametrize("op", ["Prod", "Sum"])
def test_what_may_exceed_any_bound_stays_wide(op):
    builder = GraphBuilder()
    total = builder.op(op, (long(builder, [1, 2]), long(builder, [0])), "total", keep_dims=False)
    graph = builder.build(builder.op("Cast", (total,), dtypes={"DstT": "float32"}))
    assert ("total", "T") in wide(narrow_integers(graph).graph)


def test_an_unknown_operation_keeps_what_it_reads_and_gives():
    nodes = [
        Node("x", "Placeholder", (), {"dtype": LONG, "shape": (None,)}),
        Node("y", "Placeholder", (), {"dtype": LONG, "shape": (None,)}),
        Node("mystery", "Mystery", ("x",)),
        Node("sum", "AddV2", ("mystery", "y"), {"T": LONG}),
        Node("out", "Cast", ("sum",), {"SrcT": LONG, "DstT": np.dtype("float32")}),
    ]
    graph = Graph(nodes, ["out"])
    assert wide(narrow_integers(graph).graph) == wide(graph)


def test_a_list_of_dtypes_stays():
    nodes = [
        Node("x", "Placeholder", (), {"dtype": LONG, "shape": (None,)}),
        Node("same", "IdentityN", ("x",), {"T": (LONG,)}),
        Node("out", "Cast", ("same",), {"SrcT": LONG, "DstT": np.dtype("float32")}),
    ]
    graph = Graph(nodes, ["out"])
    assert wide(narrow_integers(graph).graph) == wide(graph)


def test_attributes_that_are_left_out_have_the_dtype_of_the_registry():
    nodes = [
        Node("x", "Placeholder", (), {"dtype": np.dtype("float32"), "shape": (None,)}),
        Node("axis", "Const", (), {"dtype": SHORT, "value": np.array(0, np.int32)}),
        Node("best", "ArgMax", ("x", "axis"), {"T": np.dtype("float32")}),
        Node("out", "Cast", ("best",), {"SrcT": LONG, "DstT": np.dtype("float32")}),
    ]
    graph = narrow_integers(Graph(nodes, ["out"])).graph
    assert graph["best"].attrs["output_type"] == SHORT
    assert graph["out"].attrs["SrcT"] == SHORT
    assert run(graph, {"x": np.array([1, 3, 2], np.float32)})["out"] == 1


def test_a_declared_input_keeps_its_name():
    graph = gathered(0)
    declared = Graph(graph, graph.outputs, inputs=["ids"])
    narrowed = narrow_integers(declared).graph
    assert narrowed.inputs == ("ids",)
    assert narrowed["ids"].attrs["dtype"] == SHORT
