from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.support import held, ops, snapshot

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.conditionals import resolve_conditionals
from bert_serving.graph_opt.passes.identities import remove_identities
from bert_serving.graph_opt.passes.prune import prune

FLOAT, BOOL, INT = np.dtype("float32"), np.dtype("bool"), np.dtype("int32")
X = np.array([1.0, -2.0, 3.0], np.float32)


def const(name, value, dtype=FLOAT, control=()):
    return Node(name, "Const", control, {"dtype": dtype, "value": np.array(value, dtype)})


def placeholder(name, dtype=FLOAT, shape=(3,)):
    return Node(name, "Placeholder", (), {"dtype": dtype, "shape": shape})


def flag(name, shape=()):
    return placeholder(name, BOOL, shape)


def switch(name, tensor, predicate, dtype=FLOAT):
    return Node(name, "Switch", (tensor, predicate), {"T": dtype})


def op(name, kind, *inputs):
    return Node(name, kind, inputs, {"T": FLOAT})


def cond(scope, predicate, tensor, other=None):
    """``tensor * 2`` if the predicate, else ``other + 1``, as ``tf.cond`` writes it."""
    name = lambda part: scope + "/" + part  # noqa: E731
    return [
        switch(name("Switch"), predicate, predicate, BOOL),
        Node(name("switch_t"), "Identity", (name("Switch:1"),), {"T": BOOL}),
        Node(name("switch_f"), "Identity", (name("Switch"),), {"T": BOOL}),
        Node(name("pred_id"), "Identity", (predicate,), {"T": BOOL}),
        switch(name("mul/Switch"), tensor, name("pred_id")),
        const(name("mul/y"), 2, control=("^" + name("switch_t"),)),
        op(name("mul"), "Mul", name("mul/Switch:1"), name("mul/y")),
        switch(name("add/Switch"), other or tensor, name("pred_id")),
        const(name("add/y"), 1, control=("^" + name("switch_f"),)),
        op(name("add"), "AddV2", name("add/Switch"), name("add/y")),
        Node(name("Merge"), "Merge", (name("add"), name("mul")), {"T": FLOAT, "N": 2}),
    ]


def resolve(nodes, outputs, inputs=("x",), variables=None):
    graph = Graph([placeholder("x"), *nodes], outputs, variables, inputs=inputs)
    before = snapshot(graph)
    result, notes = resolve_conditionals(graph)
    assert snapshot(graph) == before
    result.validate()
    return result, notes


@pytest.mark.parametrize(("value", "expected"), [(True, X * 2), (False, X + 1)])
def test_the_branch_of_a_constant_is_taken(value, expected, tmp_path):
    nodes = [const("p", value, BOOL), *cond("cond", "p", "x")]
    result, notes = resolve(nodes, ["cond/Merge"])
    assert notes == ()
    assert not {"Switch", "Merge"} & set(ops(result))
    assert ("cond/mul" in result, "cond/add" in result) == (value, not value)
    assert result["cond/Merge"].op == "Identity"
    np.testing.assert_array_equal(run(result, {"x": X})["cond/Merge"], expected)
    clean = prune(remove_identities(result).graph).graph
    assert len(clean) == 4
    for engine, name in ((run_onnx, "m.onnx"), (run_tensorflow, "m.pb")):
        outputs = engine(clean, tmp_path / name, {"x": X})
        np.testing.assert_array_equal(outputs["cond/Merge"], expected)


@pytest.mark.parametrize("inputs", [("x",), None])
@pytest.mark.parametrize(
    "name",
    [
        "keras_learning_phase",
        "is_training",
        "isTraining_1",
        "model/training",
        "phase_train",
        "train_mode",
    ],
)
def test_at_inference_nothing_is_trained(name, inputs):
    result, _ = resolve([flag(name), *cond("cond", name, "x")], ["cond/Merge"], inputs)
    np.testing.assert_array_equal(run(result, {"x": X})["cond/Merge"], X + 1)
    assert result[name].op == "Const"


@pytest.mark.parametrize("name", ["flag", "phase", "trainable", "use_training_data", "Placeholder"])
def test_a_name_that_could_mean_anything_is_left_alone(name):
    result, notes = resolve([flag(name), *cond("cond", name, "x")], ["cond/Merge"])
    assert ops(result)["Merge"] == 1
    assert notes == (
        name
        + ": a placeholder that isn't fed and whose name doesn't say what it means, left alone",
    )


def test_a_flag_that_is_fed_is_left_alone():
    nodes = [flag("training"), *cond("cond", "training", "x")]
    result, notes = resolve(nodes, ["cond/Merge"], inputs=("x", "training"))
    assert notes == ("training: a condition that depends on data, left alone",)
    for value, expected in ((True, X * 2), (False, X + 1)):
        outputs = run(result, {"x": X, "training": np.array(value)})
        np.testing.assert_array_equal(outputs["cond/Merge"], expected)


def test_data_of_that_name_is_no_learning_phase():
    nodes = [placeholder("training", INT, (None,)), op("out", "Neg", "training")]
    result, _ = resolve(nodes, ["out"])
    assert result["training"].op == "Placeholder"


def test_a_number_may_say_the_phase():
    nodes = [
        placeholder("learning_phase", INT, ()),
        const("one", 1, INT),
        Node("p", "Equal", ("learning_phase", "one"), {"T": INT}),
        *cond("cond", "p", "x"),
    ]
    result, _ = resolve(nodes, ["cond/Merge"])
    np.testing.assert_array_equal(run(result, {"x": X})["cond/Merge"], X + 1)


@pytest.mark.parametrize("name", ["anything", "training"])
def test_a_default_decides_unless_it_says_training(name):
    nodes = [
        const("default", True, BOOL),
        Node(name, "PlaceholderWithDefault", ("default",), {"dtype": BOOL, "shape": ()}),
        *cond("cond", name, "x"),
    ]
    result, notes = resolve(nodes, ["cond/Merge"])
    training = name == "training"
    assert notes == (("training: taken as not training, unlike its default",) if training else ())
    np.testing.assert_array_equal(run(result, {"x": X})["cond/Merge"], X + 1 if training else X * 2)


def test_logic_needs_to_know_no_more_than_decides():
    nodes = [
        flag("fed"),
        flag("is_training"),
        Node("both", "LogicalAnd", ("fed", "is_training")),
        Node("not", "LogicalNot", ("both",)),
        Node("either", "LogicalOr", ("not", "fed")),
        *cond("cond", "either", "x"),
    ]
    result, _ = resolve(nodes, ["cond/Merge"], inputs=("x", "fed"))
    np.testing.assert_array_equal(run(result, {"x": X})["cond/Merge"], X * 2)


def test_a_variable_is_initialized():
    nodes = [
        Node("v", "VariableV2", (), {"dtype": FLOAT, "shape": (3,)}),
        Node("p", "IsVariableInitialized", ("v",), {"dtype": FLOAT}),
        *cond("cond", "p", "x"),
    ]
    result, _ = resolve(nodes, ["cond/Merge"], variables={"v": held("v", X)})
    np.testing.assert_array_equal(run(result, {"x": X})["cond/Merge"], X * 2)


@st.composite
def programs(draw):
    """Conditionals that read each other's results, with predicates known and not."""
    nodes = [
        flag("is_training"),
        flag("fed"),
        const("yes", True, BOOL),
        Node("inference", "LogicalNot", ("is_training",)),
    ]
    tensors = ["x"]
    for number in range(draw(st.integers(1, 5))):
        predicate = draw(st.sampled_from(["is_training", "fed", "yes", "inference"]))
        operands = [draw(st.sampled_from(tensors)) for _ in range(2)]
        nodes += cond("c%d" % number, predicate, *operands)
        tensors.append("c%d/Merge" % number)
    return nodes, draw(st.lists(st.sampled_from(tensors), min_size=1, unique=True))


@given(programs(), st.booleans())
def test_the_outputs_stay(program, fed):
    nodes, outputs = program
    feeds = {"x": X, "fed": np.array(fed), "is_training": np.array(False)}
    graph = Graph([placeholder("x"), *nodes], outputs, inputs=("x", "fed"))
    expected = run(graph, feeds)
    result, _ = resolve_conditionals(graph)
    for clean in (result, prune(remove_identities(result).graph).graph):
        actual = run(clean, {name: feeds[name] for name in ("x", "fed")})
        for name in outputs:
            np.testing.assert_array_equal(actual[name], expected[name])
    predicates = {clean[node.data_inputs[1]].name for node in clean if node.op == "Switch"}
    assert predicates <= {"fed"}


def nested(outer, inner):
    """The branch of ``outer`` holds a conditional of ``inner``, as TensorFlow nests them."""
    return [
        Node("pred_id", "Identity", (outer,), {"T": BOOL}),
        switch("p", inner, "pred_id", BOOL),
        switch("x1", "x", "pred_id"),
        switch("x2", "x1:1", "p:1"),
        op("deep", "Square", "x2:1"),
        Node("inside", "Merge", ("x2", "deep"), {"T": FLOAT, "N": 2}),
        op("outside", "Neg", "x1"),
        Node("out", "Merge", ("outside", "inside"), {"T": FLOAT, "N": 2}),
    ]


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_nested_conditionals(outer, inner):
    nodes = [const("a", outer, BOOL), const("b", inner, BOOL), *nested("a", "b")]
    result, _ = resolve(nodes, ["out"])
    assert not {"Switch", "Merge"} & set(ops(result))
    expected = -X if not outer else X * X if inner else X
    np.testing.assert_array_equal(run(result, {"x": X})["out"], expected)


@pytest.mark.parametrize("outer", [True, False])
def test_a_known_conditional_around_one_decided_by_data(outer):
    nodes = [const("a", outer, BOOL), flag("fed"), *nested("a", "fed")]
    result, notes = resolve(nodes, ["out"], inputs=("x", "fed"))
    assert len(notes) == int(outer)
    for fed in (True, False):
        expected = -X if not outer else X * X if fed else X
        outputs = run(result, {"x": X, "fed": np.array(fed)})
        np.testing.assert_array_equal(outputs["out"], expected)


@pytest.mark.parametrize("value", [True, False])
def test_the_number_of_the_branch(value):
    nodes = [const("p", value, BOOL), *cond("cond", "p", "x")]
    nodes.append(Node("number", "Cast", ("cond/Merge:1",), {"SrcT": INT, "DstT": FLOAT}))
    result, _ = resolve(nodes, ["number", "cond/Merge:1"])
    clean = prune(remove_identities(result).graph).graph
    for graph in (result, clean):
        outputs = run(graph, {"x": X})
        assert outputs["number"] == outputs["cond/Merge:1"] == int(value)


def test_a_merge_of_which_only_some_inputs_are_dead():
    nodes = [
        const("no", False, BOOL),
        flag("fed"),
        switch("s", "x", "no"),
        op("gone", "Neg", "s:1"),
        switch("t", "x", "fed"),
        op("two", "Square", "t"),
        Node("m", "Merge", ("gone", "two", "t:1"), {"T": FLOAT, "N": 3}),
    ]
    result, _ = resolve(nodes, ["m", "m:1"], inputs=("x", "fed"))
    for fed, expected, number in ((True, X, 2), (False, X * X, 1)):
        outputs = run(result, {"x": X, "fed": np.array(fed)})
        np.testing.assert_array_equal(outputs["m"], expected)
        assert outputs["m:1"] == number


def test_a_switch_without_a_merge():
    nodes = [const("p", True, BOOL), switch("s", "x", "p"), op("y", "Neg", "s:1")]
    result, _ = resolve(nodes, ["y", "s:1"])
    outputs = run(result, {"x": X})
    np.testing.assert_array_equal(outputs["y"], -X)
    np.testing.assert_array_equal(outputs["s:1"], X)


def test_an_output_in_the_branch_not_taken_is_an_error():
    nodes = [const("p", False, BOOL), switch("s", "x", "p"), op("y", "Neg", "s:1")]
    with pytest.raises(GraphError, match="'y' is in a branch that isn't taken"):
        resolve(nodes, ["y"])


def test_variables_of_the_branch_not_taken_go():
    nodes = [
        const("p", False, BOOL),
        Node("s", "Switch", ("p", "p"), {"T": BOOL}),
        Node("yes", "Identity", ("s:1",), {"T": BOOL}),
        Node("v", "VariableV2", ("^yes",), {"dtype": FLOAT, "shape": (3,)}),
        switch("t", "x", "p"),
        op("sum", "AddV2", "t:1", "v"),
        Node("out", "Merge", ("t", "sum"), {"T": FLOAT, "N": 2}),
    ]
    result, _ = resolve(nodes, ["out"], variables={"v": held("v", X)})
    assert result.variables == {}


@pytest.mark.parametrize("value", [True, False])
def test_select_by_a_known_predicate(value):
    nodes = [const("p", value, BOOL), op("c", "Neg", "x"), op("y", "Select", "p", "x", "c")]
    result, _ = resolve(nodes, ["y"])
    assert result["y"].op == "Identity"
    np.testing.assert_array_equal(run(result, {"x": X})["y"], X if value else -X)


def test_select_v2_of_a_tensor_rather_than_a_number():
    nodes = [const("p", True, BOOL), const("c", 0.5), op("y", "SelectV2", "p", "x", "c")]
    result, _ = resolve(nodes, ["y"])
    assert (result["y"].op, result["y"].inputs) == ("Identity", ("x",))


def test_a_select_that_broadcasts_is_left_alone():
    nodes = [const("p", True, BOOL), const("c", 0.5), op("y", "SelectV2", "p", "c", "x")]
    result, _ = resolve(nodes, ["y"])
    np.testing.assert_array_equal(run(result, {"x": X})["y"], [0.5, 0.5, 0.5])


def loop(start):
    """Add 1 until it is 3 or more, as ``tf.while_loop`` writes it."""
    return [
        Node("enter", "Enter", (start,), {"T": FLOAT, "frame_name": b"counting"}),
        Node("merge", "Merge", ("enter", "next"), {"T": FLOAT, "N": 2}),
        const("three", 3, control=("^merge",)),
        op("less", "Less", "merge", "three"),
        Node("again", "LoopCond", ("less",)),
        switch("turn", "merge", "again"),
        Node("body", "Identity", ("turn:1",), {"T": FLOAT}),
        const("one", 1, control=("^body",)),
        op("sum", "AddV2", "body", "one"),
        op("next", "NextIteration", "sum"),
        op("exit", "Exit", "turn"),
    ]


def test_a_loop_is_left_alone():
    graph = Graph([const("start", 0), *loop("start")], ["exit"])
    result, notes = resolve_conditionals(graph)
    assert snapshot(result) == snapshot(graph)
    assert notes == ("counting: a loop, left alone",)
    kept = prune(remove_identities(graph).graph).graph
    assert snapshot(kept) == snapshot(graph)


def test_a_loop_in_the_branch_not_taken_goes():
    nodes = [const("p", False, BOOL), switch("s", "x", "p"), *loop("s:1")]
    nodes.append(Node("out", "Merge", ("s", "exit"), {"T": FLOAT, "N": 2}))
    result, notes = resolve(nodes, ["out"])
    assert notes == ()
    assert [node.name for node in result] == ["x", "p", "s", "out"]


def test_a_graph_without_conditionals_stays():
    graph = Graph([placeholder("x"), op("y", "NeverHeardOf", "x")], ["y"])
    result, notes = resolve_conditionals(graph)
    assert snapshot(result) == snapshot(graph)
    assert notes == ()
