from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, List

import pytest

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.errors import ModelError, OptionError
from bert_serving.graph_opt.sources import ModelDefaults, ModelSource, TokenizerOptions, read_model
from bert_serving.server import planning
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.errors import StartupError
from bert_serving.server.planning import (
    SequencePlan,
    plan_echo,
    plan_http,
    plan_model,
    precision_of,
    precision_remarks,
    reported_config,
    unheeded_flags,
)
from bert_serving.server.pooling import resolve
from bert_serving.server.spec import HttpSpec, PoolingSpec

GOLDEN = Path(__file__).parents[2] / "golden"

CONFIG = BertConfig(
    vocab_size=100,
    hidden_size=8,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=64,
)


def google(**changes: Any) -> ModelSource:
    source = ModelSource("google", Path("model"), CONFIG, Path("model/vocab.txt"), {}, ())
    return replace(source, **changes)


def huggingface(**defaults: Any) -> ModelSource:
    return google(layout="huggingface", defaults=ModelDefaults(**defaults))


def parse(flags: str) -> argparse.Namespace:
    return get_args_parser().parse_args(flags.split())


def plan(source: ModelSource, flags: str = "") -> SequencePlan:
    return plan_model(parse(flags), source)


# --------------------------------------------------------------------------------- defaults


def test_defaults_in_google_s_layout_are_those_of_1_10() -> None:
    planned = plan(google())
    assert planned.tokenizer.max_length == 25
    assert planned.max_seq_len == 25
    assert planned.fixed_length
    assert planned.tokenizer.lowercase
    assert planned.tokenizer.strip_accents is None
    assert planned.tokenizer.split_chinese
    assert planned.tokenizer.final_sigma
    assert not planned.tokenizer.mask_special
    assert not planned.tokenizer.no_special
    assert planned.graph.pooling_strategy == "REDUCE_MEAN"
    assert planned.graph.pooling_layers == (-2,)
    assert not planned.graph.normalize
    assert planned.graph.position_embeddings
    assert planned.dimension == 8
    assert not planned.per_token


def test_google_s_default_length_is_no_more_than_the_model_allows() -> None:
    planned = plan(google(config=replace(CONFIG, max_position_embeddings=16)))
    assert (planned.tokenizer.max_length, planned.max_seq_len) == (16, 16)


def test_defaults_in_hugging_face_s_layout_are_the_model_s() -> None:
    planned = plan(
        huggingface(
            pooling_strategy="CLS_TOKEN", pooling_layers=(-1,), normalize=True, max_seq_len=32
        )
    )
    assert (planned.tokenizer.max_length, planned.max_seq_len) == (32, 32)
    assert not planned.fixed_length
    assert not planned.tokenizer.final_sigma
    assert planned.graph.pooling_strategy == "CLS_TOKEN"
    assert planned.graph.pooling_layers == (-1,)
    assert planned.graph.normalize


def test_a_hugging_face_model_that_says_nothing() -> None:
    planned = plan(huggingface())
    assert (planned.tokenizer.max_length, planned.max_seq_len) == (64, 64)
    assert not planned.fixed_length
    assert planned.graph.pooling_strategy == "REDUCE_MEAN"
    assert planned.graph.pooling_layers == (-2,)
    assert not planned.graph.normalize


def test_a_model_that_claims_more_than_it_has_positions_for() -> None:
    assert plan(huggingface(max_seq_len=512)).tokenizer.max_length == 64


def test_how_the_model_s_texts_were_tokenized() -> None:
    own = TokenizerOptions(lowercase=False, strip_accents=True, tokenize_chinese_chars=False)
    tokenizer = plan(google(layout="huggingface", tokenizer=own)).tokenizer
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (False, True)
    assert not tokenizer.split_chinese


def test_golden_models() -> None:
    tf1 = plan(read_model(GOLDEN / "tf1-tiny" / "model"))
    assert (tf1.tokenizer.max_length, tf1.dimension, tf1.fixed_length) == (25, 40, True)
    tiny = plan(read_model(GOLDEN / "hf" / "hf-tiny"))
    assert (tiny.tokenizer.max_length, tiny.dimension, tiny.fixed_length) == (64, 64, False)
    assert tiny.tokenizer.lowercase


# ------------------------------------------------------------------------------ named flags


@pytest.mark.parametrize("source", [google(), huggingface(max_seq_len=32)])
def test_a_named_length(source: ModelSource) -> None:
    planned = plan(source, "-max_seq_len 40")
    assert (planned.tokenizer.max_length, planned.max_seq_len) == (40, 40)
    assert planned.fixed_length


@pytest.mark.parametrize("source", [google(), huggingface(max_seq_len=32)])
def test_no_length(source: ModelSource) -> None:
    planned = plan(source, "-max_seq_len NONE")
    assert (planned.tokenizer.max_length, planned.max_seq_len) == (64, None)
    config = reported_config(parse(""), planned)
    assert (config["max_length"], config["max_seq_len"]) == (64, None)
    assert not planned.fixed_length
    assert plan(source, "-max_seq_len NONE -fixed_embed_length").fixed_length


def test_a_length_above_the_model_s_is_refused() -> None:
    with pytest.raises(StartupError, match=r"-max_seq_len 65 is more than the 64 positions .*NONE"):
        plan(google(), "-max_seq_len 65")
    assert plan(google(), "-max_seq_len 64").max_seq_len == 64


def test_without_position_embeddings_any_length_will_do() -> None:
    planned = plan(google(), "-max_seq_len 1000 -no_position_embeddings")
    assert planned.tokenizer.max_length == 1000
    assert not planned.graph.position_embeddings


def test_named_pooling_is_stronger_than_the_model_s() -> None:
    source = huggingface(pooling_strategy="CLS_TOKEN", pooling_layers=(-1,), normalize=True)
    flags = "-pooling_strategy REDUCE_MAX -pooling_layer 0 -3 -normalize false"
    graph = plan(source, flags).graph
    assert (graph.pooling_strategy, graph.pooling_layers) == ("REDUCE_MAX", (0, -3))
    assert not graph.normalize
    assert plan(google(), "-normalize true").graph.normalize


@pytest.mark.parametrize(
    ("flags", "dimension"),
    [
        ("-pooling_layer -1 -2", 16),
        ("-pooling_strategy REDUCE_MEAN_MAX", 16),
        ("-pooling_strategy REDUCE_MEAN_MAX -pooling_layer 0 1 2", 48),
        ("-pooling_strategy NONE", 8),
    ],
)
def test_dimension(flags: str, dimension: int) -> None:
    assert plan(google(), flags).dimension == dimension


def test_the_pooler_s_dimension() -> None:
    source = read_model(GOLDEN / "tf1-tiny" / "model")
    assert plan(source, "-pooling_strategy CLS_POOLED -pooling_layer 0 1 2").dimension == 40


def test_a_vector_for_every_token() -> None:
    planned = plan(huggingface(normalize=True), "-pooling_strategy NONE")
    assert planned.per_token
    assert not planned.graph.normalize, "the model's default is for vectors of texts"


def test_normalizing_every_token_is_refused() -> None:
    with pytest.raises(OptionError, match="-normalize true is for vectors of whole texts"):
        plan(google(), "-pooling_strategy NONE -normalize true")


CLASSIFIER = GOLDEN / "tf1-tiny" / "classifier"


@pytest.mark.parametrize("strategy", ["CLASSIFICATION", "REGRESSION"])
def test_a_number_for_each_label(strategy: str) -> None:
    source = read_model(CLASSIFIER, ckpt_name="model.ckpt-7")
    planned = plan(source, "-num_labels 3 -pooling_strategy " + strategy)
    assert (planned.dimension, planned.per_token) == (3, False)
    assert planned.graph.num_labels == 3
    with pytest.raises(OptionError, match="leave it out with -pooling_strategy " + strategy):
        plan(source, "-normalize true -num_labels 3 -pooling_strategy " + strategy)
    with pytest.raises(OptionError, match="name its number by -num_labels 3"):
        plan(source, "-num_labels 2 -pooling_strategy " + strategy)
    assert plan(source, "-pooling_strategy " + strategy).graph.num_labels == 3
    unit = replace(source, defaults=ModelDefaults(normalize=True))
    assert not plan(unit, "-num_labels 3 -pooling_strategy " + strategy).graph.normalize


def test_labels_make_no_other_graph_where_there_are_none() -> None:
    assert plan(google(), "-num_labels 7").graph == plan(google()).graph


def test_a_model_without_a_head() -> None:
    with pytest.raises(ModelError, match="no floating-point tensor 'output_weights'"):
        plan(read_model(GOLDEN / "tf1-tiny" / "model"), "-pooling_strategy CLASSIFICATION")


def test_a_layer_outside_the_model_is_named() -> None:
    with pytest.raises(OptionError, match="layer -5 is outside the model, which has 4 layers"):
        plan(google(), "-pooling_layer -1 -5")


def test_a_model_whose_own_pooling_cannot_be_followed() -> None:
    source = huggingface(unsupported="weighted mean pooling is not supported")
    with pytest.raises(OptionError, match=r"weighted mean .* name a -pooling_strategy"):
        plan(source)
    named = plan(source, "-pooling_strategy REDUCE_MEAN")
    assert named.graph.pooling_strategy == "REDUCE_MEAN"


def test_what_requests_may_ask_for() -> None:
    planned = plan(google(), "-pooling_layer -1 0 -normalize true")
    assert planned.pooling == PoolingSpec("REDUCE_MEAN", (-1, 0), True, False, 4, False)
    assert plan(google(), "-fixed_pooling").pooling.fixed
    pooler = read_model(GOLDEN / "tf1-tiny" / "model")
    assert plan(pooler).pooling.has_pooler
    assert not plan(pooler, "-engine echo").pooling.has_pooler, "no model is computed"


@pytest.mark.parametrize(
    ("flags", "count"), [("", 12), ("-pooling_layer 3 14", 15), ("-pooling_layer -20", 20)]
)
def test_echo_has_the_layers_that_are_named(flags: str, count: int) -> None:
    pooling = plan_echo(parse(flags)).pooling
    assert (pooling.num_layers, pooling.has_pooler, pooling.fixed) == (count, False, False)
    assert resolve(pooling) is None


def test_cased_tokenization_keeps_accents_too() -> None:
    own = TokenizerOptions(lowercase=True, strip_accents=True)
    tokenizer = plan(google(tokenizer=own), "-cased_tokenization").tokenizer
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (False, False)


def test_special_tokens() -> None:
    tokenizer = plan(google(), "-mask_cls_sep -no_special_token").tokenizer
    assert tokenizer.mask_special
    assert tokenizer.no_special


# ------------------------------------------------------------------------------------- echo


def test_echo_s_defaults() -> None:
    planned = plan_echo(parse(""))
    assert (planned.tokenizer.max_length, planned.max_seq_len) == (512, 512)
    assert planned.dimension == 768
    assert not planned.fixed_length
    assert planned.tokenizer.lowercase


def test_echo_s_flags() -> None:
    flags = "-max_seq_len 30 -cased_tokenization -pooling_strategy NONE -mask_cls_sep"
    planned = plan_echo(parse(flags))
    assert (planned.tokenizer.max_length, planned.max_seq_len) == (30, 30)
    assert planned.fixed_length
    assert planned.per_token
    assert not planned.tokenizer.lowercase
    assert planned.tokenizer.mask_special
    assert plan_echo(parse("-max_seq_len NONE")).max_seq_len is None


# ---------------------------------------------------------------------------- what is told


def test_reported_values_are_resolved() -> None:
    args = parse("-num_worker 3")
    config = reported_config(
        args, plan_model(args, google()), engine="tensorflow", precision="fp16"
    )
    assert (config["max_seq_len"], config["max_length"]) == (25, 25)
    assert config["fixed_pooling"] is False
    assert config["do_lower_case"] is True
    assert config["pooling_layer"] == [-2]
    assert config["pooling_strategy"] == 2
    assert config["pooling_strategy_name"] == "REDUCE_MEAN"
    assert config["normalize"] is False
    assert config["num_worker"] == 3
    assert (config["engine"], config["precision"]) == ("tensorflow", "fp16")
    assert json.loads(json.dumps(config)) == config


def test_http_is_planned_if_it_has_a_port() -> None:
    assert plan_http(parse("")) is None
    planned = plan_http(parse("-http_port 8080 -http_max_body 2 -http_timeout 5 -cors x"))
    assert planned == HttpSpec(8080, 10, "x", 2 << 20, 4096, 5.0)


def test_http_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "HTTP_PACKAGES", ("json", "no_such_package"))
    with pytest.raises(StartupError) as raised:
        plan_http(parse("-http_port 8080"))
    assert "(no_such_package): pip install 'bert-serving[http]'" in str(raised.value)
    assert plan_http(parse("")) is None


@pytest.mark.parametrize(
    ("flags", "engine", "on_gpu", "names"),
    [
        ("", "onnxruntime", False, []),
        ("-num_worker 2 -cpu -model_dir m", "onnxruntime", False, []),
        ("-xla", "onnxruntime", True, ["xla"]),
        ("-http_port 8080 -http_max_connect 20 -cors x", "onnxruntime", False, []),
        ("-http_max_connect 20", "onnxruntime", False, ["http_max_connect"]),
        ("-gpu_memory_fraction 0.9", "onnxruntime", False, ["gpu_memory_fraction"]),
        ("-gpu_memory_fraction 0.9", "onnxruntime", True, []),
        ("-gpu_memory_fraction 0.5", "onnxruntime", False, []),
        ("-device_map 0", "echo", False, ["device_map"]),
        ("-normalize true -xla", "echo", False, ["normalize", "xla"]),
        ("-fp16 -precision fp16", "echo", False, ["fp16", "precision"]),
        ("-fp16 -precision fp16", "onnxruntime", False, []),
        ("-xla", "tensorflow", False, []),
        ("-num_labels 3", "onnxruntime", False, ["num_labels"]),
        ("-num_labels 3 -pooling_strategy REDUCE_MAX", "tensorflow", False, ["num_labels"]),
        ("-num_labels 3 -pooling_strategy REGRESSION", "onnxruntime", False, []),
    ],
)
def test_flags_without_effect_are_named(
    flags: str, engine: str, on_gpu: bool, names: List[str]
) -> None:
    remarks = unheeded_flags(parse(flags), engine, on_gpu)
    assert len(remarks) == len(names)
    for name, remark in zip(names, remarks):
        assert remark.startswith("-%s has no effect: " % name)


# -------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("", "fp32"),
        ("-fp16", "fp16"),
        ("-precision fp16", "fp16"),
        ("-fp16 -precision fp16", "fp16"),
        ("-precision int8", "int8"),
    ],
)
def test_precision(flags: str, precision: str) -> None:
    assert precision_of(parse(flags)) == precision


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_precisions_that_contradict_each_other(precision: str) -> None:
    with pytest.raises(StartupError, match="-fp16 and -precision %s contradict" % precision):
        precision_of(parse("-fp16 -precision " + precision))


def test_bfloat16_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "find_spec", lambda name: None)
    with pytest.raises(StartupError, match="-precision bf16 needs the package ml_dtypes"):
        precision_of(parse("-precision bf16"))
    monkeypatch.setattr(planning, "find_spec", lambda name: object())
    assert precision_of(parse("-precision bf16")) == "bf16"


@pytest.mark.parametrize(
    ("precision", "engine", "on_gpu", "is_told"),
    [
        ("fp32", "onnxruntime", False, False),
        ("fp16", "onnxruntime", False, True),
        ("fp16", "tensorflow", True, False),
        ("bf16", "tensorflow", False, True),
        ("int8", "onnxruntime", False, False),
        ("int8", "onnxruntime", True, True),
        ("int8", "tensorflow", False, True),
        ("int8", "echo", False, False),
    ],
)
def test_a_precision_that_is_not_computed_in_is_told(
    precision: str, engine: str, on_gpu: bool, is_told: bool
) -> None:
    remarks = precision_remarks(precision, engine, on_gpu)
    assert len(remarks) == is_told
    for remark in remarks:
        assert remark.startswith("-precision %s makes the graph smaller, not faster" % precision)
        assert remark.endswith("a GPU" if on_gpu else "a CPU")
