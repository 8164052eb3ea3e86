from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from unit.graph_opt.support import held

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node, node_of, output_index


def names(nodes):
    return [node.name for node in nodes]


def chain():
    return Graph(
        [Node("c", "Add", ("a", "b:1")), Node("a", "Placeholder"), Node("b", "Split", ("a", "^a"))],
        ["c"],
    )


@pytest.mark.parametrize(
    ("tensor", "node", "index"), [("a/b", "a/b", 0), ("a/b:2", "a/b", 2), ("^a", "a", 0)]
)
def test_tensor_names(tensor, node, index):
    assert node_of(tensor) == node
    assert output_index(tensor) == index


def test_topological_order_follows_data_and_control_inputs():
    assert names(chain().topological()) == ["a", "b", "c"]


def test_topological_order_of_a_long_chain_needs_no_recursion():
    nodes = [Node("n0", "Placeholder")]
    nodes += [Node("n%d" % i, "Identity", ("n%d" % (i - 1),)) for i in range(1, 5000)]
    graph = Graph(reversed(nodes), ["n4999"])
    assert names(graph.topological()) == names(nodes)


def test_consumers_come_once_each():
    readers = chain().consumers()
    assert names(readers["a"]) == ["c", "b"]
    assert readers["c"] == []


def test_a_duplicate_name_is_refused():
    with pytest.raises(GraphError, match="two nodes are named 'a'"):
        Graph([Node("a", "NoOp"), Node("a", "NoOp")], [])


@pytest.mark.parametrize(
    ("nodes", "outputs", "message"),
    [
        ([Node("a", "Identity", ("lost",))], ["a"], "node 'a' reads 'lost'"),
        ([Node("a", "NoOp", ("^lost",))], ["a"], "node 'a' reads '\\^lost'"),
        ([Node("a", "NoOp")], ["lost"], "no node gives the tensor 'lost'"),
        ([Node("a", "Add", ("b",)), Node("b", "Add", ("a",))], ["a"], "a cycle runs through"),
        ([Node("a", "Add", ("a",))], ["a"], "a cycle runs through"),
        ([Node("v", "VariableV2")], ["v"], "the variable node 'v' has no value"),
    ],
)
def test_validate_finds(nodes, outputs, message):
    with pytest.raises(GraphError, match=message):
        Graph(nodes, outputs).validate()


def test_validate_finds_a_variable_without_a_node():
    value = held("v", np.zeros(2, np.float32))
    with pytest.raises(GraphError, match="the variable 'v' has no node"):
        Graph([], [], {"v": value}).validate()


def test_nothing_can_be_changed():
    attrs = {"T": np.dtype("float32")}
    node = Node("a", "Identity", ("b",), attrs)
    attrs["T"] = np.dtype("int32")
    assert node.attrs["T"] == np.float32
    with pytest.raises(dataclasses.FrozenInstanceError):
        node.name = "b"
    with pytest.raises(TypeError):
        node.attrs["T"] = 1
    with pytest.raises(TypeError):
        chain().nodes["a"] = node
    assert node.with_attrs(U=1).attrs == {"T": np.dtype("float32"), "U": 1}
    assert node.with_inputs(["c", "^d"]).data_inputs == ("c",)


def test_bytes_count_constants_and_variables():
    constant = Node("c", "Const", (), {"value": np.zeros((2, 3), np.int64)})
    variable = held("v", np.zeros((4,), np.float32))
    graph = Graph([constant, Node("v", "VariableV2")], [], {"v": variable})
    assert graph.nbytes() == 48 + 16


def test_inputs_are_the_placeholders():
    assert chain().inputs == ("a",)
    assert "a" in chain()
    assert len(chain()) == 3
