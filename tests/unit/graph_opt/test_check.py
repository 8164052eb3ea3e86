"""The self-check: random input, both graphs, the verdict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.support import random_source

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.check import TOLERANCES, compare, reference_results, run_engine
from bert_serving.graph_opt.check_feeds import BATCHES, random_batches
from bert_serving.graph_opt.errors import GraphError, GraphOptError, OptionError
from bert_serving.graph_opt.graph import Graph, Node, Variable
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.pipeline import GraphOptions, build
from bert_serving.graph_opt.targets.onnx import write_onnx

FLOAT, INT = np.dtype("float32"), np.dtype("int32")


def placeholder(name, shape=(None, None), dtype=INT):
    return Node(name, "Placeholder", (), {"dtype": np.dtype(dtype), "shape": shape})


def table(name, rows):
    return Node(name, "Const", (), {"dtype": FLOAT, "value": np.zeros((rows, 2), np.float32)})


def scalar(name, value):
    return Node(name, "Const", (), {"dtype": INT, "value": np.array(value, np.int32)})


# Feeds


@given(st.integers(0, 2**31 - 1))
def test_feeds_of_a_bert_are_ids_masks_and_types(seed):
    source = random_source()
    for feeds in random_batches(build(source, GraphOptions()), seed):
        ids, mask, types = [feeds[n] for n in ("input_ids", "input_mask", "input_type_ids")]
        assert ids.shape == mask.shape == types.shape
        assert ids.shape[1] <= source.config.max_position_embeddings
        assert ids.min() >= 0
        assert ids.max() < source.config.vocab_size
        assert set(np.unique(types)) <= {0, 1}
        lengths = mask.sum(axis=1)
        assert lengths.min() >= 1
        assert lengths.max() == mask.shape[1]
        assert (mask == (np.arange(mask.shape[1]) < lengths[:, None])).all()
        assert not ids[mask == 0].any()


def test_texts_of_a_batch_differ_in_length_and_batches_in_size():
    batches = random_batches(build(random_source(), GraphOptions()))
    assert [len(feeds["input_ids"]) for feeds in batches] == [rows for rows, _ in BATCHES]
    lengths = {int(n) for feeds in batches for n in feeds["input_mask"].sum(axis=1)}
    assert len(lengths) > 2
    again = random_batches(build(random_source(), GraphOptions()))
    assert all((one["input_ids"] == two["input_ids"]).all() for one, two in zip(batches, again))


def test_ids_are_within_the_smallest_table_however_they_get_there():
    nodes = [
        placeholder("tokens"),
        Node("cast", "Cast", ("tokens:0",), {"SrcT": INT, "DstT": np.dtype("int64")}),
        Node("flat", "Reshape", ("cast", "shape"), {}),
        scalar("shape", [-1]),
        Node("handle", "VarHandleOp", (), {"dtype": FLOAT, "shape": (6, 2)}),
        Node("words", "ResourceGather", ("handle", "flat"), {}),
        placeholder("kinds"),
        scalar("depth", 3),
        Node("kinds/one_hot", "OneHot", ("kinds", "depth", "one", "zero"), {}),
        scalar("one", 1),
        scalar("zero", 0),
        placeholder("parts"),
        table("part_0", 3),
        table("part_1", 4),
        scalar("axis", 0),
        Node("whole", "ConcatV2", ("part_0", "part_1", "axis"), {"N": 2}),
        Node("rows", "GatherV2", ("whole", "parts", "axis"), {}),
    ]
    variable = Variable("handle", (6, 2), FLOAT, lambda: np.zeros((6, 2), np.float32))
    graph = Graph(nodes, ["words", "kinds/one_hot", "rows"], {"handle": variable})
    for name, bound in (("tokens", 6), ("kinds", 3), ("parts", 7)):
        seen = np.concatenate([feeds[name].ravel() for feeds in random_batches(graph)])
        assert (seen.min(), seen.max()) == (0, bound - 1), name


def test_fixed_dimensions_decide_the_size():
    inputs = [
        placeholder("ids", (2, 8)),
        placeholder("mask"),
        placeholder("attention_mask", (None, 1, 1, None), FLOAT),
        placeholder("vectors", (None, None, 5), FLOAT),
        placeholder("lengths", (None,)),
        placeholder("flag", (), np.bool_),
        placeholder("unknown", None),
    ]
    for feeds in random_batches(Graph(inputs, ["ids"])):
        assert feeds["ids"].shape == feeds["mask"].shape == feeds["unknown"].shape == (2, 8)
        assert feeds["attention_mask"].shape == (2, 1, 1, 8)
        assert (feeds["attention_mask"][:, 0, 0] == feeds["mask"]).all()
        assert feeds["vectors"].shape == (2, 8, 5)
        assert len(np.unique(feeds["vectors"])) > 8
        assert (feeds["lengths"] == feeds["mask"].sum(axis=1)).all()
        assert feeds["flag"].shape == ()
        for node in inputs:
            assert feeds[node.name].dtype == node.attrs["dtype"]


def test_nothing_can_be_made_up_for_strings():
    graph = Graph([placeholder("text", (None,), object)], ["text"])
    with pytest.raises(OptionError, match="no values can be made up for the input 'text'"):
        random_batches(graph)


# The verdict


def judge(expected, actual, precision="fp32", tolerance=None):
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    batches = [[[np.asarray(one)]] for one in (expected, actual)]
    return compare(["x"], batches[0], batches[1], precision, tolerance)[0]


def test_fp32_is_judged_relative_to_the_largest_component():
    expected = np.array([[1000.0, 1.0], [0.0, 5.0]], np.float32)
    close = judge(expected, expected + np.float32(0.05))
    assert (close.rows, close.scale, close.finite, close.passed) == (2, 1000.0, True, True)
    assert close.difference == pytest.approx(0.05, rel=1e-3)
    assert close.deviation == pytest.approx(5e-5, rel=1e-3)
    assert not judge(expected, expected + np.float32(0.2)).passed
    assert judge(expected, expected + np.float32(0.2), tolerance=1e-3).passed


def test_other_precisions_are_judged_by_the_worst_row():
    expected = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    angle = 0.1
    turned = np.array([[1.0, 0.0], [2 * np.sin(angle), 2 * np.cos(angle)]], np.float32)
    result = judge(expected, turned, "int8")
    assert result.cosine == pytest.approx(np.cos(angle))
    assert result.deviation == pytest.approx(1 - np.cos(angle), rel=1e-3)
    assert result.passed
    assert not judge(expected, turned, "bf16").passed
    assert judge(expected, 3 * expected, "fp16").cosine == pytest.approx(1)


def test_rows_of_zeros():
    zeros, ones = np.zeros((2, 3)), np.ones((2, 3))
    assert judge(zeros, zeros, "fp16").passed
    assert judge(ones, zeros, "int8").cosine == 0
    assert not judge(zeros, ones, "int8").passed
    assert not judge(zeros, ones).passed


def test_a_row_of_one_number_has_no_angle():
    logits = np.array([[2.0], [1.0]])
    assert judge(logits, logits + 0.002, "fp16").passed
    assert not judge(logits, logits + 0.1, "fp16").passed
    assert judge(logits[:, 0], logits[:, 0], "fp16").passed


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_not_finite_fails(broken, precision):
    expected = np.ones((2, 3))
    result = judge(expected, np.where(expected[:, :1] * [0, 0, 1] > 0, broken, expected), precision)
    assert not result.finite
    assert not result.passed


def test_whole_numbers_must_be_equal():
    labels = np.array([1, 2, 3, 4])
    assert judge(labels, labels, "int8").passed
    wrong = judge(labels, np.array([1, 2, 3, 5]), "int8")
    assert (wrong.passed, wrong.deviation) == (False, 0.25)


def test_another_shape_is_an_error():
    with pytest.raises(GraphOptError, match=r"gives 'x' of shape \(2, 4\) where .* \(2, 3\)"):
        judge(np.ones((2, 3)), np.ones((2, 4)))


@given(st.floats(0, 0.5), st.sampled_from(["fp32", "fp16", "bf16", "int8"]))
def test_the_further_off_the_larger_the_deviation(size, precision):
    random = np.random.RandomState(0)
    expected, noise = random.standard_normal((2, 5, 8))
    nearer = judge(expected, expected + size * noise, precision)
    further = judge(expected, expected + (size + 0.1) * noise, precision)
    assert nearer.deviation < further.deviation
    assert judge(expected, expected, precision).deviation < 1e-12


# Both graphs


def test_the_original_runs_as_it_stands_with_each_variable_loaded_once():
    loads = []

    def load(value):
        loads.append(1)
        return value

    graph = build(random_source(), GraphOptions())
    counted = graph.replaced(
        variables={
            name: Variable(one.name, one.shape, one.dtype, lambda one=one: load(one.load()))
            for name, one in graph.variables.items()
        }
    )
    batches = random_batches(graph)
    results, reference = reference_results(counted, pytest.fail, batches)
    assert reference == "the original in the numpy interpreter"
    assert len(results) == len(batches) > 1
    assert len(loads) == len(loads_needed(graph)) > 0
    for feeds, (value,) in zip(batches, results):
        expected = run(graph, dict(feeds, **inference_feeds(graph)))["final_encodes"]
        assert (value == expected).all()


def loads_needed(graph):
    """Variables that the output reads."""
    needed, waiting = set(), ["final_encodes"]
    while waiting:
        node = graph[waiting.pop()]
        if node.name not in needed:
            needed.add(node.name)
            waiting.extend(node.data_inputs)
    return needed & set(graph.variables)


def test_what_the_interpreter_cannot_run_is_simplified_first():
    odd = Graph([placeholder("x"), Node("y", "Mystery", ("x",), {})], ["y"])
    plain = Graph([placeholder("x"), Node("y", "Identity", ("x",), {"T": INT})], ["y"])
    feeds = {"x": np.ones((1, 2), np.int32)}
    results, reference = reference_results(odd, lambda: plain, [feeds])
    assert results[0][0].tolist() == [[1, 1]]
    assert reference.startswith("the original, reduced to what inference needs")
    with pytest.raises(GraphError, match="Mystery"):
        reference_results(odd, lambda: odd, [feeds])


def test_a_graph_that_wants_other_shapes_than_random_input_has():
    shape = Node("shape", "Const", (), {"dtype": INT, "value": np.array([7, 7], np.int32)})
    reshape = Node("y", "Reshape", ("x", "shape"), {"T": INT, "Tshape": INT})
    graph = Graph([placeholder("x"), shape, reshape], ["y"])
    with pytest.raises(GraphError, match="cannot reshape"):
        reference_results(graph, lambda: graph, [{"x": np.ones((1, 2), np.int32)}])


def test_the_engine_runs_the_file_in_another_process(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    builder = GraphBuilder()
    builder.placeholder("scope/x", "int32", (None, None))
    builder.op("Cast", ("scope/x",), "scope/y", dtypes={"DstT": "float32"})
    graph = builder.build(["scope/y", "scope/x"])
    write_onnx(graph, tmp_path / "a.onnx")
    feeds = [{"scope/x": np.full((rows, 3), rows, np.int64)} for rows in (1, 2)]
    results, engine = run_engine(tmp_path / "a.onnx", "onnx", "cpu", graph.outputs, feeds)
    assert engine.startswith("onnxruntime ")
    assert [[one.tolist() for one in batch] for batch in results] == [
        [[[1.0] * 3], [[1] * 3]],
        [[[2.0] * 3] * 2, [[2] * 3] * 2],
    ]


def test_the_engines_own_words_are_in_the_error(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"no model")
    feeds = [{"x": np.ones((1, 2), np.int32)}]
    with pytest.raises(GraphOptError, match=r"can't run .*a\.onnx \(exit status 1\): .*INVALID"):
        run_engine(tmp_path / "a.onnx", "onnx", "cpu", ["y"], feeds)
