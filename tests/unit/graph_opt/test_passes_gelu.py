from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.algebra import (
    Terms,
    assert_same_results,
    assert_untouched,
    classifier,
    encoder,
    rewritten,
)
from unit.graph_opt.draft import Draft
from unit.graph_opt.support import SMALL, ops

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.fold_constants import fold_constants
from bert_serving.graph_opt.passes.gelu import gelu

X = np.linspace(-6, 6, 41, dtype=np.float32).reshape(1, 41)
SQRT_2, FACTOR, CUBIC = math.sqrt(2), math.sqrt(2 / math.pi), 0.044715

ERF_OPS = {"Placeholder": 1, "Const": 3, "RealDiv": 1, "Erf": 1, "AddV2": 1, "Mul": 2}
TANH_OPS = {"Placeholder": 1, "Const": 5, "Pow": 1, "Tanh": 1, "AddV2": 2, "Mul": 4}


def erf_argument(draft, terms, way):
    if way == 0:
        return draft.op("RealDiv", ("x", draft.const(SQRT_2)))
    if way == 1:
        return terms.mul("x", 0.70710678)
    if way == 2:
        return draft.op("RealDiv", ("x", draft.op("Sqrt", (draft.const(2.0),))))
    return terms.mul("x", draft.op("Rsqrt", (draft.const(2.0),)))


def tanh_argument(draft, terms, way):
    if way == 0:
        cube = draft.op("Pow", ("x", draft.const(3.0)))
        return terms.mul(FACTOR, terms.add("x", terms.mul(CUBIC, cube)))
    if way == 1:
        return terms.mul(FACTOR, terms.add("x", terms.mul(CUBIC, "x", "x", "x")))
    if way == 2:
        return terms.mul(FACTOR, "x", terms.add(1.0, terms.mul(CUBIC, "x", "x")))
    square = draft.op("Square", ("x",))
    return terms.add(terms.mul("x", FACTOR), terms.mul(square, "x", FACTOR * CUBIC))


def whole(draft, terms, core, way):
    if way == 0:
        return terms.mul("x", 0.5, terms.add(1.0, core))
    if way == 1:
        return terms.mul("x", terms.add(0.5, terms.mul(0.5, core)))
    if way == 2:
        return draft.op("RealDiv", (terms.mul("x", terms.add(1.0, core)), draft.const(2.0)))
    half = terms.mul("x", 0.5)
    return terms.add(half, terms.mul(half, core))


def written(kind, ways=(0, 0), choose=lambda count: 0):
    draft = Draft()
    draft.input("x", X, open_axes=(0,))
    terms = Terms(draft, choose)
    if kind == "Erf":
        core = draft.op("Erf", (erf_argument(draft, terms, ways[0]),))
    else:
        core = draft.op("Tanh", (tanh_argument(draft, terms, ways[0]),))
    return draft, draft.graph([whole(draft, terms, core, ways[1])])


@given(
    st.sampled_from(["Erf", "Tanh"]),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.data(),
)
def test_any_order_and_association_is_recognized(kind, ways, data):
    _, graph = written(kind, ways, lambda count: data.draw(st.integers(0, count - 1)))
    result = rewritten(gelu, graph)
    assert result.notes == ()
    assert ops(result.graph) == (ERF_OPS if kind == "Erf" else TANH_OPS)
    assert_same_results(graph, result.graph, {"x": X}, tolerance=2e-6)
    assert_untouched(gelu, result.graph)


def test_the_complementary_error_function_of_tensorflow_2_is_recognized():
    draft = Draft()
    draft.input("x", X)
    half, factor = draft.const(0.5), draft.const(-1 / SQRT_2)
    halves = draft.op("Mul", (half, "x"), "halves")
    draft.op("Mul", ("x", factor), "ratio")
    attrs = {"T": np.dtype("float32")}
    nodes = [Node("erfc", "Erfc", ("ratio",), attrs), Node("y", "Mul", (halves, "erfc"), attrs)]
    result = rewritten(gelu, Graph([*draft.nodes.values(), *nodes], ["y"])).graph
    assert ops(result) == ERF_OPS
    expected = [[0.5 * x * math.erfc(-x / SQRT_2) for x in X[0].tolist()]]
    np.testing.assert_allclose(run(result, {"x": X})["y"], expected, atol=2e-6)


@pytest.mark.parametrize("kind", ["Erf", "Tanh"])
def test_the_result_is_right_in_onnxruntime(kind, tmp_path):
    draft, graph = written(kind, (1, 1))
    result = rewritten(gelu, graph).graph
    assert_same_results(graph, result, draft.feeds, tmp_path / "gelu.onnx", tolerance=2e-6)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("Erf", {"argument": 0.7072}),
        ("Erf", {"half": 0.49}),
        ("Erf", {"one": 1.001}),
        ("Tanh", {"argument": 0.798}),
        ("Tanh", {"cubic": 0.0447}),
        ("Tanh", {"half": 0.6}),
    ],
)
def test_other_constants_are_left_alone(kind, changed):
    values = {"argument": FACTOR if kind == "Tanh" else 1 / SQRT_2, "cubic": CUBIC}
    values.update({"half": 0.5, "one": 1.0}, **changed)
    draft = Draft()
    draft.input("x", X)
    terms = Terms(draft, lambda count: 0)
    if kind == "Erf":
        core = draft.op("Erf", (terms.mul("x", values["argument"]),))
    else:
        cube = terms.mul("x", "x", "x", values["cubic"])
        core = draft.op("Tanh", (terms.mul(values["argument"], terms.add("x", cube)),))
    graph = draft.graph([terms.mul(values["half"], terms.add(values["one"], core), "x")])
    notes = assert_untouched(gelu, graph)
    assert len(notes) == (kind == "Erf")


def test_the_product_with_another_tensor_is_left_alone():
    draft = Draft()
    draft.input("x", X)
    draft.input("y", X)
    terms = Terms(draft, lambda count: 0)
    core = draft.op("Erf", (terms.mul("x", 0.70710678),))
    graph = draft.graph([terms.mul("y", 0.5, terms.add(1.0, core))])
    assert assert_untouched(gelu, graph) == ("Erf: an error function, but no gelu",)


def test_what_somebody_else_reads_is_left_alone():
    draft = Draft()
    draft.input("x", X)
    terms = Terms(draft, lambda count: 0)
    core = draft.op("Erf", (terms.mul("x", 0.70710678),))
    outputs = [terms.mul("x", 0.5, terms.add(1.0, core)), draft.op("Sqrt", (core,))]
    notes = assert_untouched(gelu, draft.graph(outputs[:1] + [core]))
    assert len(notes) == 1
    assert "Erf is read elsewhere" in notes[0]


def test_a_constant_that_somebody_else_reads_stays():
    draft = Draft()
    draft.input("x", X)
    half = draft.const(0.5, name="half")
    terms = Terms(draft, lambda count: 0)
    core = draft.op("Erf", (terms.mul("x", 0.70710678),))
    top = terms.mul(terms.add(1.0, core), draft.op("Mul", (half, "x")))
    graph = draft.graph([top, draft.op("AddV2", ("x", half), "other")])
    result = rewritten(gelu, graph).graph
    assert "half" in result
    assert_same_results(graph, result, {"x": X})


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_our_own_graph_is_canonical(activation):
    config = BertConfig(**dict(vars(SMALL), hidden_act=activation))
    assert assert_untouched(gelu, encoder("REDUCE_MEAN", (-1,), config=config)) == ()


def test_the_classifier_has_three():
    graph = classifier(fold_constants)
    result = rewritten(gelu, graph)
    assert result.notes == ()
    changed = [node for node in result.graph if node.name in graph and _differs(graph, node)]
    assert [node.name for node in changed] == [
        "bert/encoder/layer_%d/intermediate/dense/mul_1" % layer for layer in range(3)
    ]


def _differs(graph, node):
    return graph[node.name].inputs != node.inputs
