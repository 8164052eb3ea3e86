from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.support import random_source, small_batch, snapshot

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.interpreter import inference_feeds, run
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
