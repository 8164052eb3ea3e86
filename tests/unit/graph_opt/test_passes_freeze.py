from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.support import held, ops, random_source, small_batch, snapshot

from bert_serving.graph_opt.dtypes import RESOURCE
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node, Variable
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.passes.freeze import freeze
from bert_serving.graph_opt.pipeline import GraphOptions, build

FLOAT, INT = np.dtype("float32"), np.dtype("int32")
TABLE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


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


def handle(name, shape=TABLE.shape, **attrs):
    return Node(name, "VarHandleOp", (), dict({"dtype": FLOAT, "shape": shape}, **attrs))


def read(name, source):
    return Node(name, "ReadVariableOp", (source,), {"dtype": FLOAT})


def neg(name, source):
    return Node(name, "Neg", (source,), {"T": FLOAT})


def test_resource_variables_are_read_directly(tmp_path):
    nodes = [handle("v"), read("r", "v"), neg("y", "r"), read("out", "v")]
    frozen = freeze(Graph(nodes, ["y", "out"], {"v": held("v", TABLE)})).graph
    assert ops(frozen) == {"Const": 1, "Neg": 1, "Identity": 1}
    assert frozen["y"].inputs == ("v",)
    assert dict(frozen["out"].attrs) == {"T": FLOAT}
    for outputs in (
        run(frozen, {}),
        run_onnx(frozen, tmp_path / "m.onnx", {}),
        run_tensorflow(frozen, tmp_path / "m.pb", {}),
    ):
        np.testing.assert_array_equal(outputs["y"], -TABLE)
        np.testing.assert_array_equal(outputs["out"], TABLE)


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_gathering_from_a_resource(batch_dims, tmp_path):
    # TensorFlow 1.15 gives the same for its ResourceGather as for GatherV2 with axis = batch_dims.
    attrs = {"dtype": FLOAT, "Tindices": INT, "batch_dims": batch_dims, "validate_indices": True}
    nodes = [
        Node("ids", "Placeholder", (), {"dtype": INT, "shape": (2, 2)}),
        handle("v"),
        Node("out", "ResourceGather", ("v", "ids"), attrs),
    ]
    frozen = freeze(Graph(nodes, ["out"], {"v": held("v", TABLE)})).graph
    assert ops(frozen) == {"Placeholder": 1, "Const": 2, "GatherV2": 1}
    ids = np.array([[0, 1], [1, 0]], np.int32)
    expected = np.stack([TABLE[row, ids[row]] for row in range(2)]) if batch_dims else TABLE[ids]
    for outputs in (
        run(frozen, {"ids": ids}),
        run_tensorflow(frozen, tmp_path / "m.pb", {"ids": ids}),
    ):
        np.testing.assert_array_equal(outputs["out"], expected)


def test_other_questions_to_a_resource():
    nodes = [
        handle("v"),
        Node("ids", "Const", (), {"dtype": INT, "value": np.array([[1, 2]], np.int32)}),
        Node("nd", "ResourceGatherNd", ("v", "ids"), {"dtype": FLOAT, "Tindices": INT}),
        Node("shape", "VariableShape", ("v",), {"out_type": np.dtype("int64")}),
        Node("there", "VarIsInitializedOp", ("v",)),
    ]
    outputs = ["nd", "shape", "there"]
    results = run(freeze(Graph(nodes, outputs, {"v": held("v", TABLE)})).graph, {})
    np.testing.assert_array_equal(results["nd"], [TABLE[1, 2]])
    np.testing.assert_array_equal(results["shape"], [2, 3, 4])
    assert results["shape"].dtype == np.int64
    assert results["there"]


def counted(name, array, loads):
    def load():
        loads.append(name)
        return array

    return Variable(name, array.shape, array.dtype, load)


@pytest.mark.parametrize("same_object", [True, False])
def test_a_shared_variable_is_loaded_once(same_object):
    loads = []
    variable, other = counted("a", TABLE, loads), counted("b", TABLE, loads)
    nodes = [
        handle("a", shared_name=b"" if same_object else b"table"),
        handle("b", shared_name=b"" if same_object else b"table"),
        neg("y", "r"),
        read("r", "b"),
        read("s", "a"),
        Node("sum", "AddV2", ("y", "s"), {"T": FLOAT}),
    ]
    graph = Graph(nodes, ["sum"], {"a": variable, "b": variable if same_object else other})
    frozen = freeze(graph).graph
    assert loads == ["a"]
    assert ops(frozen) == {"Const": 1, "Neg": 1, "AddV2": 1}
    assert not run(frozen, {})["sum"].any()


def test_variables_of_equal_shape_are_not_shared():
    nodes = [handle(name) for name in "ab"]
    nodes += [read("r" + name, name) for name in "ab"]
    graph = Graph(nodes, ["ra", "rb"], {"a": held("w", TABLE), "b": held("w", -TABLE)})
    outputs = run(freeze(graph).graph, {})
    np.testing.assert_array_equal(outputs["rb"], -outputs["ra"])


def test_arrays_are_not_copied():
    frozen = freeze(variable_graph(held("v", TABLE), TABLE.shape)).graph
    assert frozen["v"].attrs["value"] is TABLE


def test_only_what_the_outputs_need_is_loaded():
    loads = []
    nodes = [handle("v"), handle("slot"), read("out", "v")]
    nodes.append(Node("adam", "ResourceApplyAdam", ("v", "slot", "out")))
    variables = {"v": held("v", TABLE), "slot": counted("slot", TABLE, loads)}
    frozen = freeze(Graph(nodes, ["out"], variables)).graph
    assert (loads, list(frozen.nodes)) == ([], ["v", "out"])


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize("resource", [True, False])
def test_a_variable_read_in_a_branch_decided_by_data(fed, resource):
    kind = {"T": RESOURCE if resource else FLOAT}
    nodes = [
        Node("p", "Placeholder", (), {"dtype": np.dtype("bool"), "shape": ()}),
        handle("v") if resource else Node("v", "VariableV2", (), dict(handle("v").attrs)),
        Node("s", "Switch" if resource else "RefSwitch", ("v", "p"), kind),
        read("r", "s:1") if resource else Node("r", "Identity", ("s:1",), {"T": FLOAT}),
        neg("no", "t"),
        read("t", "s") if resource else Node("t", "Identity", ("s",), {"T": FLOAT}),
        Node("out", "Merge", ("no", "r"), {"T": FLOAT, "N": 2}),
    ]
    frozen = freeze(Graph(nodes, ["out"], {"v": held("v", TABLE)})).graph
    assert (frozen["s"].op, frozen["s"].attrs["T"]) == ("Switch", FLOAT)
    expected = TABLE if fed else -TABLE
    np.testing.assert_array_equal(run(frozen, {"p": np.array(fed)})["out"], expected)


@pytest.mark.parametrize("op", ["AssignAdd", "ScatterNdUpdate", "ApplyAdam"])
def test_what_an_assignment_returns_is_an_error(op):
    nodes = [
        Node("v", "VariableV2", (), {"dtype": FLOAT, "shape": (2,)}),
        Node("step", op, ("v", "v"), {"T": FLOAT}),
    ]
    variable = held("v", np.ones(2, np.float32))
    with pytest.raises(GraphError, match="%s 'step'.* uses the variable 'v'" % op):
        freeze(Graph(nodes, ["step"], {"v": variable}))


def test_a_handle_used_in_an_unknown_way_is_an_error():
    nodes = [handle("v"), Node("out", "ResourceStridedSliceAssign", ("v",))]
    with pytest.raises(GraphError, match="'out', on the way to the outputs"):
        freeze(Graph(nodes, ["out"], {"v": held("v", TABLE)}))


def test_a_read_after_an_assignment_gives_the_value_in_the_file():
    nodes = [handle("v"), read("new", "v"), Node("assign", "AssignVariableOp", ("v", "new"))]
    nodes.append(Node("out", "ReadVariableOp", ("v", "^assign"), {"dtype": FLOAT}))
    frozen = freeze(Graph(nodes, ["out"], {"v": held("v", TABLE)})).graph
    np.testing.assert_array_equal(run(frozen, {})["out"], TABLE)


@pytest.mark.parametrize("shape", [None, (None, 3, None)])
def test_a_variable_of_open_shape(shape):
    frozen = freeze(variable_graph(held("v", TABLE), shape)).graph
    assert frozen["v"].attrs["value"].shape == (2, 3, 4)


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
