from __future__ import annotations

import argparse
import copy
import json
from typing import Any, List

import pytest

from bert_serving.server import helper
from bert_serving.server.arguments import get_args_parser, get_shutdown_parser
from bert_serving.server.model_flags import AUTO, POOLING_CODES

#: Flag of 1.10, words of an example, attribute, value of the example.
FLAGS = [
    ("-model_dir", "some/model", "model_dir", "some/model"),
    ("-tuned_model_dir", "tuned", "tuned_model_dir", "tuned"),
    ("-ckpt_name", "model.ckpt-9", "ckpt_name", "model.ckpt-9"),
    ("-config_name", "config.json", "config_name", "config.json"),
    ("-graph_tmp_dir", "/tmp/g", "graph_tmp_dir", "/tmp/g"),
    ("-max_seq_len", "40", "max_seq_len", 40),
    ("-max_seq_len", "NONE", "max_seq_len", None),
    ("-max_seq_len", "none", "max_seq_len", None),
    ("-cased_tokenization", "", "do_lower_case", False),
    ("-pooling_layer", "-1 -2 3", "pooling_layer", [-1, -2, 3]),
    ("-pooling_strategy", "CLS_POOLED", "pooling_strategy", "CLS_POOLED"),
    ("-mask_cls_sep", "", "mask_cls_sep", True),
    ("-no_special_token", "", "no_special_token", True),
    ("-show_tokens_to_client", "", "show_tokens_to_client", True),
    ("-no_position_embeddings", "", "no_position_embeddings", True),
    ("-num_labels", "3", "num_labels", 3),
    ("-port", "1234", "port", 1234),
    ("-port_in", "1234", "port", 1234),
    ("-port_data", "1234", "port", 1234),
    ("-port_out", "1235", "port_out", 1235),
    ("-port_result", "1235", "port_out", 1235),
    ("-http_port", "8080", "http_port", 8080),
    ("-http_max_connect", "20", "http_max_connect", 20),
    ("-cors", "https://example.org", "cors", "https://example.org"),
    ("-num_worker", "4", "num_worker", 4),
    ("-max_batch_size", "64", "max_batch_size", 64),
    ("-priority_batch_size", "0", "priority_batch_size", 0),
    ("-cpu", "", "cpu", True),
    ("-xla", "", "xla", True),
    ("-fp16", "", "fp16", True),
    ("-gpu_memory_fraction", "0.25", "gpu_memory_fraction", 0.25),
    ("-device_map", "0 2", "device_map", [0, 2]),
    ("-prefetch_size", "0", "prefetch_size", 0),
    ("-fixed_embed_length", "", "fixed_embed_length", True),
    ("-verbose", "", "verbose", True),
    # new ones
    ("-normalize", "true", "normalize", True),
    ("-normalize", "No", "normalize", False),
    ("-host", "0.0.0.0", "host", "0.0.0.0"),
    ("-engine", "echo", "engine", "echo"),
    ("-engine", "tensorflow", "engine", "tensorflow"),
    ("-precision", "int8", "precision", "int8"),
    ("-http_max_body", "5", "http_max_body", 5),
    ("-http_max_rows", "100", "http_max_rows", 100),
    ("-http_timeout", "5", "http_timeout", 5),
    ("-pooling_strategy", "REGRESSION", "pooling_strategy", "REGRESSION"),
]

DEFAULTS_1_10 = {
    "tuned_model_dir": None,
    "ckpt_name": "bert_model.ckpt",
    "config_name": "bert_config.json",
    "graph_tmp_dir": None,
    "mask_cls_sep": False,
    "no_special_token": False,
    "show_tokens_to_client": False,
    "no_position_embeddings": False,
    "port": 5555,
    "port_out": 5556,
    "http_port": None,
    "http_max_connect": 10,
    "cors": "*",
    "num_worker": 1,
    "max_batch_size": 256,
    "priority_batch_size": 16,
    "cpu": False,
    "xla": False,
    "fp16": False,
    "gpu_memory_fraction": 0.5,
    "device_map": [],
    "fixed_embed_length": False,
    "verbose": False,
}
#: Those whose default depends on the model or on other flags; planning falls back to 1.10's.
FOUND_LATER = (
    "max_seq_len",
    "do_lower_case",
    "pooling_layer",
    "pooling_strategy",
    "normalize",
    "prefetch_size",
    "precision",
)


def parse(*words: str) -> argparse.Namespace:
    return get_args_parser().parse_args(list(words))


@pytest.mark.parametrize(("flag", "words", "attribute", "value"), FLAGS)
@pytest.mark.parametrize("spelling", ["1.10", "two dashes", "hyphens"])
def test_each_flag_in_each_spelling(
    spelling: str, flag: str, words: str, attribute: str, value: Any
) -> None:
    spelled = flag if spelling == "1.10" else "-" + flag
    if spelling == "hyphens":
        spelled = "--" + flag[1:].replace("_", "-")
    assert getattr(parse(spelled, *words.split()), attribute) == value


def test_defaults_are_those_of_1_10() -> None:
    args = vars(parse())
    assert {name: args[name] for name in DEFAULTS_1_10} == DEFAULTS_1_10


def test_defaults_that_are_found_later() -> None:
    args = parse()
    for name in FOUND_LATER:
        assert getattr(args, name) is AUTO
    assert args.model_dir is None
    assert args.engine == "auto"


def test_only_this_machine_is_served_by_default() -> None:
    assert parse().host == "127.0.0.1"


def test_a_default_stays_itself_when_copied() -> None:
    assert copy.deepcopy(parse()).max_seq_len is AUTO


@pytest.mark.parametrize("strategy", sorted(POOLING_CODES))
def test_each_pooling_strategy_is_known(strategy: str) -> None:
    assert parse("-pooling_strategy", strategy).pooling_strategy == strategy


def test_pooling_codes_are_those_of_1_10() -> None:
    """What SHOW_CONFIG says; some strategies have two names."""
    assert POOLING_CODES == {
        "NONE": 0,
        "REDUCE_MAX": 1,
        "REDUCE_MEAN": 2,
        "REDUCE_MEAN_MAX": 3,
        "FIRST_TOKEN": 4,
        "CLS_TOKEN": 4,
        "LAST_TOKEN": 5,
        "SEP_TOKEN": 5,
        "CLS_POOLED": 6,
        # 1.10 has no heads
        "CLASSIFICATION": 7,
        "REGRESSION": 8,
    }


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ("-max_seq_len 3", ["-max_seq_len", "NONE or a whole number above 3", "'3'"]),
        ("-max_seq_len long", ["-max_seq_len", "'long'"]),
        ("-pooling_strategy MEAN", ["-pooling_strategy", "MEAN", "REDUCE_MEAN"]),
        ("-pooling_layer last", ["-pooling_layer", "last"]),
        ("-port 0", ["-port", "1 to 65535", "'0'"]),
        ("-port 65536", ["-port", "'65536'"]),
        ("-port_out http", ["-port_out", "'http'"]),
        ("-num_worker 0", ["-num_worker", "'0'"]),
        ("-num_worker -1", ["-num_worker", "'-1'"]),
        ("-max_batch_size 0", ["-max_batch_size", "'0'"]),
        ("-priority_batch_size x", ["-priority_batch_size", "'x'"]),
        ("-prefetch_size -1", ["-prefetch_size", "'-1'"]),
        ("-device_map 0 -1", ["-device_map", "'-1'"]),
        ("-gpu_memory_fraction 0", ["-gpu_memory_fraction", "'0'"]),
        ("-gpu_memory_fraction 1.5", ["-gpu_memory_fraction", "'1.5'"]),
        ("-gpu_memory_fraction nan", ["-gpu_memory_fraction", "'nan'"]),
        ("-normalize maybe", ["-normalize", "'maybe'"]),
        ("-engine torch", ["-engine", "torch", "onnxruntime", "tensorflow"]),
        ("-precision fp64", ["-precision", "fp64", "bf16"]),
        ("-num_labels 0", ["-num_labels", "'0'"]),
        ("-num_wokrer 2", ["-num_wokrer"]),
    ],
)
def test_a_bad_value_is_named(
    words: str, messages: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(*words.split())
    assert stop.value.code == 2
    said = capsys.readouterr().err
    for message in messages:
        assert message in said


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-version", "--version"):
        with pytest.raises(SystemExit) as stop:
            parse(flag)
        assert stop.value.code == 0
        assert capsys.readouterr().out.startswith("bert-serving-start ")


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("-h")
    said = capsys.readouterr().out
    assert not [flag for flag, _, _, _ in FLAGS if flag not in said]


def test_shutdown_flags() -> None:
    parser = get_shutdown_parser()
    args = parser.parse_args(["-port", "5555"])
    assert (args.ip, args.port, args.timeout) == ("localhost", 5555, 5000)
    args = parser.parse_args(["--port-in", "7", "--ip", "::1", "-timeout", "10"])
    assert (args.ip, args.port, args.timeout) == ("::1", 7, 10)


def test_shutdown_needs_a_port(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        get_shutdown_parser().parse_args([])
    assert stop.value.code == 2
    assert "-port" in capsys.readouterr().err


def test_1_10_programs_find_the_parsers_in_helper() -> None:
    assert helper.get_args_parser is get_args_parser
    assert helper.get_shutdown_parser is get_shutdown_parser


def test_values_are_plain_ones() -> None:
    """What SHOW_CONFIG tells must be JSON; AUTO is resolved before."""
    values = {name: value for name, value in vars(parse()).items() if value is not AUTO}
    assert json.loads(json.dumps(values)) == values
