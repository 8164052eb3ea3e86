from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.algebra import (
    assert_same_results,
    assert_untouched,
    classifier,
    classifier_case,
    encoder,
    rewritten,
)
from unit.graph_opt.draft import Draft
from unit.graph_opt.support import ops, small_batch

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes import fold_constants as module
from bert_serving.graph_opt.passes.fold_constants import SIZE_LIMIT, fold_constants

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def drafted(open_axes=(0, 1)):
    draft = Draft()
    draft.input("x", X, open_axes=open_axes)
    return draft


def folded(draft, *outputs):
    """The folded graph, once it is sure that it gives the same."""
    graph = draft.graph(outputs)
    result = rewritten(fold_constants, graph)
    assert_same_results(graph, result.graph, draft.feeds)
    return result.graph


def dimension(draft, tensor, index, out_type="int32"):
    """One element of a tensor's shape, as TensorFlow 1 takes it."""
    shape = draft.op("Shape", (tensor,), dtypes={"out_type": out_type})
    places = [draft.const([place], "int32", "place") for place in (index, index + 1, 1)]
    return draft.op(
        "StridedSlice",
        [shape] + places,
        begin_mask=0,
        end_mask=0,
        ellipsis_mask=0,
        new_axis_mask=0,
        shrink_axis_mask=1,
    )


def test_constant_arithmetic_is_done():
    draft = drafted()
    root = draft.op("Sqrt", (draft.const(2.0),))
    inverse = draft.op("RealDiv", (draft.const(1.0), root), "inverse")
    result = folded(draft, draft.op("Mul", ("x", inverse), "y"))
    assert set(result.nodes) == {"x", "inverse", "y"}
    assert result["inverse"].attrs["value"] == np.float32(1 / np.sqrt(np.float32(2)))
    assert not result["inverse"].attrs["value"].flags.writeable


def test_parts_of_a_variable_are_joined():
    draft = Draft()
    parts = [draft.const(X[index], name="part_%d" % index) for index in range(2)]
    table = draft.op("ConcatV2", parts + [draft.const(0, "int32")], "table")
    ids = draft.input("ids", np.array([4, 0], np.int32))
    axis = draft.const(0, "int32", "axis")
    result = folded(draft, draft.op("GatherV2", (table, ids, axis), "rows", batch_dims=0))
    assert set(result.nodes) == {"table", "ids", "axis", "rows"}


def test_a_folded_output_keeps_its_name():
    draft = Draft()
    graph = draft.graph([draft.op("Transpose", (draft.const(X), draft.const([2, 0, 1], "int32")))])
    result = rewritten(fold_constants, graph).graph
    assert set(result.nodes) == {"Transpose"}
    assert result["Transpose"].op == "Const"
    assert result["Transpose"].attrs["value"].flags.c_contiguous
    np.testing.assert_array_equal(run(result, {})["Transpose"], X.transpose(2, 0, 1))


@pytest.mark.parametrize(("count", "fits"), [(SIZE_LIMIT // 4, True), (SIZE_LIMIT // 4 + 1, False)])
def test_a_fill_is_folded_up_to_a_megabyte(count, fits):
    draft = Draft()
    shape = draft.const([count], "int32")
    fill = draft.op("Fill", (shape, draft.const(1.5)), "fill")
    result = rewritten(fold_constants, draft.graph([fill]))
    assert (result.graph["fill"].op == "Const") == fits
    assert len(result.notes) == (not fits)


def enormous(draft, op):
    """A node that would take terabytes, and which nobody has sampled."""
    many = draft.const([2**20, 2**21], "int32")
    one, zero = draft.const(1.0), draft.const(0, "int32")
    row, column = draft.const(np.ones((1, 2**19))), draft.const(np.ones((2**19, 1)))
    square = draft.const([[1.0]])
    inputs = {
        "Fill": (many, one),
        "BroadcastTo": (square, many),
        "Tile": (square, many),
        "OneHot": (many, draft.const(2**30, "int32"), one, one),
        "Range": (zero, draft.const(2**31 - 1, "int32"), draft.const(1, "int32")),
        "AddV2": (row, column),
    }
    dtypes = {"Range": {"Tidx": "int32"}, "OneHot": {"T": "float32", "TI": "int32"}}
    attrs = {key: np.dtype(dtype) for key, dtype in dtypes.get(op, {"T": "float32"}).items()}
    return Graph([*draft.nodes.values(), Node("large", op, inputs[op], attrs)], ["large"])


@pytest.mark.parametrize("op", ["Fill", "BroadcastTo", "Tile", "OneHot", "Range", "AddV2"])
def test_what_would_be_too_large_is_not_even_computed(op):
    notes = assert_untouched(fold_constants, enormous(Draft(), op))
    assert len(notes) == 1
    assert notes[0].startswith("large: ")


def test_a_large_result_of_large_constants_is_folded():
    draft = Draft()
    draft.const(np.ones((SIZE_LIMIT, 1)), name="large")
    total = draft.op("AddV2", ("large", draft.const(1.0)), "total")
    result = rewritten(fold_constants, draft.graph([total])).graph
    assert set(result.nodes) == {"total"}


def test_results_that_are_used_up_are_let_go(monkeypatch):
    draft = Draft()
    tensor = draft.const(np.ones(1000))
    for _ in range(5):
        tensor = draft.op("Square", (tensor,))
    alive, most = [], []

    def square(node, arrays):
        gc.collect()
        most.append(sum(one() is not None for one in alive))
        result = arrays[0] * arrays[0]
        alive.append(weakref.ref(result))
        return (result,)

    monkeypatch.setattr(module, "KERNELS", {"Square": square})
    rewritten(fold_constants, draft.graph([tensor]))
    # The operand, and the result before that while the loop still holds it.
    assert len(most) == 5
    assert max(most) <= 2


def test_a_slice_does_not_keep_its_table():
    draft = Draft()
    table = draft.const(np.ones((1000, 4)))
    begin, size = draft.const([0, 0], "int32"), draft.const([2, -1], "int32")
    graph = draft.graph([draft.op("Slice", (table, begin, size), "slice")])
    value = rewritten(fold_constants, graph).graph["slice"].attrs["value"]
    base = value if value.base is None else value.base
    assert base.nbytes == 2 * 4 * 4


def test_what_is_random_stays():
    draft = Draft()
    shape = draft.const([3], "int32")
    random = draft.op("RandomUniform", (shape,), dtypes={"dtype": "float32"}, seed=1, seed2=2)
    assert assert_untouched(fold_constants, draft.graph([random])) == ()


def test_an_unknown_operation_stays():
    constant = Node("c", "Const", (), {"dtype": np.dtype("float32"), "value": np.float32(1)})
    nodes = [constant, Node("n", "NobodyKnows", ("c",), {}), Node("t", "Tanh", ("n:1",), {})]
    assert assert_untouched(fold_constants, Graph(nodes, ["t"])) == ()


def test_what_can_not_be_computed_is_an_error():
    draft = Draft()
    draft.const(np.ones(6), name="six")
    shape = draft.const([4], "int32", "four")
    node = Node("bad", "Reshape", ("six", shape), {"T": np.dtype("float32")})
    graph = Graph([*draft.nodes.values(), node], ["bad"])
    with pytest.raises(GraphError, match="'bad'"):
        fold_constants(graph)


def test_arithmetic_that_overflows_is_folded_without_a_warning():
    draft = Draft()
    with np.errstate(all="ignore"):
        ratio = draft.op("RealDiv", (draft.const(1.0), draft.const(0.0)), "ratio")
    result = rewritten(fold_constants, draft.graph([ratio])).graph
    assert np.isinf(result["ratio"].attrs["value"])


@pytest.mark.parametrize("out_type", ["int32", "int64"])
def test_a_known_dimension_becomes_a_number(out_type):
    draft = drafted()
    size = dimension(draft, "x", 2, out_type)
    result = folded(draft, draft.op("Cast", (size,), "y", dtypes={"DstT": "float32"}))
    constant = result[result["y"].inputs[0]]
    assert constant.op == "Const"
    assert constant.attrs["value"] == 4
    assert constant.attrs["value"].dtype == out_type
    assert len(result) == 3  # x stays, as an input


def test_an_open_dimension_stays():
    draft = drafted()
    graph = draft.graph([dimension(draft, "x", 1)])
    assert assert_untouched(fold_constants, graph) == ()


def test_a_shape_with_one_open_dimension_becomes_constant():
    draft = drafted()
    product = draft.op("Mul", (dimension(draft, "x", 0), dimension(draft, "x", 1)))
    shape = draft.op("Pack", (product, dimension(draft, "x", 2)), axis=0)
    result = folded(draft, draft.op("Reshape", ("x", shape), "matrix"))
    constant = result[result["matrix"].inputs[1]]
    assert constant.op == "Const"
    assert constant.attrs["value"].tolist() == [-1, 4]
    assert len(result) == 3


def test_a_shape_with_two_open_dimensions_stays():
    draft = drafted()
    shape = draft.op("Pack", (dimension(draft, "x", 1), dimension(draft, "x", 0)), axis=0)
    total = draft.op("Sum", ("x", draft.const([2], "int32")), keep_dims=False)
    result = folded(draft, draft.op("Reshape", (total, shape), "turned"))
    assert result["turned"].inputs == (total, shape)
    assert result[shape].op == "Pack"


def test_sizes_of_several_tensors_are_computed_from_the_first():
    draft = drafted()
    deep = draft.op("Tanh", ("x",), "tanh")
    shapes = []
    for tensor in ("x", deep):
        sizes = [dimension(draft, tensor, index) for index in (1, 0)]
        shapes.append(draft.op("Pack", sizes + [draft.const(4, "int32")], axis=0))
    turned = [draft.op("Reshape", (deep, shape)) for shape in shapes]
    result = folded(draft, *turned)
    assert len({result[tensor].inputs for tensor in turned}) == 1
    assert ops(result)["Shape"] == ops(result)["Pack"] == 1
    assert result["Shape"].inputs == ("x",)


def test_a_reshape_of_a_reshape_is_one():
    draft = drafted()
    tensor = "x"
    for shape in ([-1, 4], [-1, 2, 2], [-1]):
        tensor = draft.op("Reshape", (tensor, draft.const(shape, "int32")), "reshaped")
    result = folded(draft, tensor)
    assert ops(result)["Reshape"] == 1
    assert result[tensor].inputs[0] == "x"


def test_a_reshape_that_is_read_elsewhere_stays_too():
    draft = drafted()
    first = draft.op("Reshape", ("x", draft.const([-1, 4], "int32")), "first")
    second = draft.op("Reshape", (first, draft.const([-1, 2], "int32")), "second")
    result = folded(draft, first, second)
    assert result["second"].inputs[0] == "x"


def test_a_reshape_to_the_same_shape_goes():
    draft = drafted()
    sizes = [dimension(draft, "x", index) for index in range(3)]
    shape = draft.op("Pack", sizes, axis=0)
    same = draft.op("Reshape", ("x", shape))
    result = folded(draft, draft.op("Tanh", (same,), "y"))
    assert set(result.nodes) == {"x", "y"}


@pytest.mark.parametrize(
    ("op", "number", "left"),
    [("Mul", 1, False), ("Mul", 1, True), ("RealDiv", 1, False), ("AddV2", 0, False)]
    + [("Add", 0, True), ("Sub", 0, False)],
)
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_neutral_operands_go(op, number, left, rank):
    draft = drafted()
    constant = draft.const(np.full((1,) * rank, number))
    same = draft.op(op, (constant, "x") if left else ("x", constant))
    result = folded(draft, draft.op("Tanh", (same,), "y"))
    assert set(result.nodes) == {"x", "y"}


@pytest.mark.parametrize(
    ("op", "value", "left"),
    [
        ("Sub", 0.0, True),
        ("RealDiv", 1.0, True),
        ("Mul", 1.0000001, False),
        ("AddV2", [[[[0.0]]]], False),  # adds a dimension
        ("Mul", [1.0, 1.0, 1.0, 1.0], False),
    ],
)
def test_operands_that_change_something_stay(op, value, left):
    draft = drafted()
    constant = draft.const(value)
    with np.errstate(all="ignore"):
        graph = draft.graph([draft.op(op, (constant, "x") if left else ("x", constant))])
    assert assert_untouched(fold_constants, graph) == ()


def test_a_neutral_output_keeps_its_name():
    draft = drafted()
    result = folded(draft, draft.op("Mul", ("x", draft.const(1.0)), "y"))
    assert result["y"].op == "Identity"
    assert result["y"].inputs == ("x",)


@given(st.sampled_from(["int32", "int64", "float32"]), st.sampled_from(["int32", "float32"]))
def test_only_a_cast_to_the_same_dtype_goes(source, target):
    draft = Draft()
    draft.input("x", np.arange(3).astype(source))
    cast = draft.op("Cast", ("x",), "cast", dtypes={"DstT": target})
    result = folded(draft, draft.op("Square", (cast,), "y"))
    assert ("cast" in result) == (source != target)


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "CLS_TOKEN"])
def test_our_own_graph_keeps_its_results(strategy, tmp_path):
    graph = encoder(strategy, (-1,))
    result = rewritten(fold_constants, graph).graph
    assert_same_results(graph, result, small_batch(), tmp_path / "model.onnx")


def test_the_classifier_loses_its_constant_arithmetic(tmp_path):
    graph = classifier()
    result = rewritten(fold_constants, graph)
    assert result.notes == ()
    assert ops(graph)["Sqrt"] == 3
    assert "Sqrt" not in ops(result.graph)
    feeds, expected = classifier_case()
    assert_same_results(graph, result.graph, feeds, tmp_path / "classifier.onnx")
    actual = run(result.graph, feeds)["loss/probabilities"]
    np.testing.assert_allclose(actual, expected, atol=1e-5)
