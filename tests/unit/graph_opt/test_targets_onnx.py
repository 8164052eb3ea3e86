from __future__ import annotations

import errno

import numpy as np
import pytest
from unit.graph_opt.support import HUGGING_FACE, held, random_source, small_batch

from bert_serving.graph_opt import files
from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.targets.onnx import IR_VERSION, OPSET, write_onnx

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

FLOAT = np.dtype("float32")
X = np.random.RandomState(0).standard_normal((3, 4)).astype(np.float32)


def session(path, **options):
    settings = ort.SessionOptions()
    for name, value in options.items():
        setattr(settings, name, value)
    return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def optimized_model(options=None, source=None):
    graph, _ = optimize(build(source or random_source(), options or GraphOptions()))
    return graph


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def both(graph, path, feeds):
    """The single output by the interpreter and by onnxruntime."""
    assert write_onnx(graph, path) == (path,)
    onnx.checker.check_model(str(path), full_check=True)
    (actual,) = session(path).run(None, feeds)
    (expected,) = run(graph, feeds).values()
    return expected, actual


def unary(op, **attrs):
    return lambda builder: builder.op(op, ("x",), **attrs)


def with_constant(op, value, dtype="float32", **attrs):
    return lambda builder: builder.op(op, ("x", builder.constant(value, dtype)), **attrs)


def select(builder):
    zero = builder.constant(0, "float32")
    return builder.op("SelectV2", (builder.op("Greater", ("x", zero)), "x", zero))


def rows(builder):
    shape = builder.op("Shape", ("x",), dtypes={"out_type": "int32"})
    zero, one = builder.constant(0, "int32"), builder.constant(1, "int32")
    count = builder.op("GatherV2", (shape, zero, zero), batch_dims=0)
    numbers = builder.op("Range", (zero, count, one))
    pairs = builder.op("Pack", (numbers, numbers), axis=1)
    return builder.op("GatherNd", ("x", pairs))


def flattened(builder):
    shape = builder.op("Shape", ("x",), dtypes={"out_type": "int64"})
    zero = builder.constant(0, "int64")
    count = builder.op("GatherV2", (shape, zero, zero), batch_dims=0)
    target = builder.op("Pack", (count, builder.constant(2, "int64"), count), axis=0)
    joined = builder.op("ConcatV2", ("x", "x", builder.constant(1, "int64")))
    sliced = builder.op("GatherV2", (joined, builder.constant(range(6), "int64"), axis1(builder)))
    return builder.op("Reshape", (sliced, target))


def axis1(builder):
    return builder.constant(1, "int64", "axis1")


OPERATIONS = {
    "Erf": unary("Erf"),
    "Floor": unary("Floor"),
    "Identity": unary("Identity"),
    "StopGradient": unary("StopGradient"),
    "Relu": unary("Relu"),
    "Softmax": unary("Softmax"),
    "Sqrt": lambda builder: builder.op("Sqrt", (builder.op("Square", ("x",)),)),
    "Square": unary("Square"),
    "Tanh": unary("Tanh"),
    "Add": with_constant("Add", 2.0),
    "AddV2": with_constant("AddV2", [1.0, 2.0, 3.0, 4.0]),
    "BiasAdd": with_constant("BiasAdd", [1.0, 2.0, 3.0, 4.0], data_format="NHWC"),
    "Maximum": with_constant("Maximum", 0.5),
    "Minimum": with_constant("Minimum", 0.5),
    "Mul": with_constant("Mul", 0.5),
    "Pow": with_constant("Pow", 3.0),
    "RealDiv": with_constant("RealDiv", 0.5),
    "Sub": with_constant("Sub", 0.5),
    "Max": with_constant("Max", [1], "int64", keep_dims=False),
    "Mean": with_constant("Mean", [-1], "int64", keep_dims=True),
    "Sum": with_constant("Sum", [0, 1], "int64", keep_dims=True),
    "Sum over one axis": with_constant("Sum", 1, "int64"),
    "Transpose": with_constant("Transpose", [1, 0], "int32"),
    "ExpandDims": with_constant("ExpandDims", -1, "int32"),
    "Reshape": with_constant("Reshape", [2, -1], "int32"),
    "Reshape, computed": flattened,
    "GatherV2": lambda builder: builder.op(
        "GatherV2", ("x", builder.constant([[2, 0]], "int32"), builder.constant(0, "int32"))
    ),
    "GatherNd": rows,
    "SelectV2": select,
    "MatMul": with_constant("MatMul", np.eye(4)[:, :2]),
    "MatMul, transposed": with_constant("MatMul", np.eye(4)[:2], transpose_b=True),
    "BatchMatMulV2": lambda builder: builder.op(
        "BatchMatMulV2", ("x", "x"), adj_x=True, adj_y=False
    ),
    "BatchMatMulV2, transposed": lambda builder: builder.op(
        "BatchMatMulV2", ("x", "x"), adj_x=False, adj_y=True
    ),
    "Cast": lambda builder: builder.op(
        "Cast", (builder.op("Cast", ("x",), dtypes={"DstT": "int32"}),), dtypes={"DstT": "float32"}
    ),
}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operations(name, path):
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, 4))
    output = builder.op("Identity", (OPERATIONS[name](builder),), "out")
    expected, actual = both(builder.build(output), path, {"x": X})
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("strategy", POOLING_STRATEGIES)
def test_models(strategy, path):
    options = GraphOptions(strategy, (-1, 0), normalize=strategy != "NONE")
    expected, actual = both(optimized_model(options), path, small_batch())
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_signature(path):
    write_onnx(optimized_model(), path)
    model = onnx.load(str(path))
    assert model.ir_version == IR_VERSION
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    described = [(one.name, one.type, one.shape) for one in session(path).get_inputs()]
    names = ("input_ids", "input_mask", "input_type_ids")
    assert described == [(name, "tensor(int32)", ["batch", "sequence"]) for name in names]
    assert [(one.name, one.type) for one in session(path).get_outputs()] == [
        ("final_encodes", "tensor(float)")
    ]
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


def test_any_batch_and_length(path):
    graph = optimized_model(GraphOptions("REDUCE_MAX"))
    write_onnx(graph, path)
    model = session(path)
    for batch, length in ((1, 1), (1, 9), (5, 2)):
        feeds = {name: np.ones((batch, length), np.int32) for name in graph.inputs}
        (vectors,) = model.run(None, feeds)
        np.testing.assert_allclose(vectors, run(graph, feeds)["final_encodes"], atol=1e-4)


def optimized_ops(path):
    """What onnxruntime's optimizer made of a model: operator -> count."""
    result = path.with_name("optimized.onnx")
    session(path, optimized_model_filepath=str(result), log_severity_level=3)
    counts = {}
    for node in onnx.load(str(result), load_external_data=False).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def test_onnxruntime_fuses_layer_norm_and_gelu(path):
    source = read_model(HUGGING_FACE)
    write_onnx(optimized_model(GraphOptions("CLS_TOKEN", (-1,)), source), path)
    counts = optimized_ops(path)
    layers = source.config.num_hidden_layers
    norms = counts.get("LayerNormalization", 0) + counts.get("SkipLayerNormalization", 0)
    assert norms == 1 + 2 * layers
    assert counts.get("Gelu", 0) + counts.get("BiasGelu", 0) == layers
    assert "Erf" not in counts
    assert "ReduceMean" not in counts


def test_a_large_model_has_its_tensors_in_a_second_file(path, tmp_path):
    graph = optimized_model(source=read_model(HUGGING_FACE))
    written = write_onnx(graph, path, single_file_limit=1000)
    assert written == (path, tmp_path / "model.onnx.data")
    assert sorted(tmp_path.iterdir()) == sorted(written)
    (actual,) = session(path).run(None, small_batch())
    expected = run(graph, small_batch())["final_encodes"]
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    onnx.checker.check_model(str(path), full_check=True)
    # Shapes and axes stay where shape inference sees them.
    model = onnx.load(str(path), load_external_data=False)
    inside = {tensor.name for tensor in model.graph.initializer if not tensor.external_data}
    assert "bert/shapes/matrix/int64" in inside


def test_a_model_that_is_replaced(path):
    for seed in (1, 2):
        builder = GraphBuilder()
        builder.placeholder("x", "float32", (None,))
        constant = builder.constant(seed, "float32")
        write_onnx(builder.build(builder.op("Mul", ("x", constant), "out")), path)
    assert session(path).run(None, {"x": np.ones(1, np.float32)})[0].tolist() == [2]


def test_nothing_is_left_after_an_error(path, monkeypatch):
    path.write_bytes(b"before")

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_onnx(optimized_model(), path)
    assert [one.read_bytes() for one in path.parent.iterdir()] == [b"before"]


def test_an_unsupported_operation_is_named(path):
    unknown = Graph([Node("odd", "Less", ("x", "x"), {"T": FLOAT}), placeholder()], ["odd"])
    with pytest.raises(UnsupportedOp, match=r"node 'odd': the ONNX target .* Less"):
        write_onnx(unknown, path)
    assert not path.exists()


def placeholder():
    return Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (None, 4)})


def test_what_onnx_cannot_say(path):
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, 4))
    builder.placeholder("perm", "int32", (2,))
    graph = builder.build(builder.op("Transpose", ("x", "perm"), "turned"))
    with pytest.raises(GraphError, match="Transpose 'turned': ONNX needs its input 'perm'"):
        write_onnx(graph, path)
    axis = builder.constant(0, "int32")
    graph = builder.build(builder.op("GatherV2", ("x", "perm", axis), "rows", batch_dims=1))
    with pytest.raises(GraphError, match="'rows' has batch_dims"):
        write_onnx(graph.replaced(nodes=[node for node in graph if node.name != "turned"]), path)


def test_variables_must_be_frozen(path):
    builder = GraphBuilder()
    graph = builder.build(builder.variable(held("v", X)))
    with pytest.raises(GraphError, match="freeze it first"):
        write_onnx(graph, path)
