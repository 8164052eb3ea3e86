"""The heads of fine-tuned classifiers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.support import GOLDEN, SMALL, feeds_of, held, random_source, small_batch

from bert_serving.graph_opt.errors import ModelError, OptionError
from bert_serving.graph_opt.heads import HEADS, check_head
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.variables import HEAD_BIAS, HEAD_WEIGHTS, POOLER_BIAS

CLASSIFIER = GOLDEN / "tf1-tiny" / "classifier"
LABELS = 3
HEAD = {
    HEAD_WEIGHTS: np.arange(LABELS * SMALL.hidden_size, dtype=np.float32).reshape(LABELS, -1) / 10,
    HEAD_BIAS: np.array([0.5, -1.0, 2.0], np.float32),
}


def source_with(**arrays):
    """A model with these tensors; None takes one away."""
    source = random_source()
    variables = dict(source.variables)
    for name, array in arrays.items():
        variables.pop(name, None)
        if array is not None:
            variables[name] = held(name, array)
    return replace(source, variables=variables)


def encode(strategy, source):
    graph, _ = optimize(build(source, GraphOptions(strategy, num_labels=LABELS)))
    return run(graph, small_batch())["final_encodes"]


def test_logits_and_probabilities_by_their_definition():
    source = source_with(**HEAD)
    pooled = encode("CLS_POOLED", source)
    logits = pooled @ HEAD[HEAD_WEIGHTS].T + HEAD[HEAD_BIAS]
    np.testing.assert_allclose(encode("REGRESSION", source), logits, atol=1e-5)
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    expected = exponents / exponents.sum(1, keepdims=True)
    np.testing.assert_allclose(encode("CLASSIFICATION", source), expected, atol=1e-6)


@pytest.fixture(scope="module")
def golden():
    with np.load(str(CLASSIFIER / "probs.npz")) as data:
        return feeds_of(data["ids"], data["mask"], data["types"]), data["probabilities"]


@pytest.fixture(scope="module")
def classifier():
    source = read_model(CLASSIFIER, ckpt_name="model.ckpt-7")
    options = GraphOptions("CLASSIFICATION", num_labels=3)
    return optimize(build(source, options))[0]


def assert_equal(probabilities, expected):
    assert probabilities.shape == expected.shape
    assert np.abs(probabilities - expected).max() <= 1e-5


def test_the_probabilities_of_the_network_that_was_trained(classifier, golden):
    feeds, expected = golden
    assert_equal(run(classifier, feeds)["final_encodes"], expected)


@pytest.mark.parametrize("run_engine", [run_onnx, run_tensorflow])
def test_engines_give_these_probabilities_too(run_engine, classifier, golden, tmp_path):
    feeds, expected = golden
    assert_equal(run_engine(classifier, tmp_path / "model", feeds)["final_encodes"], expected)


@pytest.mark.parametrize("strategy", HEADS)
@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({}, "'output_weights' and 'output_bias'"),
        (dict(HEAD, output_bias=None), "'output_bias'"),
    ],
)
def test_a_model_without_a_head_is_told_which_tensors_are_missing(strategy, tensors, named):
    with pytest.raises(
        ModelError, match="no floating-point tensor %s, which .* %s" % (named, strategy)
    ):
        check_head(source_with(**tensors), strategy, LABELS)


def test_hugging_face_s_tensors_have_their_own_names():
    source = replace(random_source(), layout="huggingface")
    with pytest.raises(ModelError, match=r"'classifier\.weight' and 'classifier\.bias'"):
        check_head(source, "REGRESSION", LABELS)


def test_a_head_needs_a_pooler():
    source = source_with(**dict(HEAD, **{POOLER_BIAS: None}))
    with pytest.raises(ModelError, match=r"no tensor .*pooler.*CLASSIFICATION needs"):
        check_head(source, "CLASSIFICATION", LABELS)
    check_head(source, "REDUCE_MEAN", LABELS)


def test_another_number_of_labels_names_the_right_one():
    message = "is a classifier of 3 labels, not 2: name its number by -num_labels 3"
    with pytest.raises(OptionError, match=message):
        check_head(source_with(**HEAD), "CLASSIFICATION", 2)
    check_head(source_with(**HEAD), "CLASSIFICATION", 3)


@pytest.mark.parametrize(
    "changes",
    [
        {HEAD_WEIGHTS: HEAD[HEAD_WEIGHTS][:, :-1]},
        {HEAD_WEIGHTS: HEAD[HEAD_WEIGHTS][0]},
        {HEAD_BIAS: HEAD[HEAD_BIAS][:2]},
    ],
)
def test_a_head_over_something_else(changes):
    with pytest.raises(ModelError, match="no classifier over vectors of 8 components"):
        check_head(source_with(**dict(HEAD, **changes)), "CLASSIFICATION", LABELS)


@pytest.mark.parametrize("strategy", HEADS)
def test_the_model_is_checked_before_the_graph_is_built(strategy):
    with pytest.raises(ModelError, match="output_weights"):
        build(random_source(), GraphOptions(strategy))


@pytest.mark.parametrize("strategy", HEADS)
def test_labels_cannot_be_normalized(strategy):
    with pytest.raises(OptionError, match="%s gives a number for each label" % strategy):
        GraphOptions(strategy, normalize=True)


def test_no_label():
    with pytest.raises(OptionError, match="at least one label, not 0"):
        GraphOptions("CLASSIFICATION", num_labels=0)
