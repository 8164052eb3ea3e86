from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.engines import run_onnx
from unit.graph_opt.support import ops, random_source, scalar_builder, small_batch, snapshot

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.passes.identities import remove_identities
from bert_serving.graph_opt.passes.navigation import PASSING_ON
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.pipeline import GraphOptions, build

FLOAT = np.dtype("float32")
X = np.array([1.0, -2.0, 3.0], np.float32)


def test_identities_go_except_outputs(tmp_path):
    builder, constant = scalar_builder()
    tensor = builder.op("StopGradient", (builder.op("Identity", ("x",)),))
    total = builder.op("AddV2", (tensor, constant), "sum")
    graph = builder.build([builder.op("Identity", (total,), "final"), "sum"])
    before = snapshot(graph)
    changed = remove_identities(graph).graph
    assert snapshot(graph) == before
    assert [node.name for node in changed] == ["x", "c", "sum", "final"]
    assert changed["sum"].inputs == ("x", "c")
    assert changed.outputs == ("final", "sum")
    for outputs in (run(changed, {"x": X}), run_onnx(changed, tmp_path / "m.onnx", {"x": X})):
        np.testing.assert_array_equal(outputs["final"], X + 2)


@pytest.mark.parametrize("op", sorted(PASSING_ON))
def test_whatever_only_passes_on_goes(op):
    nodes = [
        Node("x", "Placeholder", (), {"dtype": FLOAT}),
        Node("same", op, ("x", "x"), {"T": FLOAT, "message": b"seen"}),
        Node("y", "Relu", ("same:0",), {"T": FLOAT}),
    ]
    changed = remove_identities(Graph(nodes, ["y"])).graph
    assert ops(changed) == {"Placeholder": 1, "Relu": 1}
    assert changed["y"].inputs == ("x",)
    kept = remove_identities(Graph(nodes, ["same", "y"])).graph
    assert (kept["same"].op, kept["same"].inputs) == ("Identity", ("x",))
    assert dict(kept["same"].attrs) == {"T": FLOAT}


def test_each_output_of_identity_n_is_its_input():
    nodes = [
        Node("x", "Placeholder"),
        Node("s", "Split", ("x",)),
        Node("both", "IdentityN", ("s:1", "s")),
        Node("a", "Relu", ("both",)),
        Node("b", "Relu", ("both:1",)),
    ]
    changed = remove_identities(Graph(nodes, ["a", "b"])).graph
    assert "both" not in changed
    assert (changed["a"].inputs, changed["b"].inputs) == (("s:1",), ("s",))
    kept = remove_identities(Graph(nodes, ["both:1", "b"])).graph
    assert kept["both"].inputs == ("s:1", "s")
    assert kept["b"].inputs == ("s",)


def test_the_second_output_of_a_node_is_not_its_first():
    nodes = [Node("x", "Placeholder"), Node("s", "Split", ("x",)), Node("y", "Relu", ("s:1",))]
    assert remove_identities(Graph(nodes, ["y"])).graph["y"].inputs == ("s:1",)


def test_control_inputs_come_from_what_was_read():
    nodes = [
        Node("x", "Placeholder"),
        Node("check", "Assert", ("x",)),
        Node("same", "Identity", ("x", "^check")),
        Node("y", "Relu", ("x", "^same", "^check")),
    ]
    assert remove_identities(Graph(nodes, ["y"])).graph["y"].inputs == ("x", "^x", "^check")


def test_a_default_is_passed_on_unless_it_is_an_input():
    nodes = [
        Node("c", "Const", (), {"dtype": FLOAT, "value": np.float32(2)}),
        Node("p", "PlaceholderWithDefault", ("c",), {"dtype": FLOAT, "shape": ()}),
        Node("y", "Square", ("p",), {"T": FLOAT}),
    ]
    changed = remove_identities(Graph(nodes, ["y"])).graph
    assert changed["y"].inputs == ("c",)
    assert run(changed, {})["y"] == 4
    fed = remove_identities(Graph(nodes, ["y"], inputs=["p"])).graph
    assert (fed["p"].op, fed["p"].inputs, fed["y"].inputs) == ("Placeholder", (), ("p",))
    named = remove_identities(Graph(nodes, ["p"])).graph
    assert (named["p"].op, named["p"].attrs["T"]) == ("Identity", FLOAT)


def test_an_identity_that_is_an_input_stays():
    nodes = [Node("x", "Placeholder"), Node("i", "Identity", ("x",)), Node("y", "Relu", ("i",))]
    graph = Graph(nodes, ["y"], inputs=["i"])
    assert snapshot(remove_identities(graph).graph) == snapshot(graph)


def test_what_a_branch_hangs_on_stays():
    nodes = [
        Node("p", "Placeholder"),
        Node("s", "Switch", ("p", "p")),
        Node("yes", "Identity", ("s:1",)),
        Node("one", "Const", ("^yes",)),
        Node("same", "Identity", ("p", "^yes")),
        Node("y", "Merge", ("one", "same")),
    ]
    graph = Graph(nodes, ["y"])
    assert snapshot(remove_identities(graph).graph) == snapshot(graph)


def test_a_circle_of_identities_is_an_error():
    nodes = [Node("a", "Identity", ("b",)), Node("b", "Identity", ("a",)), Node("y", "R", ("a",))]
    with pytest.raises(GraphError, match="cycle of identities"):
        remove_identities(Graph(nodes, ["y"]))


def test_the_model_keeps_its_outputs():
    graph = build(random_source(), GraphOptions("REDUCE_MEAN", (-1,)))
    changed = remove_identities(graph).graph
    assert ops(graph)["Identity"] > 10
    assert [node.name for node in changed if node.op == "Identity"] in ([], ["final_encodes"])
    feeds = dict(small_batch(), **inference_feeds(graph))
    expected = run(graph, feeds)["final_encodes"]
    np.testing.assert_array_equal(run(prune(changed).graph, feeds)["final_encodes"], expected)
