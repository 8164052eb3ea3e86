from __future__ import annotations

import dataclasses

import pytest
from unit.graph_opt.support import SMALL

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.errors import ModelError

VALUES = dataclasses.asdict(SMALL)


def test_values_are_read_and_others_ignored():
    assert BertConfig.from_json(dict(VALUES, directionality="bidi"), "c.json") == SMALL
    assert SMALL.head_size == 4


def test_defaults():
    needed = {key: VALUES[key] for key in VALUES if key.endswith(("size", "layers", "heads"))}
    config = BertConfig.from_json(dict(needed, max_position_embeddings=9), "c.json")
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu", 1e-12)


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_attention_heads"])
def test_a_missing_key(key):
    values = {name: value for name, value in VALUES.items() if name != key}
    with pytest.raises(ModelError, match=r"c.json: the key '%s' is missing" % key):
        BertConfig.from_json(values, "c.json")


@pytest.mark.parametrize("value", [0, -1, 1.5, "8", None, True, 2**31])
def test_a_size_that_cannot_be(value):
    with pytest.raises(ModelError, match=r"c.json: hidden_size must be a positive integer"):
        BertConfig.from_json(dict(VALUES, hidden_size=value), "c.json")


@pytest.mark.parametrize("value", [-0.1, 1, "0.1", None, True, float("nan")])
def test_a_rate_that_cannot_be(value):
    with pytest.raises(ModelError, match=r"c.json: hidden_dropout_prob must be a number"):
        BertConfig.from_json(dict(VALUES, hidden_dropout_prob=value), "c.json")


def test_heads_must_divide_the_hidden_size():
    with pytest.raises(ModelError, match="hidden_size 8 is no multiple of num_attention_heads 3"):
        BertConfig.from_json(dict(VALUES, num_attention_heads=3), "c.json")


@pytest.mark.parametrize("value", ["swish", 3, None])
def test_an_unknown_activation(value):
    with pytest.raises(ModelError, match=r"c.json: hidden_act .* isn't known; these are: gelu"):
        BertConfig.from_json(dict(VALUES, hidden_act=value), "c.json")


def test_something_that_is_no_object():
    with pytest.raises(ModelError, match=r"c.json holds no JSON object"):
        BertConfig.from_json([1], "c.json")
