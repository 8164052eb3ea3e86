"""What every pass and every target keeps, on random graphs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.random_graphs import random_graphs
from unit.graph_opt.support import snapshot

from bert_serving.graph_opt import passes
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.passes.conditionals import resolve_conditionals
from bert_serving.graph_opt.passes.dropout import remove_dropout
from bert_serving.graph_opt.passes.freeze import freeze
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.pipeline import PIPELINE, optimize

# They change the outputs, within limits that their own tests know.
PRECISION = {"downcast", "quantize"}
# They come before dropout is removed, or remove it.
TRAINING = {
    "freeze",
    "prune",
    "remove_dropout",
    "remove_identities",
    "resolve_conditionals",
    "without_learning_phase",
}
# Rounded in another order, they give other last digits.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}

examples = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def passes_by_name():
    """Every public function of graph_opt.passes that takes a graph and gives a Rewritten."""
    found = {}
    for module in pkgutil.iter_modules(passes.__path__):
        if module.name in PRECISION:
            continue
        loaded = importlib.import_module("%s.%s" % (passes.__name__, module.name))
        for name in getattr(loaded, "__all__", ()):
            function = getattr(loaded, name)
            if not inspect.isfunction(function):
                continue
            signature = inspect.signature(function)
            if signature.return_annotation == "Rewritten" and list(signature.parameters) == [
                "graph"
            ]:
                found[name] = function
    return found


PASSES = passes_by_name()


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for tensor, value in expected.items():
        assert actual[tensor].dtype == value.dtype
        assert actual[tensor].shape == value.shape
        np.testing.assert_allclose(actual[tensor], value, **TOLERANCE, err_msg=tensor)


def outputs_of(graph, feeds):
    return run(graph, dict(feeds, **inference_feeds(graph)))


def test_the_pipeline_has_only_passes_that_are_tested_here():
    assert {run for _, run in PIPELINE} <= set(PASSES.values())


@pytest.mark.parametrize("name", sorted(PASSES))
@examples
@given(random=random_graphs())
def test_a_pass_keeps_the_outputs(name, random):
    graph, feeds = random
    if name not in TRAINING:
        graph = remove_dropout(graph).graph
    before = snapshot(graph)
    expected = outputs_of(graph, feeds)
    rewritten = PASSES[name](graph).graph
    rewritten.validate()
    assert snapshot(graph) == before
    assert rewritten.outputs == graph.outputs
    assert rewritten.inputs == graph.inputs
    assert_same(outputs_of(rewritten, feeds), expected)
    again = PASSES[name](rewritten).graph
    assert_same(outputs_of(again, feeds), expected)


def served(graph):
    """What an engine can run."""
    for clean in (resolve_conditionals, remove_dropout, prune, freeze):
        graph = clean(graph).graph
    return graph


@pytest.mark.parametrize("name", sorted(PASSES))
@examples
@given(random=random_graphs(control=False))
def test_a_pass_keeps_the_outputs_of_a_frozen_graph(name, random):
    graph, feeds = served(random.graph), random.feeds
    expected = run(graph, feeds)
    rewritten = PASSES[name](graph).graph
    rewritten.validate()
    assert_same(run(rewritten, feeds), expected)


@examples
@given(random=random_graphs())
def test_the_pipeline_keeps_the_outputs(random):
    graph, feeds = random
    optimized, _ = optimize(graph)
    assert optimized.inputs == graph.inputs
    assert_same(outputs_of(optimized, feeds), outputs_of(graph, feeds))


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime isn't installed")
@examples
@given(random=random_graphs())
def test_onnxruntime_gives_what_the_interpreter_gives(random, tmp_path_factory):
    graph, feeds = served(random.graph), random.feeds
    path = tmp_path_factory.mktemp("random") / "model.onnx"
    assert_same(run_onnx(graph, path, feeds), run(graph, feeds))


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow isn't installed")
@examples
@given(random=random_graphs())
def test_tensorflow_gives_what_the_interpreter_gives(random, tmp_path_factory):
    graph, feeds = freeze(random.graph).graph, random.feeds
    feeds = dict(feeds, **inference_feeds(graph))
    path = tmp_path_factory.mktemp("random") / "graph.pb"
    assert_same(run_tensorflow(graph, path, feeds), run(graph, feeds))
