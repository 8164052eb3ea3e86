"""Training graphs that TensorFlow 1.15 saved become graphs that give what it gives at inference."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from unit.graph_opt.engines import import_tensorflow, run_graph_def, run_tensorflow
from unit.graph_opt.support import GOLDEN, ops, snapshot

from bert_serving.graph_opt.graph_def import node_def
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.conditionals import resolve_conditionals
from bert_serving.graph_opt.passes.dropout import remove_dropout
from bert_serving.graph_opt.passes.freeze import freeze
from bert_serving.graph_opt.passes.identities import remove_identities
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.sources.tf_graph import read_tf_graph
from bert_serving.graph_opt.tf_messages import GraphDef

DATA = Path(__file__).parent / "data" / "training"
CLEANUP = (resolve_conditionals, remove_dropout, remove_identities, prune, freeze)
TRAINING = re.compile(
    ".*(Random|Uniform|Variable|VarHandle|Assign|Save|Restore|Grad|Adam|Summary|Assert|Print)"
)


def clean(graph):
    """The graph after each pass, none of which changes the graph it is given."""
    notes = []
    for one in CLEANUP:
        before = snapshot(graph)
        result, said = one(graph)
        assert snapshot(graph) == before, one
        graph, notes = result, notes + list(said)
    return graph, notes


def training_graph(name):
    with np.load(str(DATA / (name + ".npz"))) as data:
        arrays = dict(data)
    feeds = {key[4:-2]: value for key, value in arrays.items() if key.startswith("fed:")}
    graph = read_tf_graph(DATA / (name + ".meta"), inputs=list(feeds), outputs=["out"])
    return graph, feeds, arrays["expected:out:0"]


@pytest.mark.parametrize("name", ["dropouts", "keras_layers", "learning_phase", "variables"])
def test_the_outputs_are_those_of_inference(name, tmp_path):
    graph, feeds, expected = training_graph(name)
    assert any(TRAINING.match(op) for op in ops(graph))
    cleaned, notes = clean(graph)
    assert notes == []
    assert [op for op in ops(cleaned) if TRAINING.match(op)] == []
    assert not {"Switch", "Merge", "NoOp"} & set(ops(cleaned))
    assert cleaned.variables == {}
    cleaned.validate()
    if name != "learning_phase":  # fused batch normalization, which the interpreter doesn't know
        np.testing.assert_allclose(run(cleaned, feeds)["out"], expected, atol=1e-5)
    outputs = run_tensorflow(cleaned, tmp_path / "model.pb", feeds)
    np.testing.assert_allclose(outputs["out"], expected, atol=1e-5)


def test_loops_and_branches_decided_by_data_still_run(tmp_path):
    graph, feeds, expected = training_graph("loop")
    cleaned, notes = clean(graph)
    assert notes == [
        "training: taken as not training, unlike its default",
        "while/while_context: a loop, left alone",
        "Greater: a condition that depends on data, left alone",
    ]
    assert [op for op in ops(cleaned) if TRAINING.match(op)] == []
    tf = import_tensorflow()
    path = tmp_path / "model.pb"
    # The nodes of a loop have no order in which each comes after its inputs.
    path.write_bytes(GraphDef(node=[node_def(node) for node in cleaned]).SerializeToString())
    weights = cleaned["weights"].attrs["value"]
    for x in (feeds["x"] + 1, feeds["x"] - 1, feeds["x"]):
        result = x
        for _ in range(3):
            result = np.tanh(result @ weights + 1)
        result = result + 1 if x.sum() > 1 else result * 2
        outputs = run_graph_def(tf, path, {"x": x}, ["out"])
        np.testing.assert_allclose(outputs["out"], result, atol=1e-5)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_fine_tuned_classifier():
    directory = GOLDEN / "tf1-tiny" / "classifier"
    with np.load(str(directory / "probs.npz")) as data:
        arrays = dict(data)
    feeds = {
        "input_ids": arrays["ids"],
        "input_mask": arrays["mask"],
        "segment_ids": arrays["types"],
    }
    graph = read_tf_graph(
        directory / "model.ckpt-7.meta", inputs=list(feeds), outputs=["loss/probabilities"]
    )
    cleaned, notes = clean(graph)
    assert notes == []
    assert [op for op in ops(cleaned) if TRAINING.match(op)] == []
    outputs = run(cleaned, feeds)["loss/probabilities"]
    assert np.abs(outputs - arrays["probabilities"]).max() <= 1e-5
