from __future__ import annotations

import json

import pytest

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.sources import ModelDefaults
from bert_serving.graph_opt.sources.sentence_transformers import read_defaults


def write(directory, kinds=("Transformer", "Pooling"), pooling=None, lengths=None):
    modules = [
        {
            "idx": index,
            "path": "%d_%s" % (index, kind),
            "type": "sentence_transformers.models." + kind,
        }
        for index, kind in enumerate(kinds)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    if pooling is not None:
        (directory / "1_Pooling").mkdir()
        (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if lengths is not None:
        (directory / "sentence_bert_config.json").write_text(json.dumps(lengths))


def modes(*on):
    flags = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
    values = {"pooling_mode_" + flag: flag in on for flag in flags}
    return dict(values, word_embedding_dimension=64)


def test_without_modules_nothing_is_said(tmp_path):
    assert read_defaults(tmp_path) == ModelDefaults()


@pytest.mark.parametrize(
    ("pooling", "strategy"),
    [
        (modes("mean_tokens"), "REDUCE_MEAN"),
        (modes("cls_token"), "CLS_TOKEN"),
        (modes("max_tokens"), "REDUCE_MAX"),
        (modes("lasttoken"), "LAST_TOKEN"),
        ({"embedding_dimension": 64, "pooling_mode": "mean"}, "REDUCE_MEAN"),
        ({"pooling_mode": "cls"}, "CLS_TOKEN"),
        ({"pooling_mode": ["max"]}, "REDUCE_MAX"),
    ],
)
def test_pooling(tmp_path, pooling, strategy):
    write(tmp_path, pooling=pooling)
    assert read_defaults(tmp_path) == ModelDefaults(strategy, (-1,), False, None, None)


def test_normalize_and_length(tmp_path):
    kinds = ("Transformer", "Pooling", "Normalize")
    write(tmp_path, kinds, modes("mean_tokens"), {"max_seq_length": 256, "do_lower_case": False})
    assert read_defaults(tmp_path) == ModelDefaults("REDUCE_MEAN", (-1,), True, 256, None)


@pytest.mark.parametrize(
    ("kinds", "pooling", "message"),
    [
        (("Transformer", "Pooling", "Dense"), modes("mean_tokens"), "Transformer, Pooling, Dense"),
        (("Transformer",), None, "lists the modules Transformer;"),
        ((), None, "lists the modules \\(none\\);"),
        (
            ("Transformer", "Pooling"),
            modes("mean_tokens", "cls_token"),
            "cls_token and mean",
        ),
        (("Transformer", "Pooling"), modes("mean_sqrt_len_tokens"), "mean_sqrt_len_tokens"),
        (("Transformer", "Pooling"), modes(), "the pooling \\(none\\)"),
        (("Transformer", "Pooling"), {"pooling_mode": "weightedmean"}, "weightedmean"),
    ],
)
def test_what_cannot_be_followed_is_explained(tmp_path, kinds, pooling, message):
    write(tmp_path, kinds, pooling, {"max_seq_length": 128})
    defaults = read_defaults(tmp_path)
    assert defaults.pooling_strategy is None
    assert defaults.max_seq_len == 128
    with pytest.raises(ValueError, match=message):
        raise ValueError(defaults.unsupported)


def test_unreadable_files_are_named(tmp_path):
    write(tmp_path, pooling=modes("mean_tokens"), lengths={"max_seq_length": None})
    assert read_defaults(tmp_path).max_seq_len is None
    for name in ("sentence_bert_config.json", "1_Pooling/config.json", "modules.json"):
        good = (tmp_path / name).read_text()
        (tmp_path / name).write_text("{\n")
        with pytest.raises(ModelError, match="%s isn't JSON: .* at line 2, column 1" % name):
            read_defaults(tmp_path)
        (tmp_path / name).write_text("3")
        with pytest.raises(ModelError, match="%s holds no" % name):
            read_defaults(tmp_path)
        (tmp_path / name).write_text(good)


def test_a_missing_pooling_config(tmp_path):
    write(tmp_path)
    with pytest.raises(ModelError, match=r"can't read .*1_Pooling/config.json: No such file"):
        read_defaults(tmp_path)


@pytest.mark.parametrize("value", [0, "256", True, 1.5])
def test_a_length_that_cannot_be(tmp_path, value):
    write(tmp_path, pooling=modes("mean_tokens"), lengths={"max_seq_length": value})
    with pytest.raises(ModelError, match=r"sentence_bert_config.json: max_seq_length must be"):
        read_defaults(tmp_path)
