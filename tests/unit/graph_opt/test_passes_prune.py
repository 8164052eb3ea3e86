from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.support import held, random_source, small_batch, snapshot

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.pipeline import GraphOptions, build


def test_what_no_output_reads_goes_of_whatever_kind():
    nodes = [
        Node("x", "Placeholder"),
        Node("out", "NeverHeardOf", ("x",)),
        Node("loss", "AlsoUnknown", ("out:3",)),
        Node("train", "NoOp", ("^loss",)),
    ]
    pruned = prune(Graph(nodes, ["out"])).graph
    assert [node.name for node in pruned] == ["x", "out"]
    assert pruned["out"] is nodes[1]


def test_control_inputs_go_with_what_only_they_need():
    nodes = [
        Node("x", "Placeholder"),
        Node("check", "Assert", ("x",)),
        Node("out", "Relu", ("x:0", "^check")),
    ]
    pruned = prune(Graph(nodes, ["out:0"])).graph
    assert [node.name for node in pruned] == ["x", "out"]
    assert pruned["out"].inputs == ("x:0",)


def test_the_assertion_that_guards_a_tensor_goes():
    # tf.Assert wraps the operation in a tf.cond whose Merge is the control input.
    nodes = [
        Node("x", "Placeholder"),
        Node("fine", "All", ("x",)),
        Node("s", "Switch", ("fine", "fine")),
        Node("yes", "Identity", ("s:1",)),
        Node("no", "Assert", ("s",)),
        Node("done", "Identity", ("s", "^no")),
        Node("merge", "Merge", ("done", "yes")),
        Node("out", "Relu", ("x", "^merge")),
    ]
    assert [node.name for node in prune(Graph(nodes, ["out"])).graph] == ["x", "out"]


def test_control_inputs_stay_that_say_in_which_branch_a_node_runs():
    nodes = [
        Node("p", "Placeholder"),
        Node("s", "Switch", ("p", "p")),
        Node("yes", "Identity", ("s:1",)),
        Node("no", "Identity", ("s",)),
        Node("one", "Const", ("^yes",), {"value": np.float32(1)}),
        Node("two", "Const", ("^no",), {"value": np.float32(2)}),
        Node("out", "Merge", ("two", "one")),
    ]
    graph = Graph(nodes, ["out"])
    assert snapshot(prune(graph).graph) == snapshot(graph)


def test_declared_inputs_stay_and_other_placeholders_go():
    nodes = [Node(name, "Placeholder") for name in ("x", "unread", "label")]
    nodes.append(Node("out", "Relu", ("x",)))
    pruned = prune(Graph(nodes, ["out"], inputs=["x", "unread"])).graph
    assert [node.name for node in pruned] == ["x", "unread", "out"]
    assert [node.name for node in prune(Graph(nodes, ["out"])).graph] == ["x", "out"]


def test_variables_that_nothing_needs_go():
    builder = GraphBuilder()
    used, unused = [
        builder.variable(held(name, np.ones(2, np.float32))) for name in ("used", "unused")
    ]
    builder.op("Relu", (unused,))
    pruned = prune(builder.build(builder.op("Relu", (used,), "out"))).graph
    assert list(pruned.variables) == ["used"]
    assert [node.name for node in pruned] == ["used", "used/read", "out"]


def test_layers_above_the_pooled_one_and_the_pooler_go():
    graph = build(random_source(), GraphOptions("REDUCE_MEAN", (-3,)))
    before = snapshot(graph)
    pruned = prune(graph).graph
    assert snapshot(graph) == before
    assert not [name for name in pruned.variables if "layer_1" in name or "layer_2" in name]
    assert not [name for name in pruned.variables if "pooler" in name]
    feeds = dict(small_batch(), **inference_feeds(graph))
    np.testing.assert_array_equal(
        run(pruned, feeds)["final_encodes"], run(graph, feeds)["final_encodes"]
    )


def test_pruning_twice_changes_nothing_more():
    once = prune(build(random_source(), GraphOptions())).graph
    assert snapshot(prune(once).graph) == snapshot(once)


def test_random_numbers_that_stay_are_told_of():
    nodes = [Node("noise", "RandomStandardNormal"), Node("out", "Relu", ("noise",))]
    _, notes = prune(Graph(nodes, ["out"]))
    assert notes == ("noise: RandomStandardNormal stays, the outputs will differ from run to run",)


def test_a_lost_output_is_an_error():
    with pytest.raises(GraphError, match="lost"):
        prune(Graph([Node("a", "Placeholder")], ["lost"]))


def test_a_lost_input_is_an_error():
    with pytest.raises(GraphError, match="lost"):
        prune(Graph([Node("a", "Relu", ("lost",))], ["a"]))
