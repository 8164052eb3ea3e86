from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.algebra import (
    assert_same_results,
    assert_untouched,
    classifier,
    classifier_case,
    encoder,
    rewritten,
)
from unit.graph_opt.draft import Draft
from unit.graph_opt.support import ops, small_batch

from bert_serving.graph_opt.passes.fold_constants import fold_constants
from bert_serving.graph_opt.passes.fuse_qkv import fuse_qkv

RANDOM = np.random.RandomState(5)
HIDDEN = RANDOM.standard_normal((3, 4)).astype(np.float32)


def dense(draft, name, width, tensor="hidden", bias="BiasAdd", transposed=False, left=False):
    """``tensor @ kernel + bias`` in the scope ``layer/name``."""
    kernel = RANDOM.standard_normal((width, 4) if transposed else (4, width))
    weights = draft.const(kernel, name="layer/%s/kernel" % name)
    product = draft.op(
        "MatMul",
        (tensor, weights),
        "layer/%s/MatMul" % name,
        transpose_a=False,
        transpose_b=transposed,
    )
    if bias is None:
        return product
    shift = draft.const(RANDOM.standard_normal(width), name="layer/%s/bias" % name)
    operands = (shift, product) if left else (product, shift)
    return draft.op(bias, operands, "layer/%s/%s" % (name, bias))


def three(widths=(4, 4, 4), **how):
    draft = Draft()
    draft.input("hidden", HIDDEN, open_axes=(0,))
    parts = [dense(draft, name, width, **how) for name, width in zip("qkv", widths)]
    tops = [draft.op("Tanh", (part,), "top_%d" % index) for index, part in enumerate(parts)]
    return draft, parts, draft.graph(tops)


@pytest.mark.parametrize(("widths", "split"), [((4, 4, 4), "Split"), ((2, 5, 3), "SplitV")])
@pytest.mark.parametrize("bias", ["BiasAdd", "AddV2", None])
@pytest.mark.parametrize("transposed", [False, True])
def test_three_products_become_one(widths, split, bias, transposed, tmp_path):
    draft, _, graph = three(widths, bias=bias, transposed=transposed)
    result = rewritten(fuse_qkv, graph).graph
    counts = ops(result)
    assert counts["MatMul"] == counts[split] == 1
    assert counts.get("BiasAdd", 0) == (bias is not None)
    assert counts["Const"] == (2 if bias else 1) + (1 if split == "Split" else 2)
    assert "layer/fused/MatMul" in result
    assert_same_results(graph, result, draft.feeds, tmp_path / "fused.onnx", 1e-6)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.booleans(), st.booleans())
def test_any_number_of_products_keeps_its_results(widths, transposed, left):
    draft = Draft()
    draft.input("hidden", HIDDEN)
    how = {"transposed": transposed, "bias": "AddV2", "left": left}
    parts = [dense(draft, "part_%d" % index, width, **how) for index, width in enumerate(widths)]
    graph = draft.graph(parts)
    result = rewritten(fuse_qkv, graph).graph
    assert ops(result)["MatMul"] == 1
    assert_same_results(graph, result, draft.feeds, tolerance=1e-6)


def test_outputs_keep_their_names():
    draft, parts, _ = three()
    graph = draft.graph(parts)
    result = rewritten(fuse_qkv, graph).graph
    assert [result[part].op for part in parts] == ["Identity"] * 3
    assert_same_results(graph, result, draft.feeds, tolerance=1e-6)


def test_a_product_that_is_read_without_its_bias_is_fused_without_it():
    draft, parts, _ = three()
    graph = draft.graph(parts + ["layer/q/MatMul"])
    result = rewritten(fuse_qkv, graph).graph
    # The other two are fused; this one has no companion.
    assert ops(result)["MatMul"] == 2
    assert result["layer/q/MatMul"].op == "MatMul"
    assert_same_results(graph, result, draft.feeds, tolerance=1e-6)


@pytest.mark.parametrize(
    ("spoil", "notes"),
    [
        (lambda draft: dense(draft, "k", 4, tensor="other"), 0),
        (lambda draft: dense(draft, "k", 4, transposed=True), 2),
        (lambda draft: dense(draft, "k", 4, bias=None), 2),
        (lambda draft: product_of_two_inputs(draft), 0),
    ],
    ids=["other input", "transposed", "no bias", "kernel that isn't constant"],
)
def test_products_that_differ_are_left_alone(spoil, notes):
    draft = Draft()
    draft.input("hidden", HIDDEN)
    draft.input("other", HIDDEN)
    draft.input("weights", RANDOM.standard_normal((4, 4)).astype(np.float32))
    graph = draft.graph([dense(draft, "q", 4), spoil(draft)])
    assert len(assert_untouched(fuse_qkv, graph)) == notes


def product_of_two_inputs(draft):
    return draft.op("MatMul", ("hidden", "weights"), transpose_a=False, transpose_b=False)


def test_a_bias_that_broadcasts_the_product_is_no_bias():
    draft = Draft()
    draft.input("hidden", HIDDEN)
    parts = [dense(draft, name, 4, bias=None) for name in "qk"]
    tall = draft.const(RANDOM.standard_normal((3, 4)))
    graph = draft.graph([draft.op("AddV2", (part, tall)) for part in parts])
    result = rewritten(fuse_qkv, graph).graph
    assert ops(result)["AddV2"] == 2
    assert_same_results(graph, result, draft.feeds, tolerance=1e-6)


def test_each_layer_of_our_own_graph_is_fused(tmp_path):
    graph = encoder("REDUCE_MEAN", (-1,))
    result = rewritten(fuse_qkv, graph).graph
    assert ops(graph)["MatMul"] - ops(result)["MatMul"] == 3 * 2
    assert ops(result)["Split"] == 3
    assert_same_results(graph, result, small_batch(), tmp_path / "model.onnx")


def test_each_layer_of_the_classifier_is_fused(tmp_path):
    graph = classifier(fold_constants)
    result = rewritten(fuse_qkv, graph).graph
    assert ops(graph)["MatMul"] - ops(result)["MatMul"] == 3 * 2
    assert ops(result)["Split"] == 3
    feeds, _ = classifier_case()
    assert_same_results(graph, result, feeds, tmp_path / "classifier.onnx")
