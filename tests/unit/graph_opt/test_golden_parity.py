"""The graphs give what bert-as-service 1.10 and transformers gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.graph_opt.engines import run_onnx as run_in_onnx
from unit.graph_opt.engines import run_tensorflow
from unit.graph_opt.support import (
    CASES,
    GOLDEN,
    GOOGLE,
    HUGGING_FACE,
    TOLERANCE,
    feeds_of,
    golden_case,
    options_of,
)

from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize, pipeline_for
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.sources.tf_graph import read_tf_graph
from bert_serving.graph_opt.targets.onnx import write_onnx


@pytest.fixture(scope="module")
def google():
    return read_model(GOOGLE)


@pytest.fixture(scope="module")
def hugging_face():
    return read_model(HUGGING_FACE)


@pytest.fixture(scope="module")
def transformers_results():
    with np.load(str(GOLDEN / "hf" / "hf-tiny.npz")) as data:
        return {name: data[name] for name in data.files}


def run_onnx(graph, path: Path, feeds):
    """The output of the graph in onnxruntime; skips where that isn't installed."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    write_onnx(graph, path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["final_encodes"], feeds)[0]


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() <= TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["flags"]))
def test_interpreter_gives_what_1_10_gave(google, case):
    feeds, expected = golden_case(case)
    graph = build(google, options_of(case["flags"]))
    trained = run(graph, dict(feeds, **inference_feeds(graph)))
    assert_close(trained["final_encodes"], expected)
    optimized, _ = optimize(graph)
    assert_close(run(optimized, feeds)["final_encodes"], expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["flags"]))
def test_onnx_gives_what_1_10_gave(google, case, tmp_path):
    feeds, expected = golden_case(case)
    optimized, _ = optimize(build(google, options_of(case["flags"])))
    assert_close(run_onnx(optimized, tmp_path / "model.onnx", feeds), expected)


@pytest.mark.parametrize("layer", range(4))
def test_layers_are_those_of_transformers(hugging_face, transformers_results, layer, tmp_path):
    mask = transformers_results["mask"]
    feeds = feeds_of(transformers_results["ids"], mask)
    optimized, _ = optimize(build(hugging_face, GraphOptions("NONE", (layer,))))
    # Padding attends too in transformers; here it is zero.
    expected = transformers_results["hidden_%d" % (layer + 1)] * mask[..., None].astype(np.float32)
    assert_close(run(optimized, feeds)["final_encodes"], expected)
    assert_close(run_onnx(optimized, tmp_path / "model.onnx", feeds), expected)


def test_the_pooler_is_that_of_transformers(hugging_face, transformers_results, tmp_path):
    feeds = feeds_of(transformers_results["ids"], transformers_results["mask"])
    optimized, _ = optimize(build(hugging_face, GraphOptions("CLS_POOLED", (-1,))))
    assert_close(run(optimized, feeds)["final_encodes"], transformers_results["pooler"])
    actual = run_onnx(optimized, tmp_path / "model.onnx", feeds)
    assert_close(actual, transformers_results["pooler"])


TRAINING_OPERATIONS = ("Random", "Variable", "VarHandle", "Assign", "Save", "Restore", "Apply")


@pytest.mark.parametrize("engine", [run_in_onnx, run_tensorflow])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engines_give_the_probabilities_of_a_training_graph(engine, precision, tmp_path):
    graph = read_tf_graph(
        GOLDEN / "tf1-tiny" / "classifier" / "model.ckpt-7.meta",
        ["input_ids", "input_mask", "segment_ids"],
        ["loss/probabilities"],
    )
    target = "onnx" if engine is run_in_onnx else "pb"
    optimized, _ = optimize(graph, pipeline_for(precision, target))
    left = {node.op for node in optimized}
    assert not [op for op in left if op.startswith(TRAINING_OPERATIONS) or "Grad" in op]
    assert not [node.name for node in optimized if "adam" in node.name.lower()]
    with np.load(str(GOLDEN / "tf1-tiny" / "classifier" / "probs.npz")) as data:
        ids, mask, types = [np.asarray(data[name], np.int32) for name in ("ids", "mask", "types")]
        expected = data["probabilities"]
    feeds = {"input_ids": ids, "input_mask": mask, "segment_ids": types}
    (actual,) = engine(optimized, tmp_path / "model", feeds).values()
    # What is too small to be worth 8 bits stays in float32; 16 bits begin at 1,024 elements.
    limit = {"fp32": 1e-5, "fp16": 1e-2, "int8": 1e-5}[precision]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)
