from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.graph_opt.algebra import (
    assert_same_results,
    assert_untouched,
    classifier,
    classifier_case,
    cleaned,
    encoder,
    rewritten,
)
from unit.graph_opt.draft import Draft
from unit.graph_opt.support import SMALL, ops, random_source, small_batch

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.attention_scale import attention_scale
from bert_serving.graph_opt.passes.first_row import first_row
from bert_serving.graph_opt.passes.fold_constants import fold_constants
from bert_serving.graph_opt.passes.fuse_qkv import fuse_qkv
from bert_serving.graph_opt.passes.gelu import gelu
from bert_serving.graph_opt.passes.layer_norm import layer_norm
from bert_serving.graph_opt.pipeline import GraphOptions, build

RANDOM = np.random.RandomState(6)
BATCH, LENGTH, WIDTH = 2, 3, 4
X = RANDOM.standard_normal((BATCH, LENGTH, WIDTH)).astype(np.float32)
LAST = "bert/encoder/layer_2/"


def rows_of(graph, feeds, names):
    """How many rows each of some tensors has at run time."""
    values = run(graph.replaced(outputs=names), feeds)
    return [len(values[name]) for name in names]


class Tokens:
    """A graph over ``x`` [batch, sequence, width] in which both are open."""

    def __init__(self, x=X, open_axes=(0, 1)):
        self.draft = Draft()
        self.draft.input("x", x, open_axes=open_axes)

    def const(self, value, dtype="int32"):
        return self.draft.const(value, dtype)

    def sizes(self, tensor, *sizes):
        """[batch, sequence] of a tensor and some numbers, as a shape."""
        shape = self.draft.op("Shape", (tensor,), dtypes={"out_type": "int32"})
        dims = [
            self.draft.op("GatherV2", (shape, self.const(index), self.const(0)), batch_dims=0)
            for index in (0, 1)
        ]
        return self.draft.op("Pack", dims + [self.const(size) for size in sizes], axis=0)

    def first(self, tensor, name="first"):
        operands = (tensor, self.const(0), self.const(1))
        return self.draft.op("GatherV2", operands, name, batch_dims=0)

    def dense(self, tensor, width=WIDTH, name="dense"):
        """[b, s, w] -> [b, s, width] by way of a matrix."""
        before = self.draft.values[tensor].shape[-1]
        kernel = self.const(RANDOM.standard_normal((before, width)), "float32")
        matrix = self.draft.op("Reshape", (tensor, self.const([-1, before])))
        product = self.draft.op(
            "MatMul", (matrix, kernel), name, transpose_a=False, transpose_b=False
        )
        bias = self.const(RANDOM.standard_normal(width), "float32")
        product = self.draft.op("BiasAdd", (product, bias), data_format="NHWC")
        return self.draft.op("Reshape", (product, self.sizes(tensor, width)))

    def transposed(self, tensor, *perm):
        return self.draft.op("Transpose", (tensor, self.const(perm)))

    def through_heads(self, tensor):
        """[b, s, 4] -> [b, 2, s, 2], softmax, and back."""
        split = self.draft.op("Reshape", (tensor, self.sizes(tensor, 2, WIDTH // 2)))
        heads = self.draft.op("Softmax", (self.transposed(split, 0, 2, 1, 3),))
        joined = self.transposed(heads, 0, 2, 1, 3)
        return self.draft.op("Reshape", (joined, self.sizes(tensor, WIDTH)))

    def attention(self, tensor):
        scores = self.draft.op("BatchMatMulV2", (tensor, tensor), adj_x=False, adj_y=True)
        weights = self.draft.op("Softmax", (scores,))
        return self.draft.op("BatchMatMulV2", (weights, tensor), adj_x=False, adj_y=False)

    def centered(self, tensor):
        mean = self.draft.op("Mean", (tensor, self.const([-1])), keep_dims=True)
        return self.draft.op("Sub", (tensor, mean))

    def mixed(self, tensor):
        return self.draft.op("Cumsum", (tensor, self.const(1)), exclusive=False, reverse=False)

    def joined(self, tensor):
        pair = (tensor, self.draft.op("Tanh", (tensor,)), self.const(-1))
        return self.dense(self.draft.op("ConcatV2", pair))

    def places(self, tensor):
        table = self.const(RANDOM.standard_normal((LENGTH, WIDTH)), "float32")
        return self.draft.op("AddV2", (table, tensor))

    def residual(self, tensor):
        return self.draft.op("AddV2", (self.dense(tensor), tensor))

    def graph(self, *outputs):
        return self.draft.graph(outputs)


STEPS = ("dense", "through_heads", "attention", "centered", "mixed", "joined", "places", "residual")


@settings(max_examples=40)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5), st.data())
def test_any_chain_of_steps_keeps_its_results(steps, data):
    tokens = Tokens(open_axes=data.draw(st.sampled_from([(0, 1), (0,), (1,), ()])))
    tensor = "x"
    for step in steps:
        tensor = getattr(tokens, step)(tensor)
    outputs = [tokens.first(tensor)]
    if data.draw(st.booleans()):
        outputs.append(data.draw(st.sampled_from(sorted(tokens.draft.values))))
    graph = tokens.graph(*outputs)
    result = rewritten(first_row, graph)
    assert_same_results(graph, result.graph, tokens.draft.feeds, tolerance=1e-5)
    simple = rewritten(fold_constants, graph).graph
    result = rewritten(first_row, simple)
    assert_same_results(graph, result.graph, tokens.draft.feeds, tolerance=1e-5)


def test_shapes_taken_from_the_tokens_themselves_are_no_hindrance_once_folded():
    tokens = Tokens()
    deep = tokens.dense(tokens.dense("x", name="lower"), name="upper")
    graph = tokens.graph(tokens.first(deep))
    feeds = tokens.draft.feeds
    result = rewritten(first_row, rewritten(fold_constants, graph).graph).graph
    assert rows_of(result, feeds, ["lower", "upper"]) == [BATCH, BATCH]
    assert_same_results(graph, result, feeds)
    assert_untouched(first_row, result)


@pytest.mark.parametrize("open_axes", [(0, 1), (0,), (1,), ()])
def test_a_dense_layer_is_computed_for_one_row(open_axes, tmp_path):
    tokens = Tokens(open_axes=open_axes)
    graph = tokens.graph(tokens.first(tokens.dense("x")))
    result = rewritten(first_row, graph)
    assert result.notes == ()
    assert rows_of(result.graph, tokens.draft.feeds, ["dense"]) == [BATCH]
    assert_same_results(graph, result.graph, tokens.draft.feeds, tmp_path / "dense.onnx")


def test_keys_and_values_stay_whole(tmp_path):
    tokens = Tokens()
    key, query = tokens.dense("x", name="key"), tokens.dense("x", name="query")
    scores = tokens.draft.op("BatchMatMulV2", (query, key), adj_x=False, adj_y=True)
    weights = tokens.draft.op("Softmax", (scores,))
    context = tokens.draft.op("BatchMatMulV2", (weights, "x"), adj_x=False, adj_y=False)
    graph = tokens.graph(tokens.first(context))
    result = rewritten(first_row, graph).graph
    counts = rows_of(result, tokens.draft.feeds, ["query", "key"])
    assert counts == [BATCH, BATCH * LENGTH]
    assert_same_results(graph, result, tokens.draft.feeds, tmp_path / "attention.onnx")


def test_a_mask_for_each_row_is_gathered_too():
    tokens = Tokens()
    mask = RANDOM.standard_normal((BATCH, LENGTH, LENGTH)).astype(np.float32)
    tokens.draft.input("mask", mask, open_axes=(0,))
    query = tokens.dense("x", name="query")
    scores = tokens.draft.op("BatchMatMulV2", (query, "x"), adj_x=False, adj_y=True)
    shape = tokens.sizes("x", LENGTH)
    moved = tokens.draft.op("Reshape", ("mask", shape))
    weights = tokens.draft.op("Softmax", (tokens.draft.op("AddV2", (scores, moved)),))
    graph = tokens.graph(tokens.first(weights))
    result = rewritten(first_row, graph).graph
    assert rows_of(result, tokens.draft.feeds, ["query"]) == [BATCH]
    assert_same_results(graph, result, tokens.draft.feeds)


def strided(tokens, tensor, begin, end, stride=(1, 1, 1), **masks):
    values = dict.fromkeys(
        ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0
    )
    values.update(masks)
    places = [tokens.const(list(place)) for place in (begin, end, stride[: len(begin)])]
    return tokens.draft.op("StridedSlice", [tensor] + places, "first", **values)


def sliced(tokens, tensor, begin, size):
    operands = (tensor, tokens.const(begin), tokens.const(size))
    return tokens.draft.op("Slice", operands, "first")


SELECTORS = {
    "[:, 0:1, :]": lambda tokens, tensor: strided(
        tokens, tensor, (0, 0, 0), (0, 1, 0), begin_mask=5, end_mask=5
    ),
    "[:, :1, :]": lambda tokens, tensor: strided(
        tokens, tensor, (0, 7, 0), (0, 1, 0), begin_mask=7, end_mask=5
    ),
    "[:, 0]": lambda tokens, tensor: strided(
        tokens, tensor, (0, 0), (0, 1), begin_mask=1, end_mask=1, shrink_axis_mask=2
    ),
    "[1, 0]": lambda tokens, tensor: strided(tokens, tensor, (1, 0), (2, 1), shrink_axis_mask=3),
    "Slice": lambda tokens, tensor: sliced(tokens, tensor, [0, 0, 0], [-1, 1, -1]),
    "GatherV2 [0]": lambda tokens, tensor: tokens.draft.op(
        "GatherV2", (tensor, tokens.const([0]), tokens.const(1)), "first", batch_dims=0
    ),
}


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_way_to_take_the_first_token_is_seen(selector):
    tokens = Tokens()
    graph = tokens.graph(SELECTORS[selector](tokens, tokens.dense("x")))
    result = rewritten(first_row, graph).graph
    assert rows_of(result, tokens.draft.feeds, ["dense"]) == [BATCH]
    assert_same_results(graph, result, tokens.draft.feeds)


OTHERS = {
    "[:, 1]": lambda tokens, tensor: strided(
        tokens, tensor, (0, 1), (0, 2), begin_mask=1, end_mask=1, shrink_axis_mask=2
    ),
    "[:, 0:2]": lambda tokens, tensor: strided(
        tokens, tensor, (0, 0), (0, 2), begin_mask=1, end_mask=1
    ),
    "[:, 0:]": lambda tokens, tensor: strided(
        tokens, tensor, (0, 0), (0, 1), begin_mask=1, end_mask=3
    ),
    "[:, -1]": lambda tokens, tensor: strided(
        tokens, tensor, (0, -1), (0, 0), begin_mask=1, end_mask=1, shrink_axis_mask=2
    ),
    "[0]": lambda tokens, tensor: strided(tokens, tensor, (0,), (1,), shrink_axis_mask=1),
    "[new, 0:1]": lambda tokens, tensor: strided(tokens, tensor, (0, 0), (0, 1), new_axis_mask=1),
    "Slice": lambda tokens, tensor: sliced(tokens, tensor, [0, 0, 0], [-1, 2, -1]),
    "GatherV2 1": lambda tokens, tensor: tokens.draft.op(
        "GatherV2", (tensor, tokens.const(1), tokens.const(1)), batch_dims=0
    ),
    "GatherV2 of axis 0": lambda tokens, tensor: tokens.draft.op(
        "GatherV2", (tensor, tokens.const(0), tokens.const(0)), batch_dims=0
    ),
}


@pytest.mark.parametrize("selector", OTHERS)
def test_other_tokens_are_left_alone(selector):
    tokens = Tokens()
    graph = tokens.graph(OTHERS[selector](tokens, tokens.dense("x")))
    assert assert_untouched(first_row, graph) == ()


@pytest.mark.parametrize("reader", ["Sum", "output"])
def test_tokens_that_somebody_else_reads_are_left_alone(reader):
    tokens = Tokens()
    hidden = tokens.dense("x")
    outputs = [tokens.first(hidden), hidden]
    if reader == "Sum":
        outputs[1] = tokens.draft.op("Sum", (hidden, tokens.const([1])), keep_dims=False)
    notes = assert_untouched(first_row, tokens.graph(*outputs))
    assert notes == ("first: other tokens of %s are read too, or can't be told apart" % hidden,)


def test_tokens_that_an_operation_mixes_stay_together():
    tokens = Tokens()
    graph = tokens.graph(tokens.first(tokens.mixed(tokens.dense("x"))))
    assert len(assert_untouched(first_row, graph)) == 1


@pytest.mark.parametrize(
    ("shape", "perm"),
    [
        ([-1, WIDTH, LENGTH], None),  # other rows altogether
        ([LENGTH, -1, WIDTH], [1, 0, 2]),  # batch and sequence are mistaken for each other
    ],
)
def test_a_reshape_that_tears_tokens_apart_is_not_passed(shape, perm):
    tokens = Tokens(open_axes=())
    torn = tokens.draft.op("Reshape", (tokens.dense("x"), tokens.const(shape)))
    if perm:
        torn = tokens.transposed(torn, *perm)
    graph = tokens.graph(tokens.first(torn))
    result = rewritten(first_row, graph).graph
    assert rows_of(result, tokens.draft.feeds, ["dense"]) == [BATCH * LENGTH]
    assert_same_results(graph, result, tokens.draft.feeds)


def test_softmax_over_the_tokens_is_not_passed():
    tokens = Tokens()
    turned = tokens.draft.op("Softmax", (tokens.transposed(tokens.dense("x"), 0, 2, 1),))
    graph = tokens.graph(tokens.first(tokens.transposed(turned, 0, 2, 1)))
    result = rewritten(first_row, graph).graph
    assert rows_of(result, tokens.draft.feeds, ["dense"]) == [BATCH * LENGTH]


def test_a_shape_that_is_not_known_is_left_alone():
    draft = Draft()
    draft.input("x", X)
    nodes = dict(draft.nodes)
    nodes["x"] = nodes["x"].with_attrs(shape=None)
    draft.nodes = nodes
    tokens = Tokens()
    tokens.draft = draft
    graph = tokens.graph(tokens.first(draft.op("Tanh", ("x",))))
    assert assert_untouched(first_row, graph) == ()


def assert_last_layer_is_narrow(graph, feeds, names, rows):
    """The last layer's query and all after attention has a row for a text; key and value all."""
    whole = rows * feeds["input_ids"].shape[1]
    counts = rows_of(graph, feeds, [LAST + name for name in names])
    assert counts == [rows] * (len(names) - 2) + [whole] * 2


OURS = (
    "attention/self/query/MatMul",
    "attention/output/dense/MatMul",
    "intermediate/dense/MatMul",
    "output/dense/MatMul",
    "attention/self/key/MatMul",
    "attention/self/value/MatMul",
)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
@pytest.mark.parametrize(
    ("strategy", "layers"),
    [
        ("CLS_TOKEN", (-1,)),
        ("FIRST_TOKEN", (-1,)),
        ("CLS_POOLED", (-1,)),
        ("CLS_TOKEN", (-1, -2)),
        ("CLS_TOKEN", (-3, -1)),
    ],
)
def test_the_last_layer_of_our_own_graph_is_narrow(strategy, layers, activation, tmp_path):
    config = BertConfig(**dict(vars(SMALL), hidden_act=activation))
    graph = encoder(strategy, layers, config=config)
    result = rewritten(first_row, graph)
    assert result.notes == ()
    feeds = small_batch()
    assert_last_layer_is_narrow(result.graph, feeds, OURS, 3)
    assert_same_results(graph, result.graph, feeds, tmp_path / "model.onnx")
    assert_untouched(first_row, result.graph)


@pytest.mark.parametrize(
    ("strategy", "layers"),
    [
        ("REDUCE_MEAN", (-1,)),
        ("REDUCE_MAX", (-1,)),
        ("REDUCE_MEAN_MAX", (-2, -1)),
        ("LAST_TOKEN", (-1,)),
        ("NONE", (-1,)),
    ],
)
def test_other_strategies_are_left_alone(strategy, layers):
    assert assert_untouched(first_row, encoder(strategy, layers)) == ()


def test_a_layer_that_is_an_output_is_left_alone_and_the_next_is_not():
    built = build(random_source(), GraphOptions("CLS_TOKEN", (-1,)))
    graph = cleaned(built.replaced(outputs=["final_encodes", "bert/encoder/layer_1/hidden"]))
    result = rewritten(first_row, graph).graph
    assert_last_layer_is_narrow(result, small_batch(), OURS, 3)
    assert_same_results(graph, result, small_batch())
    both = cleaned(built.replaced(outputs=["final_encodes", LAST + "hidden"]))
    assert len(assert_untouched(first_row, both)) == 1


def test_a_batch_of_one_token_each_keeps_its_results(tmp_path):
    graph = encoder("CLS_POOLED", (-1,))
    feeds = {name: value[:, :1] for name, value in small_batch().items()}
    result = rewritten(first_row, graph).graph
    assert_same_results(graph, result, feeds, tmp_path / "model.onnx")


ALGEBRA = (fold_constants, layer_norm, gelu)


@pytest.mark.parametrize("passes", [(), (fold_constants,), ALGEBRA], ids=["raw", "folded", "all"])
def test_the_last_layer_of_the_classifier_is_narrow(passes, tmp_path):
    graph = classifier(*passes)
    result = rewritten(first_row, graph)
    assert result.notes == ()
    feeds, expected = classifier_case()
    assert_last_layer_is_narrow(result.graph, feeds, OURS, len(expected))
    actual = run(result.graph, feeds)["loss/probabilities"]
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert_same_results(graph, result.graph, feeds, tmp_path / "classifier.onnx")


def test_the_passes_after_it_still_apply(tmp_path):
    graph = classifier(*ALGEBRA)
    result = graph
    for one in (first_row, attention_scale, fuse_qkv):
        result = rewritten(one, result).graph
    counts = ops(result)
    # Six products by constants in a layer; fused, four; in the last one, query stays by itself.
    assert counts["MatMul"] == 3 + 2 * 4 + 5
    assert counts["BatchMatMulV2"] == 3 * 2
    feeds, expected = classifier_case()
    assert_same_results(graph, result, feeds, tmp_path / "classifier.onnx")
    np.testing.assert_allclose(run(result, feeds)["loss/probabilities"], expected, atol=1e-5)
