from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.graph_opt.support import SMALL, random_source

from bert_serving.graph_opt import pooling as graph_pooling
from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize, pipeline_for
from bert_serving.server import pooling
from bert_serving.server.engines import Features
from bert_serving.server.pooling import STRATEGIES, HiddenStates, Pooling, pool, resolve
from bert_serving.server.spec import PoolingSpec

OWN = PoolingSpec("REDUCE_MEAN", (-2,), False, False, 12, True)


# ------------------------------------------------------------------------------- pooling


def test_what_is_said_twice_is_the_same() -> None:
    """The server doesn't import the optimizer, which takes a while."""
    assert set(STRATEGIES + HEADS) == set(graph_pooling.POOLING_STRATEGIES)
    assert pooling.HEADS == HEADS
    assert np.float32(graph_pooling.LOWEST) == pooling.LOWEST
    assert np.float32(graph_pooling.MEAN_EPSILON) == pooling.MEAN_EPSILON
    assert np.float32(graph_pooling.NORM_EPSILON) == pooling.NORM_EPSILON


GRAPHS: Dict[GraphOptions, Graph] = {}


def graph_of(options: GraphOptions) -> Graph:
    if options not in GRAPHS:
        GRAPHS[options] = optimize(build(random_source(), options), pipeline_for(packed=True))[0]
    return GRAPHS[options]


def hidden_states(features: Features) -> HiddenStates:
    graph = graph_of(GraphOptions(every_layer=True))
    outputs = run(graph, features.feeds(graph.inputs))
    layers = {number: outputs["layer_%d" % number] for number in range(SMALL.num_hidden_layers)}
    return HiddenStates(layers, outputs["pooled"])


@settings(max_examples=60)
@given(data=st.data())
def test_it_gives_what_the_graph_with_that_pooling_gives(data: Any) -> None:
    """Also where special tokens or any others are masked, and every one of a row."""
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    count = sum(lengths)
    mask = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    strategy = data.draw(st.sampled_from(STRATEGIES))
    layers = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
    normalize = strategy != "NONE" and data.draw(st.booleans())
    random = np.random.RandomState(count)
    tokens = [random.randint(0, SMALL.vocab_size, count), random.randint(0, 2, count), mask]
    features = Features(np.array(tokens, np.int32), np.array(lengths, np.int32))
    graph = graph_of(GraphOptions(strategy, tuple(layers), normalize))
    expected = run(graph, features.feeds(graph.inputs))["final_encodes"]
    asked = Pooling(strategy, tuple(layers), normalize)
    vectors = pool(asked, hidden_states(features), features.lengths, features.tokens[2])
    assert vectors.dtype == np.float32
    assert vectors.shape == expected.shape
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_attended_to_is_zero_and_a_maximum_has_a_floor() -> None:
    hidden = HiddenStates({0: np.ones((3, 2), np.float32)})
    lengths, mask = np.array([2, 1]), np.array([1, 0, 0], np.int32)
    tokens = pool(Pooling("NONE", (0,), False), hidden, lengths, mask)
    assert tokens.tolist() == [[1, 1], [0, 0], [0, 0]]
    maxima = pool(Pooling("REDUCE_MAX", (0, 0), False), hidden, lengths, mask)
    assert maxima.tolist() == [[1] * 4, [np.float32(-1e30)] * 4]
    means = pool(Pooling("REDUCE_MEAN", (0,), True), hidden, lengths, mask)
    np.testing.assert_allclose(means, [[0.5**0.5] * 2, [0, 0]], rtol=1e-6)


# ------------------------------------------------------------------------------- resolve


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"strategy": "REDUCE_MEAN"},
        {"layers": [-2]},
        {"layers": [10]},
        {"normalize": False},
        {"strategy": "REDUCE_MEAN", "layers": (10,), "normalize": False},
    ],
)
@pytest.mark.parametrize("fixed", [False, True])
def test_what_the_server_does_anyway(asked: Dict[str, Any], fixed: bool) -> None:
    assert resolve(replace(OWN, fixed=fixed), **asked) is None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"strategy": "REDUCE_MAX"}, Pooling("REDUCE_MAX", (10,), False)),
        ({"layers": [-1, 0, -1]}, Pooling("REDUCE_MEAN", (11, 0, 11), False)),
        ({"normalize": True}, Pooling("REDUCE_MEAN", (10,), True)),
        ({"strategy": "FIRST_TOKEN"}, Pooling("CLS_TOKEN", (10,), False)),
        ({"strategy": "CLS_POOLED", "layers": [3]}, Pooling("CLS_POOLED", (), False)),
        ({"strategy": "NONE", "normalize": False}, Pooling("NONE", (10,), False)),
    ],
)
def test_another_pooling(asked: Dict[str, Any], expected: Pooling) -> None:
    assert resolve(OWN, **asked) == expected


def test_two_names_of_one_strategy() -> None:
    own = replace(OWN, strategy="LAST_TOKEN", fixed=True)
    assert resolve(own, "SEP_TOKEN") is None
    pooled = replace(OWN, strategy="CLS_POOLED", fixed=True)
    assert resolve(pooled, layers=[0]) is None, "a pooler is over the last layer"


def test_token_vectors_are_not_normalized_as_the_server_s_are() -> None:
    own = replace(OWN, normalize=True)
    assert resolve(own, "NONE") == Pooling("NONE", (10,), False)
    assert resolve(own, "REDUCE_MAX") == Pooling("REDUCE_MAX", (10,), True)
    assert resolve(own, normalize=False) == Pooling("REDUCE_MEAN", (10,), False)


@pytest.mark.parametrize("strategy", HEADS)
def test_a_classifier_s_server(strategy: str) -> None:
    own = replace(OWN, strategy=strategy, layers=(-1,))
    assert resolve(own) is None
    assert resolve(own, strategy, normalize=False) is None
    assert resolve(own, "REDUCE_MEAN") == Pooling("REDUCE_MEAN", (11,), False)
    with pytest.raises(ValueError, match="normalize is for vectors of whole texts; .*" + strategy):
        resolve(own, normalize=True)
    other = HEADS[1 - HEADS.index(strategy)]
    with pytest.raises(ValueError, match=other + " needs a server that is started with it"):
        resolve(own, other)
    with pytest.raises(ValueError, match="its pooling is %s of layer -1" % strategy):
        resolve(replace(own, fixed=True), "REDUCE_MEAN")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"strategy": "MEDIAN"}, "pooling strategy 'MEDIAN' isn't one of CLS_POOLED, CLS_TOKEN, "),
        ({"strategy": "CLASSIFICATION"}, "CLASSIFICATION needs a server .* can give CLS_POOLED, "),
        ({"layers": [12]}, r"pooling layer 12 is outside .* has 12 layers \(-12\.\.11\)"),
        ({"layers": [-1, -13]}, "pooling layer -13 is outside the model"),
        ({"layers": []}, "no pooling layer is named: name at least one"),
        ({"layers": [0] * 13}, "13 pooling layers are named; name at most 12"),
        ({"strategy": "CLS_POOLED", "layers": [12]}, "pooling layer 12 is outside"),
        ({"strategy": "NONE", "normalize": True}, "leave it out with pooling strategy NONE"),
    ],
)
def test_what_cannot_be_done_is_refused(asked: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(OWN, **asked)


def test_a_model_without_a_pooler() -> None:
    with pytest.raises(ValueError, match=r"CLS_POOLED needs a pooler, and .* none; .*CLS_TOKEN"):
        resolve(replace(OWN, has_pooler=False), "CLS_POOLED")


@pytest.mark.parametrize("asked", [{"strategy": "NONE"}, {"layers": [-1]}, {"normalize": True}])
def test_a_server_with_fixed_pooling_says_what_it_is(asked: Dict[str, Any]) -> None:
    own = replace(OWN, layers=(-2, -1), fixed=True)
    with pytest.raises(ValueError) as raised:
        resolve(own, **asked)
    assert str(raised.value) == (
        "this server was started with -fixed_pooling; its pooling is REDUCE_MEAN of layer -2 -1, "
        "not normalized; ask for no other"
    )


def test_as_many_layers_as_the_server_s_own_may_be_named() -> None:
    own = replace(OWN, layers=(0,) * 15)
    assert resolve(own) is None
    assert resolve(own, layers=[1] * 15) == Pooling("REDUCE_MEAN", (1,) * 15, False)


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        (OWN, Pooling("REDUCE_MEAN", (10,), True), True),
        (OWN, Pooling("REDUCE_MEAN", (11,), True), False),
        (OWN, Pooling("REDUCE_MAX", (10,), True), False),
        (replace(OWN, normalize=True), Pooling("REDUCE_MEAN", (10,), False), False),
        (replace(OWN, strategy="CLS_POOLED"), Pooling("CLS_POOLED", (), True), True),
        (replace(OWN, strategy="FIRST_TOKEN"), Pooling("CLS_TOKEN", (10,), True), True),
    ],
)
def test_own_vectors_at_unit_length(own: PoolingSpec, asked: Pooling, expected: bool) -> None:
    assert asked.is_own_at_unit_length(own) is expected


LISTS: List[Any] = [st.none(), st.lists(st.integers(-14, 14), max_size=14)]


@given(
    strategy=st.one_of(st.none(), st.sampled_from(STRATEGIES + HEADS)),
    layers=st.one_of(LISTS),
    normalize=st.one_of(st.none(), st.booleans()),
    own=st.builds(
        PoolingSpec,
        st.sampled_from(STRATEGIES + HEADS),
        st.lists(st.integers(-12, 11), min_size=1, max_size=3).map(tuple),
        st.booleans(),
        st.booleans(),
        st.just(12),
        st.booleans(),
    ).filter(lambda own: not own.normalize or own.strategy not in ("NONE", *HEADS)),
)
def test_what_is_resolved_can_be_computed(
    strategy: Any, layers: Any, normalize: Any, own: PoolingSpec
) -> None:
    try:
        asked = resolve(own, strategy, layers, normalize)
    except ValueError:
        return
    if asked is None:
        return
    assert not own.fixed
    assert asked.strategy in STRATEGIES
    assert all(0 <= layer < 12 for layer in asked.layers)
    assert asked.needs_pooler == (asked.layers == ())
    assert own.has_pooler or not asked.needs_pooler
    assert not (asked.normalize and asked.per_token)
