from __future__ import annotations

import pytest

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.navigation import (
    declared_inputs,
    identity,
    is_pivot,
    needed_nodes,
    past_identities,
    reads_any,
    redirected,
    unique_name,
)

NODES = [
    Node("x", "Placeholder"),
    Node("label", "Placeholder"),
    Node("i", "Identity", ("x:0",)),
    Node("n", "IdentityN", ("label", "i")),
    Node("y", "Relu", ("n:1", "^label")),
]


def test_inputs_are_declared_or_not():
    assert declared_inputs(Graph(NODES, ["y"])) == ()
    assert declared_inputs(Graph(NODES, ["y"], inputs=["x"])) == ("x",)


def test_what_is_needed_is_what_is_read():
    graph = Graph([*NODES, Node("loss", "Sub", ("y", "label"))], ["i:0"])
    assert needed_nodes(graph) == {"x", "i"}
    assert reads_any(graph, "loss", ["x"])
    assert not reads_any(graph, "i", ["label"])


def test_identities_are_followed_output_by_output():
    graph = Graph(NODES, ["y"])
    assert past_identities(graph, "n:1") == "x"
    assert past_identities(graph, "n") == "label"
    assert past_identities(graph, "y") == "y"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("body", True), ("head", True), ("taken", True), ("merge", False), ("x", False)],
)
def test_pivots(name, expected):
    nodes = [
        Node("x", "Placeholder"),
        Node("s", "Switch", ("x", "x")),
        Node("taken", "Identity", ("s:1",)),
        Node("merge", "Merge", ("s", "taken")),
        Node("enter", "Enter", ("x",)),
        Node("head", "Merge", ("enter", "next")),
        Node("turn", "Switch", ("head", "x")),
        Node("body", "Identity", ("turn:1",)),
        Node("next", "NextIteration", ("body",)),
    ]
    assert is_pivot(Graph(nodes, ["merge"]), name) is expected


def test_redirecting():
    node = Node("y", "Add", ("a:0", "b:1", "^a", "^c"))
    result = redirected(node, {"a": "d", "d": "e:1", "b": "wrong"}, {"a"})
    assert result.inputs == ("e:1", "b:1", "^e", "^c")
    assert redirected(node, {}, ()) is node
    with pytest.raises(GraphError, match="cycle"):
        redirected(node, {"a": "d", "d": "a"}, ())


def test_an_identity_keeps_name_and_control_inputs():
    node = identity(Node("m", "Mul", ("a", "b", "^c"), {"T": float, "other": 1}), "a")
    assert (node.name, node.op, node.inputs, dict(node.attrs)) == (
        "m",
        "Identity",
        ("a", "^c"),
        {"T": float},
    )


def test_a_new_name_is_one_that_the_graph_does_not_have():
    graph = Graph([Node("a", "NoOp"), Node("a_1", "NoOp")], [])
    assert (unique_name(graph, "a"), unique_name(graph, "b")) == ("a_2", "b")
