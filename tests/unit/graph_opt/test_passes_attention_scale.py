from __future__ import annotations

import numpy as np
import pytest
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

from bert_serving.graph_opt.passes.attention_scale import attention_scale
from bert_serving.graph_opt.passes.fold_constants import fold_constants

RANDOM = np.random.RandomState(4)
HIDDEN = RANDOM.standard_normal((6, 8)).astype(np.float32)
BATCH, LENGTH, HEADS, SIZE = 2, 3, 2, 4
SCALE = 0.3


class Attention:
    """The scores of two heads; [6, 8] -> [2, 2, 3, 3]."""

    def __init__(self, bias="BiasAdd"):
        self.draft = Draft()
        self.draft.input("hidden", HIDDEN, open_axes=(0,))
        self.query, self.key = [self.dense(name, bias) for name in ("query", "key")]

    def dense(self, name, bias):
        draft = self.draft
        kernel = draft.const(RANDOM.standard_normal((8, 8)), name=name + "/kernel")
        product = draft.op(
            "MatMul", ("hidden", kernel), name + "/MatMul", transpose_a=False, transpose_b=False
        )
        if bias is None:
            return product
        shift = draft.const(RANDOM.standard_normal(8), name=name + "/bias")
        operands = (shift, product) if bias == "swapped" else (product, shift)
        return draft.op("AddV2" if bias == "swapped" else bias, operands, name + "/sum")

    def heads(self, tensor):
        draft = self.draft
        shape = draft.const([BATCH, LENGTH, HEADS, SIZE], "int32", "shape")
        split = draft.op("Reshape", (tensor, shape))
        return draft.op("Transpose", (split, draft.const([0, 2, 1, 3], "int32", "perm")))

    def scaled(self, tensor, op="Mul", left=False):
        factor = self.draft.const(1 / SCALE if op == "RealDiv" else SCALE, name="factor")
        operands = (factor, tensor) if left else (tensor, factor)
        return self.draft.op(op, operands, "scaled")

    def scores(self, query, key):
        return self.draft.op("BatchMatMulV2", (query, key), "scores", adj_x=False, adj_y=True)

    def graph(self, tensor, *others):
        last = self.draft.op("Softmax", (tensor,), "probabilities")
        return self.draft.graph([last] + list(others))


def after(model, **how):
    scores = model.scores(model.heads(model.query), model.heads(model.key))
    return model.graph(model.scaled(scores, **how))


@pytest.mark.parametrize(
    "how", [{}, {"left": True}, {"op": "RealDiv"}], ids=["right", "left", "divided"]
)
@pytest.mark.parametrize("bias", ["BiasAdd", "Add", "swapped", None])
def test_a_scale_after_the_product_goes_into_the_query(how, bias, tmp_path):
    model = Attention(bias)
    graph = after(model, **how)
    result = rewritten(attention_scale, graph)
    assert result.notes == ()
    assert set(graph.nodes) - set(result.graph.nodes) == {"scaled", "factor"}
    for name in ("query/kernel", "query/bias") if bias else ("query/kernel",):
        expected = (model.draft.values[name] * SCALE).astype(np.float32)
        value = result.graph[name].attrs["value"]
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert_same_results(graph, result.graph, model.draft.feeds, tmp_path / "scale.onnx", 2e-6)


@pytest.mark.parametrize("side", ["query", "key"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_scale_before_the_product_goes_into_that_side(side, moved):
    model = Attention()
    sides = {"query": model.query, "key": model.key}
    for name in sides:
        if name == side and not moved:
            sides[name] = model.scaled(sides[name])
        sides[name] = model.heads(sides[name])
        if name == side and moved:
            sides[name] = model.scaled(sides[name])
    graph = model.graph(model.scores(sides["query"], sides["key"]))
    result = rewritten(attention_scale, graph).graph
    assert "scaled" not in result
    assert result[side + "/kernel"] is not graph[side + "/kernel"]
    assert_same_results(graph, result, model.draft.feeds, tolerance=2e-6)


def test_two_scales_are_both_folded():
    model = Attention()
    query = model.scaled(model.heads(model.query))
    scores = model.scores(query, model.heads(model.key))
    factor = model.draft.const(2.0)
    graph = model.graph(model.draft.op("Mul", (scores, factor), "again"))
    result = rewritten(attention_scale, graph).graph
    assert not {"scaled", "again"} & set(result.nodes)
    assert_same_results(graph, result, model.draft.feeds, tolerance=2e-6)


def test_where_the_query_is_shared_the_key_takes_the_scale():
    model = Attention()
    scores = model.scores(model.heads(model.query), model.heads(model.key))
    graph = model.graph(model.scaled(scores), model.query)
    result = rewritten(attention_scale, graph).graph
    assert result["query/kernel"] is graph["query/kernel"]
    assert "scaled" not in result
    assert_same_results(graph, result, model.draft.feeds, tolerance=2e-6)


def test_scores_that_somebody_else_reads_are_left_alone():
    model = Attention()
    scores = model.scores(model.heads(model.query), model.heads(model.key))
    graph = model.graph(model.scaled(scores), scores)
    assert assert_untouched(attention_scale, graph) == ("scaled: scores is read elsewhere",)


def test_shared_weights_are_left_alone():
    model = Attention()
    scores = model.scores(model.heads(model.query), model.heads(model.key))
    graph = model.graph(model.scaled(scores), "query/kernel", "key/kernel")
    assert assert_untouched(attention_scale, graph) == (
        "scaled: the weight query/kernel is read elsewhere",
    )


def test_operands_that_are_no_projections_are_left_alone():
    draft = Draft()
    draft.input("q", RANDOM.standard_normal((2, 3, 4)).astype(np.float32))
    draft.input("k", RANDOM.standard_normal((2, 3, 4)).astype(np.float32))
    scores = draft.op("BatchMatMulV2", ("q", "k"), adj_x=False, adj_y=True)
    graph = draft.graph([draft.op("Mul", (scores, draft.const(0.5)), "scaled")])
    notes = assert_untouched(attention_scale, graph)
    assert notes == ("scaled: q is no projection with constant weights",)


@pytest.mark.parametrize("factor", [0.0, np.inf, np.nan])
def test_division_by_nothing_is_left_alone(factor):
    model = Attention()
    scores = model.scores(model.heads(model.query), model.heads(model.key))
    with np.errstate(all="ignore"):
        top = model.draft.op("RealDiv", (scores, model.draft.const(factor)), "scaled")
        graph = model.graph(top)
    assert_untouched(attention_scale, graph)


def test_a_factor_for_each_key_is_left_alone():
    model = Attention()
    scores = model.scores(model.heads(model.query), model.heads(model.key))
    factors = model.draft.const([1.0, 2.0, 3.0])
    graph = model.graph(model.draft.op("Mul", (scores, factors)))
    assert assert_untouched(attention_scale, graph) == ()


def test_a_scaled_activation_is_no_attention():
    model = Attention()
    graph = model.graph(model.scaled(model.query))
    assert assert_untouched(attention_scale, graph) == ()


def test_each_layer_of_our_own_graph_loses_its_scale(tmp_path):
    graph = encoder("REDUCE_MEAN", (-1,))
    result = rewritten(attention_scale, graph)
    assert result.notes == ()
    assert ops(graph)["Mul"] - ops(result.graph)["Mul"] == 3
    feeds = small_batch()
    assert_same_results(graph, result.graph, feeds, tmp_path / "model.onnx")


def test_each_layer_of_the_classifier_loses_its_scale(tmp_path):
    graph = classifier(fold_constants)
    result = rewritten(attention_scale, graph)
    assert result.notes == ()
    assert ops(graph)["Mul"] - ops(result.graph)["Mul"] == 3
    feeds, _ = classifier_case()
    assert_same_results(graph, result.graph, feeds, tmp_path / "classifier.onnx")
