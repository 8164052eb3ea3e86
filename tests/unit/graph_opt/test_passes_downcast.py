from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.support import held, ops, random_source, small_batch, snapshot

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.dtypes import bfloat16
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.downcast import downcast
from bert_serving.graph_opt.passes.freeze import freeze
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES

FLOAT, HALF = np.dtype("float32"), np.dtype("float16")
STRATEGIES = [strategy for strategy in POOLING_STRATEGIES if strategy not in HEADS]
# Weights of a small model are small: none is too small here.
small = partial(downcast, minimum_size=1)


def brain():
    pytest.importorskip("ml_dtypes")
    return bfloat16()


def model(strategy="REDUCE_MEAN"):
    """A model like a trained one: what its products sum up stays of the size of its inputs."""
    source = random_source()
    scaled = {
        name: held(name, variable.load() * (0.3 if name.endswith("/kernel") else 1.0))
        for name, variable in source.variables.items()
    }
    options = GraphOptions(strategy, (-1,))
    return optimize(build(replace(source, variables=scaled), options))[0]


def dtypes(graph, op, attribute="T"):
    return {str(node.attrs[attribute]) for node in graph if node.op == op}


def product(kernel, name="out"):
    """``x @ kernel`` for a float32 x."""
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, kernel.shape[0]))
    variable = builder.variable(held("kernel", kernel))
    builder.op("MatMul", ("x", variable), name, transpose_a=False, transpose_b=False)
    return prune(freeze(builder.build(name)).graph).graph


def test_stored_in_half_computed_in_float32():
    graph = model()
    before = snapshot(graph)
    stored, notes = small(graph, HALF)
    assert snapshot(graph) == before
    assert notes == ()
    assert dtypes(stored, "MatMul") == {"float32"}
    kernels = [node for node in stored if node.op == "Const" and node.attrs["dtype"] == HALF]
    assert len(kernels) == len([n for n in graph if n.op == "Const" and is_weight(n)])
    tables = [node for node in stored if node.op == "GatherV2" and node.attrs["Tparams"] == HALF]
    assert len(tables) == 3, "embeddings are gathered first and cast then"


def is_weight(node):
    return node.attrs["dtype"] == FLOAT and node.attrs["value"].ndim >= 2


def test_computed_in_half_but_for_norms_softmax_and_pooling():
    halved = prune(small(model("REDUCE_MEAN_MAX"), HALF, arithmetic=True).graph).graph
    assert dtypes(halved, "MatMul") == dtypes(halved, "BatchMatMulV2") == {"float16"}
    assert dtypes(halved, "BiasAdd") == dtypes(halved, "Erf") == {"float16"}
    for op in ("Mean", "Square", "Sqrt", "Softmax", "Sum", "Max", "SelectV2"):
        assert dtypes(halved, op) == {"float32"}, op
    # Two in a layer come back to the residual, scores go to the softmax; four sums go to a product.
    assert ops(halved)["Cast"] <= 8 * 3 + 6


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("arithmetic", [False, True])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_outputs_stay_near_and_finite_for_every_strategy(strategy, arithmetic, kind):
    dtype = HALF if kind == "float16" else brain()
    graph = model(strategy)
    feeds = small_batch()
    feeds["input_mask"][2] = 0  # a row of padding only
    expected = run(graph, feeds)["final_encodes"]
    actual = run(small(graph, dtype, arithmetic).graph, feeds)["final_encodes"]
    assert actual.dtype == np.float32
    assert np.isfinite(actual).all()
    if strategy == "REDUCE_MAX":
        assert (actual[2] < -1e29).all(), "as in float32"
    limit = 2e-2 if kind == "float16" else 2e-1
    np.testing.assert_allclose(actual[:2], expected[:2], rtol=limit, atol=limit)


@pytest.mark.parametrize("arithmetic", [False, True])
@pytest.mark.parametrize("engine", [run_onnx, run_tensorflow])
def test_engines_compute_the_same(engine, arithmetic, tmp_path):
    graph = model()
    halved = prune(small(graph, HALF, arithmetic).graph).graph
    feeds = {name: array[:2] for name, array in small_batch().items()}
    expected = run(graph, feeds)["final_encodes"]
    actual = engine(halved, tmp_path / "model", feeds)["final_encodes"]
    np.testing.assert_allclose(actual, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("engine", [run_onnx, run_tensorflow])
def test_bfloat16_is_stored_for_engines(engine, tmp_path):
    graph = model()
    halved = prune(small(graph, brain()).graph).graph
    feeds = {name: array[:2] for name, array in small_batch().items()}
    expected = run(halved, feeds)["final_encodes"]
    actual = engine(halved, tmp_path / "model", feeds)["final_encodes"]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1e6, 1e-6])
@pytest.mark.parametrize("arithmetic", [False, True])
def test_a_weight_that_does_not_fit_stays_and_is_named(scale, arithmetic):
    graph = product(np.full((2, 3), scale, np.float32))
    kept, notes = small(graph, HALF, arithmetic)
    assert kept["kernel"].op == "Const"
    assert kept["out"].attrs["T"] == FLOAT
    assert len(notes) == 1
    assert notes[0].startswith("kernel: stays in float32, its values from")
    x = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(run(kept, {"x": x})["out"], run(graph, {"x": x})["out"])


def test_a_few_tiny_values_among_larger_ones_do_no_harm():
    _, notes = small(product(np.array([[1.0, 1e-9], [0.0, -2.0]], np.float32)), HALF)
    assert notes == ()


def test_a_product_that_is_an_output_keeps_name_and_dtype():
    graph = product(np.ones((2, 3), np.float32))
    halved = small(graph, HALF, arithmetic=True).graph
    assert halved.outputs == ("out",)
    assert halved["out"].op == "Cast"
    result = run(halved, {"x": np.array([[1.0, 2.0]], np.float32)})["out"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [[3, 3, 3]])


def test_what_is_read_in_both_is_cast_once():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, 2))
    kernels = [builder.variable(held(name, np.ones((2, 2), np.float32))) for name in "ab"]
    flags = {"transpose_a": False, "transpose_b": False}
    first = builder.op("MatMul", ("x", kernels[0]), "first", **flags)
    second = builder.op("MatMul", ("x", kernels[1]), "second", **flags)
    total = builder.op("AddV2", (first, second), "total")
    power = builder.op("AddV2", (builder.op("Square", (total,)), builder.op("Sqrt", (total,))))
    graph = prune(freeze(builder.build(builder.op("Mul", (power, total), "out"))).graph).graph
    halved = prune(small(graph, HALF, arithmetic=True).graph).graph
    assert halved["total"].attrs["T"] == HALF
    assert ops(halved)["Cast"] == 2, "x down, the total up"
    x = np.array([[1.0, 3.0]], np.float32)
    np.testing.assert_allclose(run(halved, {"x": x})["out"], run(graph, {"x": x})["out"], rtol=1e-3)


def test_parts_of_a_split_are_halves_too():
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None, 2))
    kernel = builder.variable(held("kernel", np.arange(8, dtype=np.float32).reshape(2, 4)))
    whole = builder.op("MatMul", ("x", kernel), "whole", transpose_a=False, transpose_b=False)
    axis = builder.constant(1, "int32", "axis")
    parts = builder.op("Split", (axis, whole), "parts", num_split=2)
    total = builder.op("AddV2", (parts, parts + ":1"), "total")
    graph = prune(freeze(builder.build([builder.op("Softmax", (total,), "out"), "parts:1"])).graph)
    for outputs, dtype in ((["out"], HALF), (["out", "parts:1"], FLOAT)):
        asked = graph.graph.replaced(outputs=outputs)
        halved = small(asked, HALF, arithmetic=True).graph
        assert halved["parts"].attrs["T"] == dtype
        x = {"x": np.array([[0.1, 0.2]], np.float32)}
        for name, array in run(halved, x).items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, run(asked, x)[name], rtol=1e-2)


@pytest.mark.parametrize("arithmetic", [False, True])
def test_small_constants_and_other_dtypes_stay(arithmetic):
    builder = GraphBuilder()
    builder.placeholder("x", "float32", (None,))
    tensor = builder.op("Mul", ("x", builder.constant(1e-12, "float32", "epsilon")))
    graph = builder.build(builder.op("AddV2", (tensor, builder.constant(-1e30, "float32"))))
    assert snapshot(downcast(graph, HALF, arithmetic).graph) == snapshot(graph)
