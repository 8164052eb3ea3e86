from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.support import held, ops, random_source, small_batch, snapshot

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node, Variable
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.passes.freeze import freeze
from bert_serving.graph_opt.pipeline import GraphOptions, build

FLOAT = np.dtype("float32")


def variable_graph(variable, shape=(2,), dtype=FLOAT):
    node = Node("v", "VariableV2", (), {"dtype": dtype, "shape": shape})
    return Graph([node, Node("r", "Identity", ("v",), {"T": dtype})], ["r"], {"v": variable})


def test_variables_become_constants_of_the_same_name():
    graph = variable_graph(held("v", np.array([1, 2], np.float32)))
    frozen = freeze(graph).graph
    assert ops(frozen) == {"Const": 1, "Identity": 1}
    assert frozen.variables == {}
    assert frozen["v"].attrs["dtype"] == FLOAT
    np.testing.assert_array_equal(run(frozen, {})["r"], [1, 2])
    assert ops(graph) == {"VariableV2": 1, "Identity": 1}


def test_the_model_keeps_its_outputs():
    graph = build(random_source(), GraphOptions("REDUCE_MEAN_MAX", (0, -1)))
    before = snapshot(graph)
    frozen = freeze(graph).graph
    assert snapshot(graph) == before
    assert "VariableV2" not in ops(frozen)
    feeds = dict(small_batch(), **inference_feeds(graph))
    np.testing.assert_array_equal(
        run(frozen, feeds)["final_encodes"], run(graph, feeds)["final_encodes"]
    )


def test_a_graph_without_variables_stays():
    graph = Graph([Node("x", "Placeholder", (), {"dtype": FLOAT})], ["x"])
    assert snapshot(freeze(graph).graph) == snapshot(graph)


@pytest.mark.parametrize(
    "value", [np.zeros(3, np.float32), np.zeros((2, 1), np.float32), np.zeros(2, np.float64)]
)
def test_a_value_of_another_kind_is_an_error(value):
    lying = Variable("v", (2,), FLOAT, lambda: value)
    with pytest.raises(GraphError, match="the variable 'v' is float32 \\(2,\\)"):
        freeze(variable_graph(lying))


def test_a_variable_without_a_value_is_an_error():
    node = Node("v", "VariableV2", (), {"dtype": FLOAT, "shape": ()})
    with pytest.raises(GraphError, match="'v' has no value"):
        freeze(Graph([node], ["v"]))
