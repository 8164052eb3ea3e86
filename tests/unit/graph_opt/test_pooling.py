from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.support import HUGGING_FACE, SMALL, held, random_source, small_batch

from bert_serving.graph_opt.errors import ModelError, OptionError
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize, pipeline_for
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES, output_dimension
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.variables import (
    HEAD_BIAS,
    HEAD_WEIGHTS,
    POOLER_BIAS,
    POOLER_KERNEL,
)
from bert_serving.server.engines import Features

MASK = small_batch()["input_mask"].astype(np.float32)


def classifier():
    """A model with a head of two labels."""
    source = random_source()
    weights = np.linspace(-1, 1, 2 * SMALL.hidden_size, dtype=np.float32).reshape(2, -1)
    source.variables[HEAD_WEIGHTS] = held(HEAD_WEIGHTS, weights)
    source.variables[HEAD_BIAS] = held(HEAD_BIAS, np.ones(2, np.float32))
    return source


def encode(options, feeds=None):
    graph, _ = optimize(build(classifier(), options))
    return run(graph, feeds or small_batch())["final_encodes"]


@pytest.fixture(scope="module")
def layers():
    """Layer number -> [b, s, h], padding included."""
    feeds = small_batch()
    everything = dict(feeds)
    graphs = [build(random_source(), GraphOptions("NONE", (index,))) for index in range(3)]
    hidden = []
    for graph in graphs:
        optimized, _ = optimize(graph)
        hidden.append(run(optimized, everything)["final_encodes"])
    return hidden


def test_none_is_zero_at_padding(layers):
    for hidden in layers:
        assert (hidden[MASK == 0] == 0).all()
        assert (hidden[MASK == 1] != 0).all()


def test_strategies_by_their_definition(layers):
    hidden = layers[-1]
    means = hidden.sum(1) / (MASK.sum(1, keepdims=True) + 1e-10)
    maxima = np.stack([rows[mask == 1].max(0) for rows, mask in zip(hidden, MASK)])
    last = np.stack([hidden[0, 4], hidden[1, 2], hidden[2, 0]])
    expected = {
        "REDUCE_MEAN": means,
        "REDUCE_MAX": maxima,
        "REDUCE_MEAN_MAX": np.concatenate([means, maxima], 1),
        "CLS_TOKEN": hidden[:, 0],
        "FIRST_TOKEN": hidden[:, 0],
        "SEP_TOKEN": last,
        "LAST_TOKEN": last,
    }
    for strategy, vectors in expected.items():
        np.testing.assert_allclose(encode(GraphOptions(strategy, (-1,))), vectors, atol=1e-5)


def test_layers_are_concatenated_in_the_order_named(layers):
    vectors = encode(GraphOptions("CLS_TOKEN", (2, 0, -2)))
    expected = np.concatenate([layers[index][:, 0] for index in (2, 0, 1)], 1)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.parametrize("strategy", sorted(set(POOLING_STRATEGIES) - {"NONE"} - set(HEADS)))
def test_normalized_vectors_have_length_one(strategy):
    plain = encode(GraphOptions(strategy, (-1,)))
    unit = encode(GraphOptions(strategy, (-1,), normalize=True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(unit * lengths, plain, atol=1e-5)


def test_a_text_without_tokens_gives_finite_vectors():
    feeds = dict(small_batch())
    feeds["input_mask"] = np.zeros_like(feeds["input_mask"])
    assert (encode(GraphOptions("REDUCE_MEAN", (-1,)), feeds) == 0).all()
    assert (encode(GraphOptions("REDUCE_MEAN", (-1,), normalize=True), feeds) == 0).all()
    assert (encode(GraphOptions("REDUCE_MAX", (-1,)), feeds) == np.float32(-1e30)).all()


@pytest.mark.parametrize("strategy", POOLING_STRATEGIES)
@pytest.mark.parametrize("layers_named", [(-1,), (0, 1)])
def test_output_dimension(strategy, layers_named):
    options = GraphOptions(strategy, layers_named)
    assert encode(options).shape[-1] == output_dimension(SMALL, options)


@pytest.mark.parametrize("packed", [False, True])
def test_every_layer_as_it_is_without_pooling(packed, layers):
    feeds = small_batch()
    graph = build(random_source(), GraphOptions(every_layer=True))
    assert graph.outputs == ("layer_0", "layer_1", "layer_2", "pooled")
    optimized, _ = optimize(graph, pipeline_for(packed=packed))
    assert optimized.outputs == graph.outputs
    valid = np.arange(5) < np.array([5, 3, 1])[:, None]
    if packed:
        tokens = [feeds[name][valid] for name in ("input_ids", "input_type_ids", "input_mask")]
        features = Features(np.array(tokens, np.int32), valid.sum(axis=1))
        feeds = features.feeds(optimized.inputs)
    outputs = run(optimized, feeds)
    for number, expected in enumerate(layers):
        hidden = outputs["layer_%d" % number]
        np.testing.assert_allclose(hidden if packed else hidden[valid], expected[valid], atol=1e-5)
    np.testing.assert_allclose(outputs["pooled"], encode(GraphOptions("CLS_POOLED")), atol=1e-5)


def test_every_layer_of_a_model_without_a_pooler():
    source = random_source()
    for name in (POOLER_KERNEL, POOLER_BIAS):
        del source.variables[name]
    assert build(source, GraphOptions(every_layer=True)).outputs == tuple(
        "layer_%d" % number for number in range(SMALL.num_hidden_layers)
    )
    assert output_dimension(SMALL, GraphOptions(every_layer=True)) == SMALL.hidden_size


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_layer_stays_in_float32_in_any_precision(precision, device):
    trained = build(read_model(HUGGING_FACE), GraphOptions(every_layer=True))
    expected = run(optimize(trained)[0], small_batch())
    for target in ("onnx", "pb"):
        graph, _ = optimize(trained, pipeline_for(precision, target, device))
        for name, array in run(graph, small_batch()).items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, expected[name], atol=0.05)


def test_unknown_strategy():
    with pytest.raises(OptionError, match="'MEDIAN' isn't one of NONE, REDUCE_MEAN"):
        GraphOptions("MEDIAN")


def test_no_layer():
    with pytest.raises(OptionError, match="no pooling layer"):
        GraphOptions(pooling_layers=())


def test_none_cannot_be_normalized():
    with pytest.raises(OptionError, match="NONE gives a vector for each token"):
        GraphOptions("NONE", normalize=True)


@pytest.mark.parametrize("layer", [-4, 3, 100])
def test_a_layer_outside_the_model(layer):
    message = "pooling layer %d is outside the model, which has 3 layers \\(-3\\.\\.2\\)" % layer
    with pytest.raises(OptionError, match=message):
        build(random_source(), GraphOptions(pooling_layers=(-1, layer)))


def test_cls_pooled_without_a_pooler_names_the_tensor():
    source = random_source()
    for name in (POOLER_KERNEL, POOLER_BIAS):
        del source.variables[name]
    with pytest.raises(ModelError, match=r"bert/pooler/dense/kernel.*CLS_POOLED"):
        build(source, GraphOptions("CLS_POOLED"))
    assert build(source, GraphOptions("REDUCE_MEAN"))
