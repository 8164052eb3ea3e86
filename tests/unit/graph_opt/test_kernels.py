from __future__ import annotations

import math

import numpy as np
import pytest
from unit.graph_opt.engines import run_tensorflow
from unit.graph_opt.op_examples import EXAMPLES, inputs

from bert_serving.graph_opt.erf import erf
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.kernels import KERNELS
from bert_serving.graph_opt.quantization import DYNAMIC_QUANT_MAT_MUL
from bert_serving.graph_opt.signatures import tensor_dtypes

HALVES = ("float16", "bfloat16")


FUNCTIONS = (
    "Abs Elu Erf Exp Floor LeakyRelu Log1p LogSoftmax Neg Reciprocal Relu Relu6 Rsqrt Selu"
    " Sigmoid Softmax Softplus Sqrt Square Tanh"
)


def example(name):
    draft = inputs()
    outputs = EXAMPLES[name](draft)
    outputs = [outputs] if isinstance(outputs, str) else list(outputs)
    return draft.graph(outputs), draft.feeds


def compute(op, *arrays, **attrs):
    node = Node("n", op, tuple("abcdef"[: len(arrays)]), attrs)
    return KERNELS[op](node, [np.asarray(array) for array in arrays])[0]


def half(name):
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def test_the_examples_use_every_operation():
    used = {node.op for name in EXAMPLES for node in example(name)[0]}
    unsaid = {"Assert", "NoOp", "RandomUniform", "ReadVariableOp", "ResourceGather"}
    unsaid.add("StatelessRandomUniform")
    unsaid.add(DYNAMIC_QUANT_MAT_MUL)  # no operation of TensorFlow's: see test_passes_quantize.py
    assert set(KERNELS) - used == unsaid


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_kernels_give_what_signatures_say(name):
    graph, feeds = example(name)
    dtypes = tensor_dtypes(graph)
    for tensor, value in run(graph, feeds).items():
        assert value.dtype == dtypes[tensor]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_kernels_give_what_tensorflow_gives(name, tmp_path):
    graph, feeds = example(name)
    expected = run_tensorflow(graph, tmp_path / "graph.pb", feeds)
    for tensor, value in run(graph, feeds).items():
        assert value.dtype == expected[tensor].dtype
        assert value.shape == expected[tensor].shape
        np.testing.assert_allclose(value, expected[tensor], rtol=1e-5, atol=1e-6)


def test_erf():
    x = np.concatenate([np.linspace(-7, 7, 40001), 10.0 ** -np.arange(300), [np.inf, -np.inf, 0]])
    expected = np.array([math.erf(value) for value in x])
    assert np.abs(erf(x) - expected).max() <= 5e-16
    assert np.isnan(erf(np.array([np.nan])))[0]
    assert erf(np.zeros((2, 0, 3), np.float32)).shape == (2, 0, 3)
    assert erf(np.float32(0.5).reshape(())).shape == ()


@pytest.mark.parametrize("dtype", HALVES)
def test_erf_in_a_narrow_dtype(dtype):
    x = np.linspace(-3, 3, 101).astype(half(dtype))
    expected = np.array([math.erf(value) for value in x.astype(np.float64)]).astype(x.dtype)
    assert erf(x).dtype == x.dtype
    np.testing.assert_array_equal(erf(x), expected)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "op",
    FUNCTIONS.split(),
)
def test_functions_in_half_precision_are_rounded_once(op, dtype):
    x = np.linspace(0.25, 3, 12).astype(half(dtype))
    result = compute(op, x)
    assert result.dtype == x.dtype
    exact = compute(op, x.astype(np.float64))
    # A unit in the last place: 2**-10 of float16, 2**-7 of bfloat16, relative to the binade.
    unit = 2.0**-10 if dtype == "float16" else 2.0**-7
    np.testing.assert_allclose(result.astype(np.float64), exact, rtol=unit)


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_in_half_precision_are_rounded_once(dtype):
    ones = np.full((3, 5000), 0.1).astype(half(dtype))
    exact = float(ones[0, 0]) * 5000
    unit = 2.0**-10 if dtype == "float16" else 2.0**-7
    assert float(compute("Sum", ones, 1)[0]) == pytest.approx(exact, rel=unit)
    assert float(compute("Mean", ones, 1)[0]) == pytest.approx(exact / 5000, rel=unit)
    column = np.ones((5000, 1)).astype(ones.dtype)
    assert float(compute("MatMul", ones, column)[0, 0]) == pytest.approx(exact, rel=unit)
    product = compute("Einsum", ones, column, equation=b"ab,bc->ac")
    assert product.dtype == ones.dtype
    assert float(product[0, 0]) == pytest.approx(exact, rel=unit)


def test_sums_of_integers_wrap_around():
    assert compute("Sum", np.array([2**31 - 1, 1], np.int32), 0).tolist() == -(2**31)


def test_integers_that_floats_cannot_hold_are_divided_exactly():
    big = np.array([2**62 + 1, -(2**62) - 1], np.int64)
    assert compute("Div", big, np.array([1, 1])).tolist() == big.tolist()
    assert compute("Div", big, np.array([2, 2])).tolist() == [2**61, -(2**61)]


@pytest.mark.parametrize(
    ("op", "arrays", "attrs", "message"),
    [
        ("Slice", ([1, 2, 3], [1], [3]), {}, "Slice 'n' takes 1:4 of axis 0, which has 3"),
        ("SplitV", ([1, 2, 3], [1, 1], 0), {"num_split": 2}, "SplitV 'n' can't split axis 0"),
        ("Unpack", ([1, 2, 3],), {"num": 2}, "Unpack 'n' gives 2 parts, its input has 3"),
        ("EnsureShape", ([1.0],), {"shape": (None, 2)}, r"'n' wants \(None, 2\), gets \(1,\)"),
        ("EnsureShape", ([1.0],), {"shape": (2,)}, r"'n' wants \(2,\), gets \(1,\)"),
        ("CheckNumerics", ([np.nan],), {"message": b""}, "CheckNumerics 'n': 'a' has values"),
        ("Assert", (False, np.array(b"why", object)), {}, "assertion 'n' doesn't hold: b'why'"),
    ],
)
def test_what_cannot_be_computed(op, arrays, attrs, message):
    with pytest.raises(GraphError, match=message):
        compute(op, *arrays, **attrs)


def test_stateless_random_numbers_depend_on_their_seed():
    shape, dtype = np.array([2, 50]), np.dtype("float32")
    one, same, other = (
        compute("StatelessRandomUniform", shape, np.array(seed), dtype=dtype)
        for seed in ([1, -2], [1, -2], [1, 3])
    )
    assert one.tolist() == same.tolist() != other.tolist()
    assert (one.shape, one.dtype) == ((2, 50), dtype)


def test_random_numbers_are_between_0_and_1():
    shape, dtype = np.array([3, 1000]), np.dtype("float32")
    numbers = compute("RandomUniform", shape, dtype=dtype, seed=1, seed2=-5)
    assert numbers.shape == (3, 1000)
    assert numbers.dtype == dtype
    assert 0 <= numbers.min() < 0.01 < 0.99 < numbers.max() < 1
    assert (
        compute("RandomUniform", shape, dtype=dtype, seed=1, seed2=-5).tolist() == numbers.tolist()
    )
