from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from unit.graph_opt.support import SMALL, held, ops, random_source, scalar_builder, small_batch

from bert_serving.graph_opt import layers
from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.config import ACTIVATIONS
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import PIPELINE, GraphOptions, build, optimize
from bert_serving.graph_opt.variables import variable_shapes

X = np.linspace(-4, 4, 33).astype(np.float32)


def erf(values):
    return np.array([math.erf(value) for value in values])


DEFINITIONS = {
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations(name):
    builder, _ = scalar_builder()
    tensor = layers.activation(builder, builder.op("Identity", ("x",)), name)
    (actual,) = run(builder.build(tensor), {"x": X}).values()
    expected = DEFINITIONS[ACTIVATIONS[name]](X.astype(np.float64))
    np.testing.assert_allclose(actual, expected, atol=2e-6)


def test_layer_norm():
    random = np.random.RandomState(1)
    x, gamma, beta = [random.standard_normal(size).astype(np.float32) for size in ((3, 7), 7, 7)]
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, 7))
    variables = {"ln/gamma": held("ln/gamma", gamma), "ln/beta": held("ln/beta", beta)}
    graph = builder.build(layers.layer_norm(builder, variables, "x", "ln", 1e-3))
    (actual,) = run(graph, {"x": x}).values()
    centered = x - x.mean(1, keepdims=True)
    expected = centered / np.sqrt(x.var(1, keepdims=True) + 1e-3) * gamma + beta
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_training_form():
    graph = build(random_source(), GraphOptions())
    assert graph.inputs == ("input_ids", "input_mask", "input_type_ids")
    assert graph.outputs == ("final_encodes",)
    assert {name: graph[name].attrs["dtype"] for name in graph.inputs} == dict.fromkeys(
        graph.inputs, np.dtype("int64")
    )
    assert set(graph.variables) == set(variable_shapes(SMALL))
    # Embeddings, and in each layer the attention's weights and two outputs.
    assert ops(graph)["RandomUniform"] == 1 + 3 * 3
    for name in (
        "bert/embeddings/word_embeddings",
        "bert/encoder/layer_0/attention/self/query/kernel",
        "bert/encoder/layer_2/attention/self/query/MatMul",
        "bert/encoder/layer_2/output/dropout/mul_1",
        "bert/pooler/dense/Tanh",
    ):
        assert name in graph


def test_no_dropout_at_rate_nought():
    config = dataclasses.replace(SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    assert "RandomUniform" not in ops(build(random_source(config), GraphOptions()))


def test_position_embeddings_can_be_left_out():
    source = random_source()
    graph, _ = optimize(build(source, GraphOptions(position_embeddings=False)))
    assert "bert/embeddings/position_embeddings" not in graph
    feeds = small_batch()
    vectors = run(graph, feeds)["final_encodes"]
    # Without positions a text is a bag of tokens.
    turned = {name: array[:, ::-1] for name, array in feeds.items()}
    np.testing.assert_allclose(run(graph, turned)["final_encodes"], vectors, atol=1e-4)
    with_positions, _ = optimize(build(source, GraphOptions()))
    assert np.abs(run(with_positions, turned)["final_encodes"] - vectors).max() > 1e-2


def test_padding_does_not_matter():
    graph, _ = optimize(build(random_source(), GraphOptions()))
    feeds = small_batch()
    alone = {name: array[1:2, :3] for name, array in feeds.items()}
    np.testing.assert_allclose(
        run(graph, alone)["final_encodes"], run(graph, feeds)["final_encodes"][1:2], atol=1e-4
    )


def test_a_text_longer_than_the_position_embeddings_is_an_error():
    graph, _ = optimize(build(random_source(), GraphOptions()))
    feeds = {name: np.ones((1, 10), np.int32) for name in graph.inputs}
    with pytest.raises(GraphError, match="position"):
        run(graph, feeds)


def test_report():
    graph, report = optimize(build(random_source(), GraphOptions()))
    assert [one.name for one in report.passes] == [name for name, _ in PIPELINE]
    assert report.passes[0].nodes_before > report.passes[-1].nodes_after == len(graph)
    assert report.passes[0].bytes_before > report.passes[-1].bytes_after == graph.nbytes()
    assert len(report.lines()) == len(PIPELINE)
    # Without the pooler and layer 2: 16 tensors in a layer.
    assert any("variables 55 -> 37" in line for line in report.lines())
