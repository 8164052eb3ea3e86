from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.graph_opt.algebra import (
    Terms,
    assert_same_results,
    assert_untouched,
    classifier,
    classifier_case,
    encoder,
    rewritten,
)
from unit.graph_opt.draft import Draft
from unit.graph_opt.support import ops

from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.fold_constants import fold_constants
from bert_serving.graph_opt.passes.layer_norm import layer_norm

RANDOM = np.random.RandomState(3)
X = (RANDOM.standard_normal((2, 3, 5)) * 3 + 1).astype(np.float32)
GAMMA, BETA = RANDOM.standard_normal((2, 5)).astype(np.float32)
EPSILON = 1e-12

CANONICAL = {
    "Placeholder": 1,
    "Const": 5,
    "Mean": 2,
    "Sub": 1,
    "Square": 1,
    "AddV2": 2,
    "Sqrt": 1,
    "RealDiv": 1,
    "Mul": 1,
}


class Norm:
    """One layer normalization; every part can be made in several ways."""

    def __init__(self, choose=lambda count: 0, axis=-1, keep_dims=True):
        self.draft = Draft()
        self.x = self.draft.input("x", X, open_axes=(0, 1))
        self.terms = Terms(self.draft, choose)
        self.axis = axis
        self.keep_dims = keep_dims

    def mean(self, tensor, name=None):
        axes = self.draft.const([self.axis], "int32", "axes")
        return self.draft.op("Mean", (tensor, axes), name, keep_dims=self.keep_dims)

    def squares(self, mean, way):
        if way == 0:
            stopped = self.draft.op("StopGradient", (mean,))
            return self.draft.op("SquaredDifference", (self.x, stopped))
        if way == 1:
            return self.draft.op("SquaredDifference", (mean, self.x))
        centered = self.draft.op("Sub", (self.x, mean))
        if way == 2:
            return self.draft.op("Square", (centered,))
        if way == 3:
            return self.draft.op("Mul", (centered, centered))
        return self.draft.op("Pow", (centered, self.draft.const(2.0)))

    def inverse(self, variance, way, epsilon=EPSILON):
        """What x is multiplied by, or the deviation that it is divided by."""
        shifted = self.terms.add(variance, epsilon)
        if way == 0:
            return self.draft.op("Rsqrt", (shifted,))
        if way == 1:
            return self.draft.op("Reciprocal", (self.draft.op("Sqrt", (shifted,)),))
        return self.draft.op("Pow", (shifted, self.draft.const(-0.5)))

    def moments(self, squares=0, inverse=0, epsilon=EPSILON):
        mean = self.mean(self.x, "mean")
        variance = self.mean(self.squares(mean, squares), "variance")
        return mean, self.inverse(variance, inverse, epsilon)


def batch_normalization(norm, mean, inverse, gamma, beta):
    """``tf.nn.batch_normalization``: x * scale + (beta - mean * scale)."""
    scale = norm.terms.mul(inverse, gamma) if gamma else inverse
    shift = norm.terms.mul(mean, scale)
    draft = norm.draft
    moved = norm.terms.mul(norm.x, scale)
    if beta:
        return norm.terms.add(moved, draft.op("Sub", (beta, shift)))
    return draft.op("Sub", (moved, shift))


def centered(norm, mean, inverse, gamma, beta):
    factors = [norm.draft.op("Sub", (norm.x, mean)), inverse] + ([gamma] if gamma else [])
    product = norm.terms.mul(*factors)
    return norm.terms.add(product, beta) if beta else product


def normalized(norm, form, squares=0, inverse=0, gamma=GAMMA, beta=BETA, epsilon=EPSILON):
    mean, factor = norm.moments(squares, inverse, epsilon)
    weights = [
        None if one is None else norm.draft.const(one, name=name)
        for one, name in ((gamma, "gamma"), (beta, "beta"))
    ]
    return norm.draft.graph([form(norm, mean, factor, *weights)])


@given(
    st.sampled_from([batch_normalization, centered]),
    st.integers(0, 4),
    st.integers(0, 2),
    st.sampled_from([-1, 2]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_any_order_and_association_is_recognized(form, squares, inverse, axis, gamma, beta, data):
    norm = Norm(lambda count: data.draw(st.integers(0, count - 1)), axis)
    weights = {"gamma": GAMMA if gamma else None, "beta": BETA if beta else None}
    graph = normalized(norm, form, squares, inverse, **weights)
    result = rewritten(layer_norm, graph)
    assert result.notes == ()
    assert ops(result.graph) == CANONICAL
    assert_same_results(graph, result.graph, {"x": X}, tolerance=1e-5)
    assert_untouched(layer_norm, result.graph)


@pytest.mark.parametrize("form", [batch_normalization, centered])
def test_the_result_is_right_in_onnxruntime(form, tmp_path):
    graph = normalized(Norm(), form)
    result = rewritten(layer_norm, graph).graph
    assert_same_results(graph, result, {"x": X}, tmp_path / "norm.onnx")


def test_division_by_the_deviation_is_recognized():
    norm = Norm()
    mean = norm.mean("x")
    difference = norm.draft.op("Sub", ("x", mean))
    variance = norm.mean(norm.draft.op("Mul", (difference, difference)))
    deviation = norm.draft.op("Sqrt", (norm.terms.add(EPSILON, variance),))
    normal = norm.draft.op("RealDiv", (difference, deviation))
    graph = norm.draft.graph([norm.terms.add(norm.draft.const(BETA), normal)])
    result = rewritten(layer_norm, graph).graph
    assert ops(result) == CANONICAL
    assert_same_results(graph, result, {"x": X})


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 0.001, 0.7])
def test_epsilon_is_kept_exactly(epsilon):
    graph = normalized(Norm(), batch_normalization, epsilon=epsilon)
    result = rewritten(layer_norm, graph).graph
    roots = [node for node in result if node.op == "Sqrt"]
    values = [result[tensor] for tensor in result[roots[0].inputs[0]].inputs]
    assert [float(node.attrs["value"]) for node in values if node.op == "Const"] == [
        float(np.float32(epsilon))
    ]


def test_weights_under_axes_of_length_1_become_vectors():
    graph = normalized(Norm(), centered, gamma=GAMMA.reshape(1, 1, 5), beta=BETA.reshape(1, 5))
    result = rewritten(layer_norm, graph).graph
    top = result[graph.outputs[0]]
    assert result[top.inputs[1]].attrs["value"].shape == (5,)
    assert_same_results(graph, result, {"x": X})


def test_a_residual_after_it_is_no_beta():
    norm = Norm()
    mean, inverse = norm.moments()
    normal = centered(norm, mean, inverse, norm.draft.const(GAMMA), None)
    graph = norm.draft.graph([norm.draft.op("AddV2", (normal, "x"), "residual")])
    result = rewritten(layer_norm, graph).graph
    assert result["residual"].inputs == (normal, "x")
    assert_same_results(graph, result, {"x": X})


def test_what_somebody_else_reads_is_left_alone():
    norm = Norm()
    mean, inverse = norm.moments()
    top = centered(norm, mean, inverse, norm.draft.const(GAMMA), None)
    graph = norm.draft.graph([top, "variance"])
    assert "variance is read elsewhere" in assert_untouched(layer_norm, graph)[0]


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_another_axis_is_left_alone(axis):
    graph = normalized(Norm(axis=axis), centered)
    notes = assert_untouched(layer_norm, graph)
    assert notes == ("variance: not over the last axis alone, kept with length 1",)


def test_moments_of_different_axes_are_left_alone():
    norm = Norm()
    mean = norm.mean("x", "mean")
    squares = norm.squares(mean, 0)
    norm.axis = 1
    inverse = norm.inverse(norm.mean(squares, "variance"), 0)
    graph = norm.draft.graph([centered(norm, mean, inverse, None, None)])
    assert "last axis" in assert_untouched(layer_norm, graph)[0]


def test_the_mean_of_another_tensor_is_left_alone():
    norm = Norm()
    norm.draft.input("y", X[::-1])
    mean = norm.mean("y", "mean")
    variance = norm.mean(norm.squares(mean, 0), "variance")
    graph = norm.draft.graph([centered(norm, mean, norm.inverse(variance, 0), None, None)])
    assert assert_untouched(layer_norm, graph) == (
        "variance: the mean that is subtracted is another tensor's",
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda norm, mean, inverse: norm.terms.add(  # plus the mean
            norm.terms.mul("x", inverse), norm.terms.mul(mean, inverse)
        ),
        lambda norm, mean, inverse: norm.terms.mul(  # twice
            2.0, norm.draft.op("Sub", ("x", mean)), inverse
        ),
        lambda norm, mean, inverse: norm.terms.mul(  # variance once more
            norm.draft.op("Sub", ("x", mean)), inverse, inverse
        ),
    ],
)
def test_other_expressions_are_left_alone(spoil):
    norm = Norm()
    mean, inverse = norm.moments()
    last = norm.draft.op("Tanh", (spoil(norm, mean, inverse),))
    assert len(assert_untouched(layer_norm, norm.draft.graph([last]))) == 1


def test_a_sample_variance_is_left_alone():
    norm = Norm()
    mean = norm.mean("x", "mean")
    axes = norm.draft.const([-1], "int32")
    total = norm.draft.op("Sum", (norm.squares(mean, 0), axes), keep_dims=True)
    variance = norm.draft.op("RealDiv", (total, norm.draft.const(4.0)))
    top = centered(norm, mean, norm.inverse(variance, 0), None, None)
    assert assert_untouched(layer_norm, norm.draft.graph([top])) == ()


def test_our_own_graph_is_canonical():
    assert assert_untouched(layer_norm, encoder("REDUCE_MEAN", (-1,))) == ()


def test_the_classifier_has_seven(tmp_path):
    graph = classifier(fold_constants)
    result = rewritten(layer_norm, graph)
    assert result.notes == ()
    assert ops(result.graph)["Sqrt"] == 7
    assert not {"Rsqrt", "SquaredDifference"} & set(ops(result.graph))
    feeds, expected = classifier_case()
    actual = run(result.graph, feeds)["loss/probabilities"]
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert_same_results(graph, result.graph, feeds, tmp_path / "classifier.onnx")
