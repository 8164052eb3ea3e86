from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.support import ops, random_source, scalar_builder, small_batch, snapshot

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.layers import dropout
from bert_serving.graph_opt.passes.dropout import find_dropouts, remove_dropout
from bert_serving.graph_opt.passes.identities import remove_identities
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.pipeline import GraphOptions, build

FLOAT, BOOL = np.dtype("float32"), np.dtype("bool")
X = np.array([1.0, -2.0, 3.0], np.float32)


class Parts:
    """A graph under construction: ``add`` gives the name of the new node's tensor."""

    def __init__(self):
        self.nodes = [Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (None,)})]

    def add(self, op, *inputs, **attrs):
        name = "%s_%d" % (op, len(self.nodes))
        self.nodes.append(Node(name, op, inputs, dict({"T": FLOAT}, **attrs)))
        return name

    def const(self, value, dtype=FLOAT):
        value = np.array(value, dtype)
        self.nodes.append(
            Node("c%d" % len(self.nodes), "Const", (), {"dtype": value.dtype, "value": value})
        )
        return self.nodes[-1].name

    def uniform(self, span=None, low=None, op="RandomUniform"):
        shape = self.add("Shape", "x", out_type=np.dtype("int32"))
        tensor = self.add(op, shape, dtype=FLOAT, T=np.dtype("int32"))
        if span is not None:
            tensor = self.add("Mul", tensor, self.const(span))
        if low is not None:
            tensor = self.add("Add", self.const(low), tensor)
        return tensor

    def cast(self, tensor):
        return self.add("Cast", tensor, SrcT=BOOL, DstT=FLOAT)

    def keep(self, rate):
        return self.add("Sub", self.const(1), rate)

    def graph(self, output, inputs=None):
        nodes = [*self.nodes, Node("out", "Neg", (output,), {"T": FLOAT})]
        return Graph(nodes, ["out"], inputs=inputs)


def rate_form(parts, rate):
    """TensorFlow 1.13 to 1.15."""
    scale = parts.add("RealDiv", parts.const(1), parts.keep(rate))
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(1, 0), rate))
    return parts.add("Mul", parts.add("Mul", "x", scale), mask)


def keep_prob_form(parts, rate):
    """Before TensorFlow 1.13."""
    keep = parts.keep(rate)
    floor = parts.add("Floor", parts.add("Add", keep, parts.uniform(1, 0)))
    return parts.add("Mul", parts.add("RealDiv", "x", keep), floor)


def select_form(parts, rate):
    """TensorFlow 2."""
    scale = parts.add("RealDiv", parts.const(1), parts.keep(rate))
    kept = parts.add("GreaterEqual", parts.uniform(op="StatelessRandomUniformV2"), rate)
    return parts.add("SelectV2", kept, parts.add("Mul", "x", scale), parts.const(0))


def reciprocal_and_swapped(parts, rate):
    keep = parts.add("Identity", parts.keep(rate))
    mask = parts.cast(parts.add("Less", parts.uniform(low=0), keep))
    return parts.add("Mul", mask, parts.add("Mul", parts.add("Reciprocal", keep), "x"))


def scaled_mask(parts, rate):
    keep = parts.keep(rate)
    floor = parts.add("Floor", parts.add("AddV2", parts.uniform(), keep))
    return parts.add("Mul", "x", parts.add("RealDiv", floor, keep))


def scaled_last(parts, rate):
    mask = parts.cast(parts.add("LessEqual", rate, parts.uniform(span=1)))
    return parts.add("RealDiv", parts.add("Mul", mask, "x"), parts.keep(rate))


def selecting_what_is_dropped(parts, rate):
    dropped = parts.add("Greater", rate, parts.uniform())
    zeros = parts.add("ZerosLike", "x")
    return parts.add("Select", dropped, zeros, parts.add("RealDiv", "x", parts.keep(rate)))


def negated(parts, rate):
    kept = parts.add("LogicalNot", parts.add("Less", parts.uniform(), rate))
    zeros = parts.add("Fill", parts.add("Shape", "x"), parts.const(0))
    return parts.add("Select", kept, parts.add("RealDiv", "x", parts.keep(rate)), zeros)


FORMS = [
    rate_form,
    keep_prob_form,
    select_form,
    reciprocal_and_swapped,
    scaled_mask,
    scaled_last,
    selecting_what_is_dropped,
    negated,
]


def constant_rate(parts):
    return parts.const(0.1)


def placeholder_rate(parts):
    return parts.add("Placeholder", dtype=FLOAT, shape=())


def default_rate(parts):
    return parts.add("PlaceholderWithDefault", parts.const(0.3), dtype=FLOAT, shape=())


def computed_rate(parts):
    return parts.keep(placeholder_rate(parts))


@pytest.mark.parametrize("rate", [constant_rate, placeholder_rate, default_rate, computed_rate])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inputs", [("x",), None])
def test_dropout_becomes_its_input(form, rate, inputs):
    parts = Parts()
    tensor = form(parts, rate(parts))
    graph = parts.graph(tensor, inputs)
    before = snapshot(graph)
    result, notes = remove_dropout(graph)
    assert snapshot(graph) == before
    assert notes == ()
    assert (result[tensor].op, result[tensor].inputs) == ("Identity", ("x",))
    clean = prune(remove_identities(result).graph).graph
    assert [node.name for node in clean] == ["x", "out"]
    np.testing.assert_array_equal(run(clean, {"x": X})["out"], -X)


@pytest.mark.parametrize("rate", [constant_rate, placeholder_rate, default_rate, computed_rate])
@pytest.mark.parametrize("form", [rate_form, keep_prob_form, scaled_mask, scaled_last])
def test_a_found_rate_turns_dropout_off(form, rate):
    parts = Parts()
    graph = parts.graph(form(parts, rate(parts)))
    feeds = dict(inference_feeds(graph), x=X)
    np.testing.assert_allclose(run(graph, feeds)["out"], -X, rtol=1e-6)


@given(st.floats(0, 0.99), st.sampled_from([np.float16, np.float32, np.float64]), st.booleans())
def test_a_scale_may_be_computed_beforehand(rate, dtype, divides):
    parts = Parts()
    rate = dtype(rate)
    scale = parts.const(dtype(1) - rate if divides else 1 / (1 - float(rate)), dtype)
    scaled = parts.add("RealDiv" if divides else "Mul", "x", scale)
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(), parts.const(rate, dtype)))
    assert len(find_dropouts(parts.graph(parts.add("Mul", scaled, mask)))) == 1


def test_a_scale_in_bfloat16():
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    parts = Parts()
    kept = parts.add("GreaterEqual", parts.uniform(), parts.const(0.1, dtype))
    scaled = parts.add("Mul", "x", parts.const(1 / 0.9, dtype))
    tensor = parts.add("SelectV2", kept, scaled, parts.const(0, dtype))
    assert len(find_dropouts(parts.graph(tensor))) == 1


@given(st.floats(0.05, 0.9), st.floats(0.05, 20))
def test_a_scale_that_does_not_make_up_for_the_rate_stays(rate, scale):
    parts = Parts()
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(), parts.const(rate)))
    tensor = parts.add("Mul", parts.add("Mul", "x", parts.const(scale)), mask)
    assert bool(find_dropouts(parts.graph(tensor))) == (abs(scale * (1 - rate) - 1) < 1e-6)


def test_dropout_that_is_an_output_keeps_its_name():
    parts = Parts()
    tensor = rate_form(parts, constant_rate(parts))
    result = remove_dropout(Graph(parts.nodes, [tensor])).graph
    np.testing.assert_array_equal(run(result, {"x": X})[tensor], X)


def test_a_rate_that_is_fed_is_left_alone():
    parts = Parts()
    rate = placeholder_rate(parts)
    tensor = rate_form(parts, rate)
    graph = parts.graph(tensor, ["x", rate])
    result, notes = remove_dropout(graph)
    assert snapshot(result) == snapshot(graph)
    assert notes == ("%s: dropout left alone, its rate %s is fed" % (tensor, rate),)


def wrong_scale(parts):
    rate = parts.const(0.5)
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(), rate))
    return parts.add("Mul", parts.add("Mul", "x", rate), mask)


def no_scale(parts):
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(), parts.const(0.5)))
    return parts.add("Mul", "x", mask)


def scale_of_another_rate(parts):
    rate, other = placeholder_rate(parts), placeholder_rate(parts)
    scale = parts.add("RealDiv", parts.const(1), parts.keep(other))
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(), rate))
    return parts.add("Mul", parts.add("Mul", "x", scale), mask)


def scale_of_the_rate_itself(parts):
    rate = placeholder_rate(parts)
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(), rate))
    return parts.add("Mul", parts.add("RealDiv", "x", rate), mask)


def compared_data(parts):
    mask = parts.cast(parts.add("GreaterEqual", "x", parts.const(0.5)))
    return parts.add("Mul", parts.add("Mul", "x", parts.const(2)), mask)


def another_interval(parts):
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(2, 0), parts.const(0.5)))
    return parts.add("Mul", parts.add("Mul", "x", parts.const(2)), mask)


def shifted(parts):
    mask = parts.cast(parts.add("GreaterEqual", parts.uniform(1, -0.5), parts.const(0.5)))
    return parts.add("Mul", parts.add("Mul", "x", parts.const(2)), mask)


def normal_numbers(parts):
    normal = parts.uniform(op="RandomStandardNormal")
    mask = parts.cast(parts.add("GreaterEqual", normal, parts.const(0.5)))
    return parts.add("Mul", parts.add("Mul", "x", parts.const(2)), mask)


def numbers_used_as_noise(parts):
    uniform = parts.uniform()
    mask = parts.cast(parts.add("GreaterEqual", uniform, parts.const(0.5)))
    tensor = parts.add("Mul", parts.add("Mul", "x", parts.const(2)), mask)
    return parts.add("AddN", tensor, uniform)


def selecting_ones(parts):
    kept = parts.add("GreaterEqual", parts.uniform(), parts.const(0.5))
    return parts.add("SelectV2", kept, parts.add("Mul", "x", parts.const(2)), parts.const(1))


@pytest.mark.parametrize(
    "form",
    [
        wrong_scale,
        no_scale,
        scale_of_another_rate,
        scale_of_the_rate_itself,
        compared_data,
        another_interval,
        shifted,
        normal_numbers,
        numbers_used_as_noise,
        selecting_ones,
    ],
)
def test_what_only_looks_like_dropout_stays(form):
    parts = Parts()
    graph = parts.graph(form(parts))
    assert find_dropouts(graph) == []
    assert snapshot(remove_dropout(graph).graph) == snapshot(graph)


def test_noise_that_only_training_reads_does_not_matter():
    parts = Parts()
    tensor = rate_form(parts, constant_rate(parts))
    parts.add("HistogramSummary", next(n.name for n in parts.nodes if n.op == "RandomUniform"))
    assert len(find_dropouts(parts.graph(tensor))) == 1


def test_numbers_that_are_an_output_stay():
    parts = Parts()
    tensor = rate_form(parts, constant_rate(parts))
    uniform = next(node.name for node in parts.nodes if node.op == "RandomUniform")
    assert find_dropouts(Graph(parts.nodes, [tensor, uniform])) == []


def test_one_mask_for_several_tensors():
    parts = Parts()
    keep = parts.const(0.8)
    mask = parts.add("Floor", parts.add("Add", keep, parts.uniform()))
    mask = parts.add("RealDiv", mask, keep)
    once = parts.add("Tanh", parts.add("Mul", mask, "x"))
    result = remove_dropout(parts.graph(parts.add("Mul", once, mask))).graph
    clean = prune(remove_identities(result).graph).graph
    assert ops(clean) == {"Placeholder": 1, "Tanh": 1, "Neg": 1}


def test_training_really_drops():
    builder, _ = scalar_builder()
    graph = builder.build(dropout(builder, "x", 0.5))
    ones = np.ones(1000, np.float32)
    (result,) = run(graph, {"x": ones}).values()
    assert set(np.unique(result)) == {0.0, 2.0}
    (result,) = run(graph, dict(inference_feeds(graph), x=ones)).values()
    np.testing.assert_array_equal(result, ones)


def test_the_model_keeps_its_outputs():
    graph = build(random_source(), GraphOptions("REDUCE_MEAN", (-1,)))
    result = remove_dropout(graph).graph
    clean = prune(remove_identities(result).graph).graph
    assert ops(graph)["RandomUniform"] == len(find_dropouts(graph)) > 5
    assert "RandomUniform" not in ops(clean)
    feeds = small_batch()
    expected = run(graph, dict(feeds, **inference_feeds(graph)))["final_encodes"]
    np.testing.assert_array_equal(run(prune(result).graph, feeds)["final_encodes"], expected)


def test_engines_give_the_input(tmp_path):
    parts = Parts()
    graph = parts.graph(rate_form(parts, constant_rate(parts)))
    clean = prune(remove_identities(remove_dropout(graph).graph).graph).graph
    for engine, name in ((run_onnx, "m.onnx"), (run_tensorflow, "m.pb")):
        np.testing.assert_array_equal(engine(clean, tmp_path / name, {"x": X})["out"], -X)
