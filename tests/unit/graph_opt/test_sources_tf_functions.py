from __future__ import annotations

import numpy as np
import pytest

from bert_serving.graph_opt.dtypes import RESOURCE, data_type_number
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.graph_def import AttrReference, Function, node_def
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.sources.op_defs import OpDefs
from bert_serving.graph_opt.sources.tf_functions import inline_functions
from bert_serving.graph_opt.tf_messages import FunctionDef

FLOAT, BOOL = np.dtype("float32"), np.dtype("bool")
X = Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (2,)})
P = Node("p", "Placeholder", (), {"dtype": BOOL, "shape": ()})
T = {"T": FLOAT}
VALUE = np.array([-1.0, 4.0], np.float32)


def function(name, arguments, nodes, results, dtype=FLOAT):
    """A FunctionDef; ``results``: output argument -> tensor of the body."""
    proto = FunctionDef()
    proto.signature.name = name
    for argument in arguments:
        proto.signature.input_arg.add(name=argument, type=data_type_number(dtype))
    for result, tensor in results.items():
        proto.signature.output_arg.add(name=result, type=data_type_number(FLOAT))
        proto.ret[result] = tensor
    proto.node_def.extend(node_def(node) for node in nodes)
    return proto


def inlined(nodes, outputs, *functions):
    library = {one.signature.name: one for one in functions}
    op_defs = OpDefs(one.signature for one in functions)
    graph = Graph(inline_functions(nodes, outputs, library, op_defs), outputs, inputs=["x"])
    graph.validate()
    return graph


def call(name, function_name, inputs=("x",), op="PartitionedCall"):
    return Node(name, op, inputs, {"f": Function(function_name), "Tin": (FLOAT,), "Tout": (FLOAT,)})


def unary(name, op, function_name):
    return function(function_name, ["a"], [Node(name, op, ("a",), T)], {"r": name + ":y:0"})


@pytest.mark.parametrize("op", ["PartitionedCall", "StatefulPartitionedCall"])
def test_a_call(op):
    graph = inlined([X, call("f", "square", op=op)], ["f"], unary("s", "Square", "square"))
    assert [node.op for node in graph] == ["Placeholder", "Identity", "Square"]
    assert graph["f"].inputs == ("f/s",)
    np.testing.assert_array_equal(run(graph, {"x": VALUE})["f"], VALUE**2)


def test_a_node_whose_operation_is_a_function():
    graph = inlined([X, Node("f", "square", ("x",))], ["f"], unary("s", "Square", "square"))
    np.testing.assert_array_equal(run(graph, {"x": VALUE})["f"], VALUE**2)


def test_a_call_that_no_output_needs_stays():
    graph = inlined([X, call("f", "lost")], ["x"])
    assert graph["f"].op == "PartitionedCall"


def test_calls_within_calls():
    outer = function("outer", ["a"], [call("f", "square", ("a",))], {"r": "f:output:0"})
    nodes = [X, call("one", "outer"), call("two", "outer", ("one",))]
    graph = inlined(nodes, ["two"], outer, unary("s", "Square", "square"))
    np.testing.assert_array_equal(run(graph, {"x": VALUE})["two"], VALUE**4)


def test_results_of_several_outputs():
    body = [
        Node("axis", "Const", (), {"dtype": np.dtype("int32"), "value": np.array(0, np.int32)}),
        Node("parts", "Split", ("axis:output:0", "a"), {"T": FLOAT, "num_split": 2}),
    ]
    pair = function("pair", ["a"], body, {"one": "parts:output:1", "two": "a"})
    nodes = [X, call("f", "pair"), Node("y", "Square", ("f",), T), Node("z", "Abs", ("f:1",), T)]
    graph = inlined(nodes, ["f:1", "y", "z"], pair)
    assert graph["f"].op == "IdentityN"
    assert graph["f"].attrs["T"] == (FLOAT, FLOAT)
    assert graph["f"].inputs == ("f/parts:1", "x")


def test_attributes_that_the_caller_decides():
    body = function(
        "f", ["a"], [Node("s", "Square", ("a",), {"T": AttrReference("T")})], {"r": "s:y:0"}
    )
    call_node = Node("y", "PartitionedCall", ("x",), {"f": Function("f", (("T", FLOAT),))})
    assert inlined([X, call_node], ["y"], body)["y/s"].attrs["T"] == FLOAT
    with pytest.raises(GraphError, match="'s' needs the attribute T of its function"):
        inlined([X, call("y", "f")], ["y"], body)


def test_names_that_are_taken():
    """The body's nodes s and s_1, where f/s exists."""
    body = [Node("s", "Square", ("a",), T), Node("s_1", "Neg", ("s:y:0",), T)]
    taken = Node("f/s", "Abs", ("x",), T)
    graph = inlined(
        [X, taken, call("f", "g")], ["f", "f/s"], function("g", ["a"], body, {"r": "s_1:y:0"})
    )
    results = run(graph, {"x": VALUE})
    np.testing.assert_array_equal(results["f"], -(VALUE**2))
    np.testing.assert_array_equal(results["f/s"], np.abs(VALUE))


def conditional(inputs, types):
    attrs = {
        "Tin": types,
        "Tout": (FLOAT,),
        "then_branch": Function("then"),
        "else_branch": Function("else"),
    }
    return Node("y", "If", ("p",) + inputs, attrs)


def test_a_conditional_becomes_switch_and_merge():
    two = Node("two", "Const", (), {"dtype": FLOAT, "value": np.array(2, np.float32)})
    then = function("then", ["a"], [Node("s", "Square", ("a",), T)], {"r": "s:y:0"})
    constant = function("else", ["a"], [two], {"r": "two:output:0"})
    graph = inlined([X, P, conditional(("x",), (FLOAT,))], ["y"], then, constant)
    assert graph["y"].inputs == ("y/Merge_0",)
    # As tf.cond of TensorFlow 1 has it: output 0 of a Switch goes to the branch not taken if true.
    assert graph["y/Merge_0"].inputs == ("y/else/two", "y/then/s")
    assert graph["y/then/s"].inputs == ("y/Switch_1:1",)
    assert graph["y/Switch_1"].inputs == ("x", "p")
    assert graph["y/else/two"].inputs == ("^y/else/pivot",)
    assert graph["y/else/pivot"].inputs == ("y/Switch",)
    assert graph["y/then/pivot"].inputs == ("y/Switch:1",)
    assert graph["y/Switch"].inputs == ("p", "p")


def test_handles_of_variables_are_not_switched():
    read = Node("v", "ReadVariableOp", ("h",), {"dtype": FLOAT})
    branches = [
        function(name, ["h"], [read], {"r": "v:value:0"}, RESOURCE) for name in ("then", "else")
    ]
    handle = Node("h", "VarHandleOp", (), {"dtype": FLOAT, "shape": (2,)})
    graph = inlined([X, P, handle, conditional(("h",), (RESOURCE,))], ["y"], *branches)
    assert graph["y/then/v"].inputs == ("h", "^y/then/pivot")
    assert graph["y/else/v"].inputs == ("h", "^y/else/pivot")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            function("f", ["a"], [call("again", "f", ("a",))], {"r": "again:output:0"}),
            "calls itself",
        ),
        (function("other", ["a"], [], {"r": "a"}), "calls the function 'f', which isn't there"),
        (function("f", ["a", "b"], [], {"r": "a"}), "'y' has too few inputs"),
        (function("f", [], [], {}), "'y' has 1 inputs, its function 0"),
        (function("f", ["a"], [], {"r": "lost:y:0"}), "reads 'lost:y:0', which isn't there"),
        (function("f", ["a"], [Node("s", "Abs", ("^lost",), T)], {"r": "a"}), "reads '\\^lost'"),
    ],
)
def test_malformed_functions(body, message):
    with pytest.raises(GraphError, match=message):
        inlined([X, call("y", "f")], ["y"], body)
