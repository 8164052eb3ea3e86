from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.support import held, ops, random_source, scalar_builder, small_batch, snapshot

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.layers import dropout
from bert_serving.graph_opt.passes.dropout import find_dropouts
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.pipeline import GraphOptions, build

X = np.array([1.0, -2.0, 3.0], np.float32)


def legacy_dropout(builder, tensor):
    """As tf.nn.dropout wrote it before TensorFlow 1.13."""
    keep = builder.constant(0.9, "float32", "keep_prob")
    shape = builder.op("Shape", (tensor,), dtypes={"out_type": "int32"})
    uniform = builder.op("RandomUniform", (shape,), dtypes={"dtype": "float32"})
    low, span = [builder.constant(value, "float32") for value in (0.0, 1.0)]
    uniform = builder.op("Add", (builder.op("Mul", (uniform, span)), low))
    floor = builder.op("Floor", (builder.op("Add", (keep, uniform)),))
    return builder.op("Mul", (builder.op("RealDiv", (tensor, keep)), floor))


@pytest.mark.parametrize("add", [lambda b, t: dropout(b, t, 0.1), legacy_dropout])
def test_dropout_becomes_its_input(add):
    builder, constant = scalar_builder()
    dropped = add(builder, builder.op("AddV2", ("x", constant), "sum"))
    graph = builder.build(builder.op("Mul", (dropped, constant), "out"))
    assert len(find_dropouts(graph)) == 1
    pruned = prune(graph).graph
    assert ops(pruned) == {"Placeholder": 1, "Const": 1, "AddV2": 1, "Mul": 1}
    assert pruned["out"].inputs == ("sum", "c")
    feeds = dict(inference_feeds(graph), x=X)
    np.testing.assert_array_equal(run(graph, feeds)["out"], run(pruned, {"x": X})["out"])


def test_training_really_drops():
    builder, _ = scalar_builder()
    graph = builder.build(dropout(builder, "x", 0.5))
    ones = np.ones(1000, np.float32)
    (result,) = run(graph, {"x": ones}).values()
    assert set(np.unique(result)) == {0.0, 2.0}
    (result,) = run(graph, dict(inference_feeds(graph), x=ones)).values()
    np.testing.assert_array_equal(result, ones)


def almost(builder, rate, scale):
    shape = builder.op("Shape", ("x",), dtypes={"out_type": "int64"})
    uniform = builder.op("RandomUniform", (shape,), dtypes={"dtype": "float32"})
    kept = builder.op("GreaterEqual", (uniform, rate))
    mask = builder.op("Cast", (kept,), dtypes={"DstT": "float32"})
    return builder.op("Mul", (builder.op("Mul", ("x", scale)), mask))


def test_what_only_looks_like_dropout_stays():
    builder, constant = scalar_builder(0.5)
    # Scaled by something that isn't 1 / (1 - rate): removing it would change the result.
    graph = builder.build(almost(builder, constant, constant))
    assert find_dropouts(graph) == []
    assert ops(prune(graph).graph) == ops(graph)


def test_masking_by_a_comparison_of_data_stays():
    builder, constant = scalar_builder()
    kept = builder.op("GreaterEqual", ("x", constant))
    mask = builder.op("Cast", (kept,), dtypes={"DstT": "float32"})
    graph = builder.build(builder.op("Mul", (builder.op("Mul", ("x", constant)), mask), "out"))
    pruned = prune(graph).graph
    assert ops(pruned) == ops(graph)
    np.testing.assert_array_equal(run(pruned, {"x": X})["out"], [0, 0, 6])


def test_identities_go_except_outputs():
    builder, constant = scalar_builder()
    tensor = builder.op("StopGradient", (builder.op("Identity", ("x",)),))
    total = builder.op("AddV2", (tensor, constant), "sum")
    graph = builder.build([builder.op("Identity", (total,), "final"), "sum"])
    pruned = prune(graph).graph
    assert [node.name for node in pruned] == ["x", "c", "sum", "final"]
    assert pruned["sum"].inputs == ("x", "c")
    assert pruned.outputs == ("final", "sum")


def test_control_inputs_and_explicit_output_numbers():
    nodes = [
        Node("x", "Placeholder"),
        Node("check", "Assert", ("x",)),
        Node("same", "Identity", ("x:0", "^check")),
        Node("out", "Relu", ("same:0", "^check")),
    ]
    pruned = prune(Graph(nodes, ["out"])).graph
    assert [node.name for node in pruned] == ["x", "out"]
    assert pruned["out"].inputs == ("x:0",)


def test_the_second_output_of_a_node_is_not_its_first():
    nodes = [Node("x", "Placeholder"), Node("s", "Split", ("x",)), Node("y", "Relu", ("s:1",))]
    assert prune(Graph(nodes, ["y"])).graph["y"].inputs == ("s:1",)


def test_variables_that_nothing_needs_go():
    builder = GraphBuilder()
    used, unused = [
        builder.variable(held(name, np.ones(2, np.float32))) for name in ("used", "unused")
    ]
    builder.op("Relu", (unused,))
    pruned = prune(builder.build(builder.op("Relu", (used,), "out"))).graph
    assert list(pruned.variables) == ["used"]
    assert [node.name for node in pruned] == ["used", "out"]


def test_layers_above_the_pooled_one_and_the_pooler_go():
    source = random_source()
    graph = build(source, GraphOptions("REDUCE_MEAN", (-3,)))
    before = snapshot(graph)
    pruned = prune(graph).graph
    assert snapshot(graph) == before
    assert not [name for name in pruned.variables if "layer_1" in name or "layer_2" in name]
    assert not [name for name in pruned.variables if "pooler" in name]
    assert "RandomUniform" not in ops(pruned)
    feeds = small_batch()
    expected = run(graph, dict(feeds, **inference_feeds(graph)))
    np.testing.assert_array_equal(run(pruned, feeds)["final_encodes"], expected["final_encodes"])


def test_pruning_twice_changes_nothing_more():
    once = prune(build(random_source(), GraphOptions())).graph
    assert snapshot(prune(once).graph) == snapshot(once)


def test_a_lost_output_is_an_error():
    with pytest.raises(GraphError, match="lost"):
        prune(Graph([Node("a", "Placeholder")], ["lost"]))
