from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.support import ops, random_source, small_batch, snapshot

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.fold_constants import fold_constants
from bert_serving.graph_opt.passes.quantize import MINIMUM_SIZE, quantize
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES
from bert_serving.graph_opt.quantization import (
    DYNAMIC_QUANT_MAT_MUL,
    LARGEST,
    balance,
    quantize_columns,
    quantize_rows,
    quantize_weights,
)

FLOAT, INT8 = np.dtype("float32"), np.dtype("int8")
STRATEGIES = [strategy for strategy in POOLING_STRATEGIES if strategy not in HEADS]
# Weights of a small model are small: none is too small here.
small = partial(quantize, minimum_size=1)

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 40)


def numbers(shape, seed=0, scale=1.0):
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(np.float32)


def model(strategy="REDUCE_MEAN"):
    return optimize(build(random_source(), GraphOptions(strategy, (-1,))))[0]


def product(weights, name="out", **flags):
    """``x @ weights`` of a placeholder x."""
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, None))
    kernel = builder.constant(weights, "float32", "kernel")
    attrs = dict({"transpose_a": False, "transpose_b": False}, **flags)
    builder.op("MatMul", ("x", kernel), name, **attrs)
    return builder.build(name)


def gathered(table, axis=0, **attrs):
    builder = GraphBuilder()
    builder.placeholder("ids", "int32", (None,))
    table = builder.constant(table, "float32", "table")
    axis = builder.constant(axis, "int32", "axis")
    builder.op("GatherV2", (table, "ids", axis), "out", **dict({"batch_dims": 0}, **attrs))
    return builder.build("out")


def bytes_of(graph, op="Const"):
    return sum(node.attrs["value"].nbytes for node in graph if node.op == op)


# ------------------------------------------------------------------------------ weights to int8


@given(seeds, sizes, sizes)
def test_values_are_within_half_a_step_of_the_weights(seed, rows, columns):
    weights = numbers((rows, columns), seed)
    for values, scales in (
        quantize_columns(weights),
        quantize_rows(weights),
        quantize_weights(weights),
    ):
        assert values.dtype == INT8
        assert scales.dtype == FLOAT
        assert np.abs(values.astype(int)).max() <= LARGEST
        assert (np.abs(values * scales - weights) <= scales * 0.501).all()


@given(seeds, sizes, sizes)
def test_no_sum_of_two_products_saturates_16_bits(seed, rows, columns):
    # The hardest case: neighbours of the same sign, as large as the largest.
    weights = np.abs(numbers((rows, columns), seed)).round() + np.float32(0.5)
    for candidate in (weights, -weights, numbers((rows, columns), seed)):
        values = quantize_columns(candidate).values.astype(int)
        pairs = values[: rows // 2 * 2].reshape(-1, 2, columns).sum(axis=1) * 255
        if pairs.size:
            assert pairs.min() >= -(2**15)
            assert pairs.max() < 2**15


def test_rows_are_scaled_each_by_itself_in_tables_larger_than_a_chunk():
    table = numbers((9001, 4)) * np.logspace(-6, 6, 9001, dtype=np.float32)[:, None]
    values, scales = quantize_rows(table)
    assert scales.shape == (9001, 1)
    assert (np.abs(values).max(axis=1) == LARGEST).all()
    np.testing.assert_allclose(values * scales, table, atol=0, rtol=0.5 / 1e-9)
    assert (np.abs(values * scales - table) <= scales * 0.501).all()


def test_what_is_all_zeros_stays_zero():
    zeros = np.zeros((4, 3), np.float32)
    for values, scales in (quantize_columns(zeros), quantize_rows(zeros), quantize_weights(zeros)):
        assert not values.any()
        assert (scales == 1).all()
    assert (balance(zeros) == 1).all()


def test_balance_moves_range_from_channels_with_small_weights():
    weights = np.ones((5, 8), np.float32) * np.array([[1], [1], [1], [0.01], [4]], np.float32)
    np.testing.assert_allclose(balance(weights), [1, 1, 1, 10, 0.5])
    weights[3] = 0
    assert balance(weights)[3] == 10, "and has a limit"


# ------------------------------------------------------------------------------------ the pass


@pytest.mark.parametrize("arithmetic", [False, True])
def test_the_model_is_a_quarter_as_large_and_untouched(arithmetic):
    graph = model()
    before = snapshot(graph)
    quantized, notes = small(graph, arithmetic)
    assert snapshot(graph) == before
    assert notes == ()
    floats = [
        node.name
        for node in quantized
        if node.op == "Const" and node.attrs["dtype"] == FLOAT and node.attrs["value"].ndim > 1
    ]
    assert all(name.endswith("/scale") for name in floats)
    assert quantized.outputs == graph.outputs
    assert quantized.inputs == graph.inputs
    counts = ops(quantized)
    if arithmetic:
        # Four products in each of three layers.
        assert counts[DYNAMIC_QUANT_MAT_MUL] == 12
        assert "MatMul" not in counts
    else:
        assert counts["MatMul"] == 12
        assert DYNAMIC_QUANT_MAT_MUL not in counts
    # Embeddings are gathered as integers, and with each row its scale.
    assert [node.attrs["Tparams"] for node in quantized if node.op == "GatherV2"].count(INT8) == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("arithmetic", [False, True])
def test_outputs_stay_near_and_finite_for_every_strategy(strategy, arithmetic):
    graph = model(strategy)
    feeds = small_batch()
    feeds["input_mask"][2] = 0  # a row of padding only
    expected = run(graph, feeds)["final_encodes"]
    actual = run(small(graph, arithmetic).graph, feeds)["final_encodes"]
    assert actual.dtype == FLOAT
    assert np.isfinite(actual).all()
    one, other = expected[:2].ravel(), actual[:2].ravel()
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.98


@pytest.mark.parametrize(
    ("engine", "arithmetic"), [(run_onnx, False), (run_onnx, True), (run_tensorflow, False)]
)
def test_engines_compute_the_same(engine, arithmetic, tmp_path):
    graph = small(model(), arithmetic).graph
    feeds = small_batch()
    expected = run(graph, feeds)["final_encodes"]
    actual = engine(graph, tmp_path / "model", feeds)["final_encodes"]
    # A value that lies between two steps may be rounded either way.
    limit = 1e-1 if arithmetic else 1e-4
    np.testing.assert_allclose(actual, expected, rtol=limit, atol=limit)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("arithmetic", [False, True])
def test_a_product_is_quantized_by_output_channels(transpose, arithmetic):
    weights = numbers((8, 6)) * np.logspace(-3, 3, 6, dtype=np.float32)
    graph = product(weights.T if transpose else weights, transpose_b=transpose)
    quantized = small(graph, arithmetic).graph
    x = numbers((5, 8), 1)
    expected = x @ weights
    actual = run(quantized, {"x": x})["out"]
    # Each column is near by its own measure.
    np.testing.assert_array_less(np.abs(actual - expected).max(0), np.abs(expected).max(0) * 0.04)


def test_weights_shared_by_two_products_are_stored_once():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, 8))
    kernel = builder.constant(numbers((8, 8)), "float32", "kernel")
    read = builder.op("Identity", (kernel,), "read")
    flags = {"transpose_a": False, "transpose_b": False}
    first = builder.op("MatMul", ("x", kernel), "first", **flags)
    graph = builder.build(builder.op("MatMul", (first, read), "out", **flags))
    x = numbers((3, 8), 1)
    for arithmetic in (False, True):
        quantized = small(graph, arithmetic).graph
        assert [n.attrs["dtype"] for n in quantized if n.op == "Const"].count(INT8) == 1
        expected = run(graph, {"x": x})["out"]
        actual = run(quantized, {"x": x})["out"]
        np.testing.assert_allclose(actual, expected, atol=0.04 * np.abs(expected).max())


def test_a_table_that_is_also_multiplied_with_is_right_for_both():
    table = numbers((9, 8))
    builder = GraphBuilder()
    builder.placeholder("ids", "int32", (None,))
    weights = builder.constant(table, "float32", "table")
    axis = builder.constant(0, "int32", "axis")
    rows = builder.op("GatherV2", (weights, "ids", axis), "rows", batch_dims=0)
    scores = builder.op("MatMul", (rows, weights), "out", transpose_a=False, transpose_b=True)
    graph = builder.build(scores)
    feeds = {"ids": np.arange(9, dtype=np.int32)}
    for arithmetic in (False, True):
        quantized = small(graph, arithmetic).graph
        assert all(
            n.attrs["dtype"] != FLOAT or n.name.endswith(("/scale", "/balance"))
            for n in quantized
            if n.op == "Const"
        )
        np.testing.assert_allclose(
            run(quantized, feeds)["out"], table @ table.T, atol=0.04 * np.abs(table @ table.T).max()
        )


def test_rows_of_a_table_that_are_sliced_have_their_own_scale():
    table = numbers((8, 6)) * np.logspace(-3, 3, 8, dtype=np.float32)[:, None]
    builder = GraphBuilder()
    begin = builder.constant([0, 0], "int32", "begin")
    builder.placeholder("size", "int32", (2,))
    weights = builder.constant(table, "float32", "table")
    builder.op("Slice", (weights, begin, "size"), "out")
    quantized = small(builder.build("out")).graph
    actual = run(quantized, {"size": np.array([8, 6], np.int32)})["out"]
    np.testing.assert_array_less(np.abs(actual - table).max(1), np.abs(table).max(1) * 0.005)


def test_gathering_along_another_axis_takes_whole_weights():
    table = numbers((6, 4))
    quantized = small(gathered(table, axis=1)).graph
    assert [node.attrs["Tparams"] for node in quantized if node.op == "GatherV2"] == [FLOAT]
    actual = run(quantized, {"ids": np.array([3, 0], np.int32)})["out"]
    np.testing.assert_allclose(actual, table[:, [3, 0]], atol=0.02)


def test_a_weight_that_is_an_output_keeps_its_name():
    builder = GraphBuilder()
    builder.constant(numbers((4, 4)), "float32", "weights")
    graph = builder.build("weights")
    quantized = small(graph).graph
    assert quantized.outputs == ("weights",)
    actual = run(quantized, {})["weights"]
    np.testing.assert_allclose(actual, graph["weights"].attrs["value"], atol=0.02)


# ------------------------------------------------------------------------- what is left alone


@pytest.mark.parametrize("arithmetic", [False, True])
def test_small_and_infinite_weights_stay_and_are_named(arithmetic):
    rows = MINIMUM_SIZE // 2
    graph, notes = quantize(product(np.ones((rows - 1, 2), np.float32)), arithmetic)
    assert graph["out"].op == "MatMul"
    assert notes == ("kernel: stays in float32, %dx2 is small" % (rows - 1),)
    weights = np.ones((rows, 2), np.float32)
    assert quantize(product(weights), arithmetic).notes == ()
    weights[0, 0] = np.inf
    graph, notes = quantize(product(weights), arithmetic)
    assert graph["out"].op == "MatMul"
    assert notes == ("kernel: stays in float32, some of it isn't finite",)


def test_products_that_cannot_be_in_integers_are_named():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, None))
    flags = {"transpose_a": False, "transpose_b": False}
    squared = builder.op("MatMul", ("x", "x"), "squared", **flags)
    kernel = builder.constant(numbers((4, 4)), "float32", "kernel")
    flags["transpose_a"] = True
    graph = builder.build(builder.op("MatMul", (squared, kernel), "out", **flags))
    quantized, notes = small(graph, arithmetic=True)
    assert notes == (
        "squared: computes in float32, its weights vary",
        "out: computes in float32, its input is transposed",
    )
    assert ops(quantized)["MatMul"] == 2
    assert quantized["kernel/last/int8"].attrs["dtype"] == INT8, "stored all the same"


def test_biases_and_integers_stay():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, 4))
    bias = builder.constant(np.ones(4), "float32", "bias")
    total = builder.op("BiasAdd", ("x", bias), data_format="NHWC")
    shape = builder.constant(np.ones((2, 2)), "int32", "shape")
    graph = builder.build((total, shape))
    assert small(graph) == (graph, ())


def test_operations_that_nobody_knows_get_the_weights_in_float32():
    builder = GraphBuilder()
    builder.constant(numbers((4, 4)), "float32", "weights")
    graph = builder.build("weights")
    mystery = type(graph["weights"])("mystery", "Mystery", ("weights",))
    graph = graph.replaced(nodes=list(graph) + [mystery], outputs=("mystery",))
    quantized = small(graph).graph
    assert quantized[quantized["mystery"].inputs[0]].op == "Mul"


def test_the_product_with_scales_is_not_folded_back():
    graph = small(product(numbers((64, 64)))).graph
    folded = fold_constants(graph).graph
    assert bytes_of(folded) >= bytes_of(graph)


# --------------------------------------------------------------------- computing in integers


def dynamic(weights, name="out"):
    return small(product(weights, name), arithmetic=True).graph


@given(seeds, st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))
def test_the_result_is_near_whatever_the_range_of_a_row(seed, rows, inner, columns):
    random = np.random.RandomState(seed)
    x = numbers((rows, inner), seed) * (10.0 ** random.randint(-3, 4, (rows, 1))).astype(np.float32)
    x += (10.0 ** random.randint(-3, 3, (rows, 1))).astype(np.float32)
    weights = numbers((inner, min(inner, columns)), seed + 1)
    actual = run(dynamic(weights), {"x": x})["out"]
    values, scales = quantize_columns(weights)
    # Half a step of the row's range with every weight, and of the column's with every input.
    limits = 0.51 * (x.max(1) - x.min(1))[:, None] / 255 * np.abs(values * scales).sum(0)
    limits = limits + 0.51 * np.abs(x).sum(1)[:, None] * scales
    assert (np.abs(actual - x @ weights) <= limits + 1e-4 * np.abs(x).sum(1)[:, None]).all()


@pytest.mark.parametrize("engine", ["interpreter", "onnxruntime"])
def test_a_row_does_not_depend_on_the_others(engine, tmp_path):
    graph = dynamic(numbers((16, 48)))
    calm = numbers((3, 16), 1)
    wild = np.concatenate([calm, numbers((2, 16), 2, 1000), np.full((1, 16), 7, np.float32)])
    if engine == "interpreter":
        results = [run(graph, {"x": x})["out"] for x in (calm, wild)]
    else:
        results = [
            run_onnx(graph, tmp_path / ("%d.onnx" % len(x)), {"x": x})["out"] for x in (calm, wild)
        ]
    np.testing.assert_allclose(results[1][:3], results[0], rtol=1e-5, atol=1e-5)


def test_rows_of_equal_elements_are_exact():
    weights = numbers((16, 4))
    graph = dynamic(weights)
    for value in (0.0, -2.5):
        x = np.full((2, 16), value, np.float32)
        values, scales = quantize_columns(weights)
        expected = x @ (values * scales)
        np.testing.assert_allclose(run(graph, {"x": x})["out"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 64), (2, 64), (7, 63), (65, 130), (3, 2, 64)])
def test_onnxruntime_computes_in_the_same_integers(shape, tmp_path):
    # Large weights of one sign, and inputs at the top of their range: sums in 16 bits would be cut.
    weights = np.abs(numbers((shape[-1], 24))) + 1
    weights[:, 12:] *= -1
    x = np.random.RandomState(1).randint(0, 2, shape).astype(np.float32) * 255
    x[..., 0], x[..., 1] = 0, 255
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None,) * len(shape))
    kernel = builder.constant(weights, "float32", "kernel")
    flags = {"adj_x": False, "adj_y": False}
    graph = builder.build(builder.op("BatchMatMulV2", ("x", kernel), "out", **flags))
    graph = small(graph, arithmetic=True).graph
    assert graph["out"].op == DYNAMIC_QUANT_MAT_MUL
    expected = run(graph, {"x": x})["out"]
    actual = run_onnx(graph, tmp_path / "model.onnx", {"x": x})["out"]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-3)


def optimized_ops(graph, directory):
    """What onnxruntime makes of a graph: operator -> how many."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from bert_serving.graph_opt.targets.onnx import write_onnx

    write_onnx(graph, directory / "model.onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(directory / "optimized.onnx")
    runtime.InferenceSession(
        str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    loaded = onnx.load(str(directory / "optimized.onnx"))
    return Counter(node.op_type for node in loaded.graph.node)


def test_onnxruntime_fuses_what_is_written_for_it(tmp_path):
    counts = optimized_ops(small(model(), arithmetic=True).graph, tmp_path)
    assert counts["DynamicQuantizeMatMul"] == 12
    assert counts["MatMulInteger"] == 0


def test_an_input_of_several_products_is_quantized_once(tmp_path):
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, 16))
    flags = {"transpose_a": False, "transpose_b": False}
    parts = [
        builder.op("MatMul", ("x", builder.constant(numbers((16, 16), seed), "float32")), **flags)
        for seed in (1, 2, 3)
    ]
    graph = small(builder.build(parts), arithmetic=True).graph
    counts = optimized_ops(graph, tmp_path)
    assert counts["DynamicQuantizeLinear"] == 1
    assert counts["MatMulIntegerToFloat"] == 3
    x = numbers((4, 16))
    expected, actual = run(graph, {"x": x}), run_onnx(graph, tmp_path / "again.onnx", {"x": x})
    for part in parts:
        np.testing.assert_allclose(actual[part], expected[part], rtol=1e-4, atol=1e-4)
