from __future__ import annotations

import errno

import numpy as np
import pytest
from unit.graph_opt.engines import run_tensorflow
from unit.graph_opt.support import held, random_source, scalar_builder, small_batch, snapshot

from bert_serving.graph_opt import files
from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.graph_def import nodes_of
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.targets import tf_graph
from bert_serving.graph_opt.targets.tf_graph import write_graph_def
from bert_serving.graph_opt.tf_messages import GraphDef

FLOAT = np.dtype("float32")
X = np.array([1.0, -2.0, 3.5], np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "graph.pb"


def written(graph, path):
    assert write_graph_def(graph, path) == (path,)
    return GraphDef.FromString(path.read_bytes())


@pytest.mark.parametrize(
    "strategy", ["NONE", "REDUCE_MEAN", "REDUCE_MAX", "SEP_TOKEN", "CLS_POOLED"]
)
def test_models_run_in_tensorflow(strategy, path):
    graph, _ = optimize(build(random_source(), GraphOptions(strategy, (-1, 0))))
    before = snapshot(graph)
    actual = run_tensorflow(graph, path, small_batch())
    assert snapshot(graph) == before
    expected = run(graph, small_batch())
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_allclose(actual[name], array, atol=1e-4)


def test_what_is_read_back_is_what_was_written(path):
    graph, _ = optimize(build(random_source(), GraphOptions()))
    nodes = {node.name: node for node in nodes_of(written(graph, path))}
    assert list(nodes) == [node.name for node in graph.topological()]
    for node in graph:
        assert nodes[node.name].inputs == node.inputs
        for name, value in node.attrs.items():
            np.testing.assert_equal(
                nodes[node.name].attrs[name],
                value.encode() if isinstance(value, str) else value,
            )


def test_versions(path):
    builder, constant = scalar_builder()
    versions = written(builder.build(builder.op("Mul", ("x", constant))), path).versions
    assert (versions.producer, versions.min_consumer) == (134, 0)


def test_attributes_that_tensorflow_demands_are_completed(path):
    """N of ConcatV2 and Pack, and the dtypes that the edges tell."""
    graph = Graph(
        [
            Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (3,)}),
            Node("axis", "Const", (), {"dtype": np.dtype("int32"), "value": np.array(0, "int32")}),
            Node("joined", "ConcatV2", ("x", "x", "axis")),
            Node("twice", "Pack", ("joined", "joined"), {"axis": 1}),
            Node("y", "Tanh", ("twice:0",)),
        ],
        ["y"],
    )
    by_name = {node.name: node for node in nodes_of(written(graph, path))}
    assert by_name["joined"].attrs == {"N": 2, "T": FLOAT, "Tidx": np.dtype("int32")}
    assert by_name["twice"].attrs == {"N": 2, "T": FLOAT, "axis": 1}
    actual = run_tensorflow(graph, path, {"x": X})["y"]
    doubled = np.concatenate([X, X])
    np.testing.assert_allclose(actual, np.tanh(np.stack([doubled, doubled], 1)), rtol=1e-6)


def test_attributes_of_newer_versions_are_left_out(path):
    attrs = {"T": FLOAT, "grad_a": False, "grad_b": False, "transpose_a": False}
    x = Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (2, 2)})
    graph = Graph([x, Node("y", "MatMul", ("x", "x"), attrs)], ["y"])
    assert set(written(graph, path).node[1].attr) == {"T", "transpose_a"}
    identity = np.eye(2, dtype=np.float32)
    np.testing.assert_array_equal(run_tensorflow(graph, path, {"x": identity})["y"], identity)


@pytest.mark.parametrize(
    "value",
    [
        np.array(3.5, np.float64),
        np.zeros((0, 3), np.float32),
        np.array([[True], [False]]),
        np.array([1, -1], np.float16),
        np.array([b"a", b"", b"\xff\0"], object),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.array([1 + 2j], np.complex64),
        np.array([2**64 - 1], np.uint64),
    ],
    ids=lambda value: str(value.dtype),
)
def test_constants(value, path):
    graph = Graph([Node("c", "Const", (), {"dtype": value.dtype, "value": value})], ["c"])
    (node,) = nodes_of(written(graph, path))
    assert node.attrs["value"].dtype == value.dtype.newbyteorder("=")
    np.testing.assert_array_equal(node.attrs["value"], value)
    np.testing.assert_array_equal(run_tensorflow(graph, path, {})["c"], value)


def test_bfloat16(path):
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    value = np.array([1.5, -3.0], dtype)
    constant = Node("c", "Const", (), {"dtype": dtype, "value": value})
    cast = Node("y", "Cast", ("c",), {"SrcT": dtype, "DstT": FLOAT})
    actual = run_tensorflow(Graph([constant, cast], ["y"]), path, {})["y"]
    np.testing.assert_array_equal(actual, value.astype(np.float32))


def test_control_inputs_come_last(path):
    start = Node("start", "NoOp")
    x = Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": None})
    graph = Graph([start, x, Node("y", "Tanh", ("^start", "x"), {"T": FLOAT})], ["y"])
    assert list(written(graph, path).node[2].input) == ["x", "^start"]


def test_variables_must_be_frozen(path):
    builder = GraphBuilder()
    with pytest.raises(GraphError, match="freeze it first"):
        write_graph_def(builder.build(builder.variable(held("v", X))), path)


def test_too_large_a_graph_names_the_way_out(path, monkeypatch):
    graph, _ = optimize(build(random_source(), GraphOptions()))
    write_graph_def(graph, path)
    size = path.stat().st_size
    monkeypatch.setattr(tf_graph, "SIZE_LIMIT", size)
    write_graph_def(graph, path)
    monkeypatch.setattr(tf_graph, "SIZE_LIMIT", size - 1)
    with pytest.raises(GraphError, match="takes %d bytes, .* write it as ONNX" % size):
        write_graph_def(graph, path)


def test_nothing_is_left_after_an_error(path, monkeypatch):
    path.write_bytes(b"before")

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    builder, constant = scalar_builder()
    with pytest.raises(OSError, match="No space left"):
        write_graph_def(builder.build(builder.op("Mul", ("x", constant))), path)
    assert [one.read_bytes() for one in path.parent.iterdir()] == [b"before"]
