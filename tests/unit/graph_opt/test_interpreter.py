from __future__ import annotations

import weakref

import numpy as np
import pytest
from unit.graph_opt.engines import run_tensorflow
from unit.graph_opt.support import held, scalar_builder

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node, Variable
from bert_serving.graph_opt.interpreter import inference_feeds, run
from bert_serving.graph_opt.kernels import KERNELS
from bert_serving.graph_opt.layers import dropout

FLOAT, INT, BOOL = np.dtype("float32"), np.dtype("int32"), np.dtype("bool")


def compute(op, *arrays, **attrs):
    node = Node("n", op, tuple("abc"[: len(arrays)]), attrs)
    return KERNELS[op](node, [np.asarray(array) for array in arrays])[0]


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_reductions_keep_the_dtype(dtype):
    data = np.arange(6, dtype=dtype).reshape(2, 3)
    for op in ("Sum", "Max"):
        result = compute(op, data, np.array([1]), keep_dims=True)
        assert result.dtype == dtype
        assert result.shape == (2, 1)
    assert compute("Sum", data, np.array(0)).tolist() == [3, 5, 7]
    assert compute("Sum", data, np.array([0, 1])).shape == ()


def test_matmul_transposes():
    left, right = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3)
    assert np.array_equal(compute("MatMul", left, right, transpose_b=True), left @ right.T)
    assert np.array_equal(compute("MatMul", left.T, right.T, transpose_a=True), left @ right.T)
    batch = np.stack([right, right + 1])
    assert np.array_equal(
        compute("BatchMatMulV2", left[None], batch, adj_y=True), left @ batch.swapaxes(1, 2)
    )


def test_gathers():
    table = np.arange(12).reshape(3, 4)
    indices = np.array([[2, 0]])
    assert compute("GatherV2", table, indices, np.array(0)).shape == (1, 2, 4)
    assert compute("GatherV2", table, np.array(1), np.array(1)).tolist() == [1, 5, 9]
    assert compute("GatherNd", table, np.array([[2, 0], [1, 3]])).tolist() == [8, 7]
    with pytest.raises(IndexError):
        compute("GatherV2", table, np.array([3]), np.array(0))


def test_shapes_and_ranges():
    data = np.zeros((2, 5), np.float32)
    shape = compute("Shape", data, out_type=np.dtype("int64"))
    assert (shape.tolist(), shape.dtype) == ([2, 5], np.int64)
    assert compute("Range", np.int32(1), np.int32(7), np.int32(2)).tolist() == [1, 3, 5]
    assert compute("Range", np.int32(0), np.int32(2), np.int32(1)).dtype == np.int32
    assert compute("Reshape", data, np.array([-1])).shape == (10,)
    assert compute("ExpandDims", data, np.array(-1)).shape == (2, 5, 1)
    assert compute("Transpose", data, np.array([1, 0])).shape == (5, 2)
    assert compute("Pack", data, data, axis=1).shape == (2, 2, 5)
    assert compute("ConcatV2", data, data, np.array(-1)).shape == (2, 10)


def test_elementwise_stays_in_float32():
    x = np.linspace(-3, 3, 7).astype(np.float32)
    for op in ("Erf", "Floor", "Relu", "Softmax", "Square", "Tanh"):
        assert compute(op, x).dtype == np.float32, op
    for op in ("Add", "Maximum", "Minimum", "Mul", "RealDiv", "Sub"):
        assert compute(op, x, np.float32(2)).dtype == np.float32, op
    assert compute("Softmax", x).sum() == pytest.approx(1)
    assert compute("Softmax", x + np.float32(1e4)).tolist() == compute("Softmax", x).tolist()
    assert compute("Relu", x).tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert compute("SelectV2", x > 0, x, np.float32(-1)).tolist() == [-1, -1, -1, -1, 1, 2, 3]


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("Equal", [False, True, False]),
        ("Greater", [False, False, True]),
        ("GreaterEqual", [False, True, True]),
        ("Less", [True, False, False]),
        ("LessEqual", [True, True, False]),
    ],
)
def test_comparisons(op, expected):
    assert compute(op, [1, 2, 3], [2, 2, 2]).tolist() == expected


def test_only_what_the_outputs_need_is_computed():
    builder, constant = scalar_builder()
    builder.placeholder("unneeded", "float32", ())
    builder.op("Relu", ("unneeded",))
    graph = builder.build(builder.op("Mul", ("x", constant)))
    assert run(graph, {"x": np.ones(1)})["Mul"].tolist() == [2]


def test_what_is_not_needed_may_run_in_a_circle():
    builder, constant = scalar_builder()
    graph = builder.build(builder.op("Mul", ("x", constant)))
    circle = [Node("a", "Neg", ("b",), {"T": FLOAT}), Node("b", "Neg", ("a",), {"T": FLOAT})]
    before = Node("c", "Const", ("^b",), graph["c"].attrs)
    nodes = [*circle, *(before if node.name == "c" else node for node in graph)]
    feeds = {"x": np.ones(1), "c": np.float32(3)}
    assert run(Graph(nodes, graph.outputs), feeds)["Mul"].tolist() == [3]
    with pytest.raises(GraphError, match="a cycle runs through"):
        run(Graph(nodes, graph.outputs), {"x": np.ones(1)})


def test_operands_that_do_not_fit_are_named():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, None))
    graph = builder.build(builder.op("MatMul", ("x", "x"), "product"))
    with pytest.raises(GraphError, match=r"MatMul 'product' of float32 \[2, 3\], float32 \[2, 3\]"):
        run(graph, {"x": np.ones((2, 3))})


def test_a_feed_overrides_a_node():
    builder, constant = scalar_builder()
    graph = builder.build(builder.op("Mul", ("x", constant)))
    assert run(graph, {"x": np.ones(1), "c": np.float32(5)})["Mul"].tolist() == [5]


def test_a_missing_or_wrong_feed():
    builder = GraphBuilder()
    graph = builder.build(builder.placeholder("ids", "int32", (None,)))
    with pytest.raises(GraphError, match="the placeholder 'ids' has no value"):
        run(graph, {})
    with pytest.raises(GraphError, match="'ids' takes int32, not float64"):
        run(graph, {"ids": np.ones(2)})


def test_unknown_operations_and_outputs():
    graph = Graph([Node("a", "Lookup")], ["a"])
    with pytest.raises(UnsupportedOp, match=r"node 'a': the numpy interpreter .* Lookup"):
        run(graph, {})
    constant = Node("c", "Const", (), {"dtype": FLOAT, "value": np.float32(1)})
    with pytest.raises(GraphError, match="node 'c' has no output 1"):
        run(Graph([constant], ["c:1"]), {})


def test_the_names_of_feeds_and_outputs_may_have_an_index():
    builder, constant = scalar_builder()
    graph = builder.build(builder.op("Mul", ("x", constant)) + ":0")
    assert run(graph, {"x:0": np.ones(1)})["Mul:0"].tolist() == [2]


def test_overflow_and_division_by_zero_are_results():
    builder, constant = scalar_builder(0.0)
    graph = builder.build(builder.op("RealDiv", ("x", constant)))
    assert np.isinf(run(graph, {"x": np.ones(1)})["RealDiv"]).all()


class Weights:
    """Variables that count how many of their values are in memory."""

    def __init__(self, count):
        self.loaded = []
        self.alive = 0
        self.most = 0
        self.variables = [
            Variable("w%d" % index, (4,), FLOAT, lambda index=index: self._load(index))
            for index in range(count)
        ]

    def _load(self, index):
        array = np.full(4, index, np.float32)
        self.loaded.append(index)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(array, self._dropped)
        return array

    def _dropped(self):
        self.alive -= 1


@pytest.mark.parametrize("weight_first", [False, True])
def test_each_weight_is_in_memory_only_while_it_is_needed(weight_first):
    weights = Weights(20)
    builder = GraphBuilder()
    reads = [builder.variable(variable) for variable in weights.variables]
    tensor = builder.placeholder("x", "float32", (4,))
    for read in reads[:-1]:
        pair = (read, tensor) if weight_first else (tensor, read)
        tensor = builder.op("AddV2", pair)
    graph = builder.build(builder.op("Neg", (tensor,), "out"))
    assert run(graph, {"x": np.zeros(4)})["out"].tolist() == [-sum(range(19))] * 4
    assert weights.loaded == list(range(19))
    assert (weights.most, weights.alive) == (1, 0)


def test_values_are_dropped_after_their_last_use():
    seen = []
    builder = GraphBuilder()
    tensor = builder.placeholder("x", "float32", (None,))
    for _ in range(10):
        tensor = builder.op("Neg", (tensor,))

    def load():
        # Of the values before, those of the last Neg only are still there.
        seen.append(sum(1 for reference in alive if reference() is not None))
        return np.zeros(1, np.float32)

    alive = []

    def track(array):
        result = np.negative(array)
        alive.append(weakref.ref(result))
        return (result,)

    last = builder.variable(Variable("late", (1,), FLOAT, load))
    graph = builder.build(builder.op("AddV2", (tensor, last)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KERNELS, "Neg", lambda node, arrays: track(arrays[0]))
        run(graph, {"x": np.ones(1000)})
    assert len(alive) == 10
    assert seen == [1]


def test_a_value_that_is_read_twice_stays():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", ())
    twice = builder.op("Neg", ("x",), "n")
    both = builder.op("Mul", (twice, twice), "square")
    later = builder.op("AddV2", (builder.op("Abs", (both,)), twice), "later")
    results = run(builder.build([later, "n", "x", "n"]), {"x": 3.0})
    assert {name: float(value) for name, value in results.items()} == {"later": 6, "n": -3, "x": 3}


@pytest.mark.parametrize("op", ["Variable", "VariableV2"])
def test_reference_variables(op):
    node = Node("v", op, (), {"dtype": FLOAT, "shape": (2,)})
    variable = held("v", np.array([1, 2], np.float32))
    assert run(Graph([node], ["v"], {"v": variable}), {})["v"].tolist() == [1, 2]
    with pytest.raises(GraphError, match="the variable node 'v' has no value"):
        run(Graph([node], ["v"]), {})


def test_resource_variables():
    nodes = [
        Node("v", "VarHandleOp", (), {"dtype": FLOAT, "shape": (3, 2)}),
        Node("read", "ReadVariableOp", ("v",), {"dtype": FLOAT}),
        Node("ids", "Placeholder", (), {"dtype": INT, "shape": (None,)}),
        Node("rows", "ResourceGather", ("v", "ids"), {"dtype": FLOAT, "Tindices": INT}),
    ]
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = Graph(nodes, ["read", "rows"], {"v": held("v", table)})
    results = run(graph, {"ids": [2, 0]})
    assert results["read"].tolist() == table.tolist()
    assert results["rows"].tolist() == [[4, 5], [0, 1]]


def switch(name, data, predicate, dtype=FLOAT):
    return Node(name, "Switch", (data, predicate), {"T": dtype})


def merge(name, *inputs, dtype=FLOAT):
    return Node(name, "Merge", inputs, {"T": dtype, "N": len(inputs)})


def conditional():
    """Conditionals as tf.cond of TensorFlow 1 writes them.

    The one gives Neg(x) or Exp(x), the other one of two constants, which hang on the branches by
    control inputs; a third is inside a branch of the first.
    """
    scalar = {"dtype": BOOL, "shape": ()}
    one, two = (np.array(value, np.float32) for value in (1, 2))
    return [
        Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": ()}),
        Node("p", "Placeholder", (), scalar),
        Node("q", "Placeholder", (), scalar),
        switch("x_switch", "x", "p"),
        Node("no", "Neg", ("x_switch",), {"T": FLOAT}),
        Node("yes", "Exp", ("x_switch:1",), {"T": FLOAT}),
        merge("either", "no", "yes"),
        switch("pivot", "p", "p", BOOL),
        Node("in_no", "Identity", ("pivot",), {"T": BOOL}),
        Node("in_yes", "Identity", ("pivot:1",), {"T": BOOL}),
        Node("one", "Const", ("^in_no",), {"dtype": FLOAT, "value": one}),
        Node("two", "Const", ("^in_yes",), {"dtype": FLOAT, "value": two}),
        merge("number", "one", "two"),
        switch("q_inside", "q", "p", BOOL),
        switch("inner", "yes", "q_inside:1"),
        Node("inner_no", "Neg", ("inner",), {"T": FLOAT}),
        Node("inner_yes", "Square", ("inner:1",), {"T": FLOAT}),
        merge("inner_either", "inner_no", "inner_yes"),
        merge("nested", "no", "inner_either"),
        Node("skipped", "NoOp", ("^in_no",)),
        Node("after", "Identity", ("number", "^skipped"), {"T": FLOAT}),
    ]


@pytest.mark.parametrize("p", [False, True])
@pytest.mark.parametrize("q", [False, True])
def test_conditionals(p, q, tmp_path):
    outputs = ["either", "either:1", "number", "number:1", "nested", "nested:1"]
    graph = Graph(conditional(), outputs)
    feeds = {"x": np.float32(2), "p": np.array(p), "q": np.array(q)}
    values = {name: value.item() for name, value in run(graph, feeds).items()}
    exponential = float(np.exp(np.float32(2)))
    inner = (-exponential, np.square(np.exp(np.float32(2))).item())[q]
    assert values == {
        "either": (-2, exponential)[p],
        "either:1": int(p),
        "number": (1, 2)[p],
        "number:1": int(p),
        "nested": (-2, inner)[p],
        "nested:1": int(p),
    }
    expected = run_tensorflow(graph, tmp_path / "graph.pb", feeds)
    assert values == pytest.approx({name: value.item() for name, value in expected.items()})


def test_an_output_in_a_branch_that_is_not_taken():
    feeds = {"x": 2, "p": np.array(True), "q": np.array(True)}
    for output in ("no", "after"):
        with pytest.raises(GraphError, match="output '%s' is in a branch that isn't" % output):
            run(Graph(conditional(), [output]), feeds)
    assert run(Graph(conditional(), ["after"]), dict(feeds, p=np.array(False)))["after"] == 1


def test_control_inputs_that_no_conditional_decides_about_are_not_run():
    nodes = [
        Node("assert", "SomeAssertion"),
        Node("c", "Const", ("^assert",), {"dtype": FLOAT, "value": np.float32(1)}),
    ]
    assert run(Graph(nodes, ["c"]), {})["c"] == 1


def test_dropout_is_off_at_inference():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None,))
    graph = builder.build(dropout(builder, "x", 0.5))
    x = np.linspace(1, 2, 50).astype(np.float32)
    feeds = {"x": x}
    (trained,) = run(graph, feeds).values()
    assert 0 < (trained == 0).sum() < 50
    (served,) = run(graph, dict(feeds, **inference_feeds(graph))).values()
    assert served.tolist() == x.tolist()
