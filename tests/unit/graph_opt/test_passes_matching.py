from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.support import held, snapshot

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.matching import (
    Edit,
    Readers,
    constant_of,
    plain,
    scalar_of,
    source,
)

FLOAT = np.dtype("float32")


def node(name, op, *inputs):
    return Node(name, op, inputs, {"T": FLOAT})


def const(name, value):
    return Node(name, "Const", (), {"dtype": FLOAT, "value": np.array(value, FLOAT)})


def chain(outputs=("d",)):
    """x -> a -> b -> c -> d, and a dead node that reads b."""
    nodes = [Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (None,)})]
    nodes += [node("a", "Tanh", "x"), node("b", "Identity", "a:0"), node("c", "Relu", "b")]
    nodes += [node("d", "Square", "c:0"), node("dead", "Sqrt", "b")]
    return Graph(nodes, outputs)


def test_tensors_are_followed_through_identities():
    graph = chain()
    assert source(graph, "b:0") == "a"
    assert source(graph, "c") == "c"
    assert [plain(name) for name in ("a:0", "a:1", "a")] == ["a", "a:1", "a"]


@pytest.mark.parametrize(
    ("value", "expected"), [(2.5, 2.5), ([2.5], None), (np.inf, None), (np.nan, None)]
)
def test_scalars_are_finite_and_of_rank_0(value, expected):
    graph = Graph([const("c", value), node("i", "Identity", "c")], ["i"])
    assert scalar_of(graph, "i") == expected
    assert constant_of(graph, "i:0") is graph["c"].attrs["value"]


def test_nothing_changed_is_nothing_touched():
    graph = chain()
    edit = Edit(graph)
    assert not edit.touched
    assert snapshot(edit.graph()) == snapshot(graph)


def test_readers_are_sent_to_the_other_tensor_and_what_is_left_over_goes():
    edit = Edit(chain())
    edit.redirect("c", "x", FLOAT)
    graph = edit.graph()
    assert graph["d"].inputs == ("x",)
    # Nobody needed the dead node before either, so it and what it reads stay.
    assert set(graph.nodes) == {"x", "a", "b", "d", "dead"}


def test_redirections_are_followed_to_the_end():
    edit = Edit(chain())
    edit.redirect("c", "b", FLOAT)
    edit.redirect("b", "a", FLOAT)
    assert edit.graph()["d"].inputs == ("a",)


@pytest.mark.parametrize("name", ["c", "c:0"])
def test_a_redirected_output_keeps_its_name(name):
    edit = Edit(chain(outputs=(name, "d")))
    edit.redirect("c", "a", FLOAT)
    graph = edit.graph()
    assert graph.outputs == (name, "d")
    assert (graph["c"].op, graph["c"].inputs) == ("Identity", ("a",))
    assert graph["d"].inputs == ("a",)


def test_added_nodes_get_names_of_their_own():
    edit = Edit(chain())
    names = [edit.constant("a", 1.0, FLOAT, "a") for _ in range(2)]
    edit.replace(node("d", "AddN", "c", *names))
    graph = edit.graph()
    assert names == ["a_1", "a_2"]
    assert not graph["a_1"].attrs["value"].flags.writeable
    assert graph["d"].inputs == ("c", "a_1", "a_2")


def test_variables_and_inputs():
    variable = Node("v", "VariableV2", (), {"dtype": FLOAT, "shape": (2,)})
    x = Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (None,)})
    nodes = [variable, x, node("a", "AddV2", "x", "v"), const("c", 1.0), node("b", "Tanh", "a")]
    edit = Edit(Graph(nodes, ["b"], {"v": held("v", np.zeros(2, np.float32))}))
    edit.redirect("a", "c", FLOAT)
    graph = edit.graph()
    # The variable goes with what read it; what is fed stays an input of the graph.
    assert set(graph.nodes) == {"x", "c", "b"}
    assert graph.variables == {}
    assert graph.inputs == ("x",)


def test_a_group_leaks_where_somebody_else_reads_it():
    nodes = [const("x", 1.0), node("a", "Tanh", "x"), node("i", "Identity", "a")]
    nodes += [node("b", "Square", "i"), node("c", "AddV2", "b", "a"), node("d", "Relu", "c")]
    assert Readers(Graph(nodes, ["d"])).leaks(["a", "b"], "c") == []
    assert Readers(Graph(nodes, ["d", "b"])).leaks(["a", "b"], "c") == ["b"]
    assert Readers(Graph(nodes, ["d", "i"])).leaks(["a", "b"], "c") == ["a"]
    assert Readers(Graph(nodes, ["d"])).leaks(["a"], "c") == ["a"]


def test_the_only_reader_is_that_of_what_is_no_output():
    readers = Readers(chain(outputs=("d", "c:0")))
    assert readers.only("a").name == "b"
    assert readers.only("b") is None
    assert readers.only("c") is None
