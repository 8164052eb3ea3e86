from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from unit.graph_opt.support import held, random_source

from bert_serving.graph_opt.defaults import resolve_options
from bert_serving.graph_opt.errors import OptionError
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import ModelDefaults
from bert_serving.graph_opt.variables import HEAD_BIAS, HEAD_WEIGHTS

SOURCE = random_source()
NORMALIZED = replace(
    SOURCE,
    defaults=ModelDefaults(pooling_strategy="CLS_TOKEN", pooling_layers=(-1,), normalize=True),
)


def classifier(labels):
    head = {
        HEAD_WEIGHTS: np.zeros((labels, SOURCE.config.hidden_size), np.float32),
        HEAD_BIAS: np.zeros(labels, np.float32),
    }
    return dict(SOURCE.variables, **{name: held(name, array) for name, array in head.items()})


def test_without_any_wish_it_is_what_1_10_did():
    assert resolve_options(SOURCE) == GraphOptions("REDUCE_MEAN", (-2,), False, True, 2)


def test_the_models_own_defaults_come_next():
    assert resolve_options(NORMALIZED) == GraphOptions("CLS_TOKEN", (-1,), True)


def test_what_is_named_comes_first():
    options = resolve_options(
        NORMALIZED,
        pooling_strategy="REDUCE_MAX",
        pooling_layers=[0, 1],
        normalize=False,
        position_embeddings=False,
    )
    assert options == GraphOptions("REDUCE_MAX", (0, 1), False, False)


@pytest.mark.parametrize("strategy", ["NONE", "CLASSIFICATION"])
def test_the_models_wish_to_normalize_is_for_vectors_of_texts(strategy):
    source = replace(NORMALIZED, variables=classifier(5))
    assert not resolve_options(source, pooling_strategy=strategy).normalize
    with pytest.raises(OptionError, match="normalize"):
        resolve_options(source, pooling_strategy=strategy, normalize=True)


def test_a_classifier_has_as_many_labels_as_its_weights():
    source = replace(SOURCE, variables=classifier(5))
    options = resolve_options(source, pooling_strategy="CLASSIFICATION")
    assert options.num_labels == 5
    assert resolve_options(source, pooling_strategy="REGRESSION", num_labels=5).num_labels == 5
    with pytest.raises(OptionError, match="a classifier of 5 labels, not 4"):
        resolve_options(source, pooling_strategy="CLASSIFICATION", num_labels=4)
    # Elsewhere the number is no part of what is computed.
    assert resolve_options(source, num_labels=4) == resolve_options(source)


def test_a_pooling_that_cannot_be_followed_needs_another_one():
    source = replace(SOURCE, defaults=ModelDefaults(unsupported="modules.json asks for Dense"))
    with pytest.raises(OptionError, match="asks for Dense; name a -pooling_strategy"):
        resolve_options(source)
    assert resolve_options(source, pooling_strategy="NONE").pooling_strategy == "NONE"


def test_a_layer_that_the_model_does_not_have():
    with pytest.raises(OptionError, match="pooling layer 3 is outside the model"):
        resolve_options(SOURCE, pooling_layers=[3])
