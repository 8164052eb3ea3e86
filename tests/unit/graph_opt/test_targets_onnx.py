from __future__ import annotations

import errno
from contextlib import contextmanager

import numpy as np
import pytest
from unit.graph_opt.draft import Draft
from unit.graph_opt.op_examples import EXAMPLES, inputs
from unit.graph_opt.support import HUGGING_FACE, held, random_source, small_batch

from bert_serving.graph_opt import files
from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.targets import onnx as onnx_target
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


@pytest.mark.parametrize("open_axes", [(), (0, 1, 2)], ids=["fixed", "open"])
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_operations(name, open_axes, path):
    draft = inputs(open_axes)
    found = EXAMPLES[name](draft)
    graph = draft.graph([found] if isinstance(found, str) else found)
    write_onnx(graph, path)
    if name != "Squeeze, all":  # of which not even the rank is known; the checker wants a shape
        onnx.checker.check_model(str(path), full_check=True)
    actual = session(path).run(list(graph.outputs), draft.feeds)
    for tensor, value in zip(graph.outputs, actual):
        expected = draft.values[tensor]
        assert value.dtype == expected.dtype
        assert value.shape == expected.shape
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", [one for one in POOLING_STRATEGIES if one not in HEADS])
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
    assert "bert/shapes/matrix:int64" in inside


def test_a_model_that_is_replaced(path):
    for seed in (1, 2):
        builder = GraphBuilder()
        builder.placeholder("x", "float32", (None,))
        constant = builder.constant(seed, "float32")
        write_onnx(builder.build(builder.op("Mul", ("x", constant), "out")), path)
    assert session(path).run(None, {"x": np.ones(1, np.float32)})[0].tolist() == [2]


class Full:
    """A file of a disk that has room for ``room`` bytes."""

    def __init__(self, file, room):
        self._file = file
        self._room = room

    def write(self, data):
        self._room -= memoryview(data).nbytes
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize(
    ("limit", "rooms"),
    [
        (10**9, {".onnx": 0}),
        (10**9, {".onnx": 9000}),
        (0, {".data": 5000, ".onnx": 10**9}),
        (0, {".data": 10**9, ".onnx": 0}),
        (0, {".data": 10**9, ".onnx": 9000}),
    ],
)
def test_a_full_disk_leaves_nothing_behind(path, monkeypatch, limit, rooms):
    graph = optimized_model(source=read_model(HUGGING_FACE))
    before = {path: b"model", path.with_name("model.onnx.data"): b"tensors"}
    for one, content in before.items():
        one.write_bytes(content)

    @contextmanager
    def on_full_disk(target):
        with files.replacing(target) as file:
            yield Full(file, rooms[target.suffix])

    monkeypatch.setattr(onnx_target, "replacing", on_full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_onnx(graph, path, single_file_limit=limit)
    assert {one: one.read_bytes() for one in path.parent.iterdir()} == before


def test_nothing_is_left_if_the_file_cannot_be_put_in_place(path, monkeypatch):
    path.write_bytes(b"before")

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_onnx(optimized_model(), path)
    assert [one.read_bytes() for one in path.parent.iterdir()] == [b"before"]


def test_an_unsupported_operation_is_named(path):
    unknown = Graph([Node("odd", "Svd", ("x",), {"T": FLOAT}), placeholder()], ["odd"])
    with pytest.raises(UnsupportedOp, match=r"node 'odd': the ONNX target .* Svd"):
        write_onnx(unknown, path)
    assert not path.exists()


def placeholder():
    return Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (None, 4)})


def turned(draft):
    return draft.op("Transpose", ("x", draft.input("perm", np.array([1, 0], np.int32))), "turned")


def gathered(draft):
    axis, indices = draft.const(2, "int32"), draft.const([[0], [1]], "int32")
    return draft.op("GatherV2", ("cube", indices, axis), "rows", batch_dims=1)


def shaped(draft):
    shape = draft.input("shape", np.array([4, 3], np.int32), (0,))
    flat = draft.op("Reshape", ("x", shape), "flat")
    return draft.op("MatMul", (flat, flat), "product", transpose_a=True, transpose_b=False)


def worded(draft):
    return draft.op("Identity", (draft.const(b"word", object, "word"),))


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (turned, "Transpose 'turned': ONNX needs its input 'perm' to be constant"),
        (gathered, "'rows' has batch_dims 1 and axis 2: ONNX needs them to be equal"),
        (shaped, "MatMul 'product': the number of dimensions of its input 'flat' can't be told"),
        (worded, "ONNX models can't hold tensors of the dtype object"),
    ],
)
def test_what_onnx_cannot_say(path, example, message):
    draft = inputs()
    with pytest.raises(GraphError, match=message):
        write_onnx(draft.graph([example(draft)]), path)
    assert not path.exists()


def test_a_placeholder_that_is_not_an_input(path):
    draft = inputs()
    output = draft.op("Neg", ("x",))
    nodes = draft.graph([output])
    with pytest.raises(GraphError, match=r"need the placeholder 'x', which isn't among .*'ids'"):
        write_onnx(Graph(nodes, [output], inputs=["ids"]), path)
    # One that nothing needs does no harm.
    write_onnx(Graph(nodes, ["ids"], inputs=["ids"]), path)
    assert [one.name for one in session(path).get_inputs()] == ["ids"]


def test_what_the_outputs_do_not_need_is_not_translated(path):
    draft = inputs()
    one = draft.op("Neg", ("x",), "one")
    nodes = [*draft.graph([one]), Node("odd", "Svd", ("x",)), Node("even", "NoOp", ("^odd",))]
    nodes[nodes.index(draft.nodes[one])] = Node("one", "Neg", ("x:0", "^even"), {"T": FLOAT})
    write_onnx(Graph(nodes, ["one"]), path)
    assert [node.op_type for node in onnx.load(str(path)).graph.node] == ["Neg"]


def test_outputs_of_all_kinds(path):
    """An input, a constant, a later output of a node, one with its index, one of them twice."""
    draft = inputs()
    constant = draft.const([1.0, 2.0], name="constant")
    halves = draft.op("Split", (draft.const(1, "int32"), "x"), "halves", num_split=2)
    names = ["ids", constant, halves + ":1", halves + ":0", "x:0"]
    graph = draft.graph([*names, constant])
    write_onnx(graph, path)
    onnx.checker.check_model(str(path), full_check=True)
    model = session(path)
    assert [one.name for one in model.get_outputs()] == names
    for name, value in zip(names, model.run(names, draft.feeds)):
        np.testing.assert_array_equal(value, draft.values[name])


def test_a_default_is_used_unless_its_placeholder_is_an_input(path):
    draft = Draft()
    default = draft.const(2.0, name="default")
    rate = draft.op("PlaceholderWithDefault", (default,), "rate", shape=())
    nodes = draft.graph([draft.op("Neg", (rate,), "out")])
    write_onnx(Graph(nodes, ["out"], inputs=()), path)
    assert session(path).run(None, {})[0] == -2
    write_onnx(Graph(nodes, ["out"], inputs=["rate"]), path)
    assert session(path).run(None, {"rate": np.array(5, np.float32)})[0] == -5


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "int8", "uint8", "int32", "int64", "float64"]
)
@pytest.mark.parametrize("limit", [0, 10**9], ids=["two files", "one file"])
def test_constants_of_any_dtype(path, dtype, limit):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    draft = Draft()
    numbers = draft.const(np.arange(100, 1300).reshape(3, 400) % 120, dtype)
    floats = draft.op("Cast", (numbers,), dtypes={"DstT": "float32"})
    back = draft.op("Cast", (floats,), dtypes={"DstT": dtype})
    again = draft.op("Cast", (back,), "again", dtypes={"DstT": "float32"})
    write_onnx(draft.graph([floats, again]), path, single_file_limit=limit)
    onnx.checker.check_model(str(path), full_check=True)
    for value, name in zip(session(path).run(None, {}), (floats, again)):
        np.testing.assert_array_equal(value, draft.values[name])


@pytest.mark.parametrize("op", ["MatMul", "Softmax", "Erf", "AddV2", "Sum"])
def test_arithmetic_in_float16(path, op):
    draft = Draft()
    x = draft.input("x", X.astype(np.float16), (0,))
    weights = draft.const(np.linspace(-1, 1, 16).reshape(4, 4), "float16")
    operands = {"MatMul": (x, weights), "AddV2": (x, x), "Sum": (x, draft.const(1, "int32"))}
    output = draft.op(op, operands.get(op, (x,)))
    write_onnx(draft.graph([output]), path)
    (actual,) = session(path).run(None, draft.feeds)
    assert actual.dtype == np.float16
    np.testing.assert_allclose(actual, draft.values[output], rtol=2e-3, atol=2e-3)


def test_dimensions_of_inputs(path):
    shapes = {"fixed": (2, 3), "open": (None, None, None, 4), "any": None, "scalar": ()}
    nodes = [
        Node(name, "Placeholder", (), {"dtype": FLOAT, "shape": shape})
        for name, shape in shapes.items()
    ]
    graph = Graph([*nodes, Node("out", "Neg", ("any",), {"T": FLOAT})], ["out"])
    write_onnx(graph, path)
    described = {one.name: one.shape for one in session(path).get_inputs()}
    assert described["fixed"] == [2, 3]
    assert described["open"] == ["open_0", "open_1", "open_2", 4]
    assert described["scalar"] == []
    feeds = {"fixed": X[:2, :3], "open": X[:, None, None], "any": X, "scalar": np.array(X[0, 0])}
    (value,) = session(path).run(None, feeds)
    assert value.tolist() == (-X).tolist()


def test_only_what_is_equal_by_contract_shares_a_name(path):
    """onnxruntime may give one array's memory to another if their dimensions are named alike."""
    shapes = {"one": (None,), "other": (None,), "more": (None, None), "input_ids": (None,)}
    shapes.update(input_mask=(None, None), input_type_ids=(None, None))
    nodes = [
        Node(name, "Placeholder", (), {"dtype": FLOAT, "shape": shape})
        for name, shape in shapes.items()
    ]
    write_onnx(Graph([*nodes, Node("out", "Neg", ("one",), {"T": FLOAT})], ["out"]), path)
    described = {one.name: one.shape for one in session(path).get_inputs()}
    assert described.pop("input_mask") == described.pop("input_type_ids") == ["batch", "sequence"]
    names = [name for dimensions in described.values() for name in dimensions]
    assert len(names) == len(set(names)) == 5


def test_tensors_made_on_the_way_never_take_the_name_of_another(path):
    draft = Draft()
    draft.input("x", X, (0,))
    total = draft.op("Sum", ("x", draft.const([1], "int32")), "s")
    mine = draft.const([5.0], name="s/axes")
    output = draft.op("AddV2", (total, mine))
    write_onnx(draft.graph([output]), path)
    np.testing.assert_allclose(session(path).run(None, draft.feeds)[0], X.sum(1) + 5, rtol=1e-6)


def test_variables_must_be_frozen(path):
    builder = GraphBuilder()
    graph = builder.build(builder.variable(held("v", X)))
    with pytest.raises(GraphError, match="freeze it first"):
        write_onnx(graph, path)
