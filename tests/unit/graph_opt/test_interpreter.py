from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.support import scalar_builder

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.kernels import KERNELS
from bert_serving.graph_opt.signatures import SIGNATURES, tensor_dtypes
from bert_serving.graph_opt.targets.onnx_ops import EMITTERS

FLOAT = np.dtype("float32")


def compute(op, *arrays, **attrs):
    node = Node("n", op, tuple("abc"[: len(arrays)]), attrs)
    return KERNELS[op](node, [np.asarray(array) for array in arrays])[0]


def test_every_kernel_and_emitter_has_a_signature():
    assert set(KERNELS) | {"Placeholder", "VariableV2"} == set(SIGNATURES)
    assert set(EMITTERS) <= set(SIGNATURES)


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
    with pytest.raises(UnsupportedOp, match=r"node 'a': the table of signatures .* Lookup"):
        tensor_dtypes(graph)
    constant = Node("c", "Const", (), {"dtype": FLOAT, "value": np.float32(1)})
    with pytest.raises(GraphError, match="node 'c' has no output 1"):
        run(Graph([constant], ["c:1"]), {})
