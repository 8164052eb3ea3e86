from __future__ import annotations

import json
from typing import Any, Dict, Optional

from bert_serving.client import __version__
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.planning import plan_echo, reported_config
from bert_serving.server.spec import Endpoints, EngineSpec, ServiceSpec
from bert_serving.server.status import describe_service
from bert_serving.server.tokenization import TokenizerSettings

#: What a 1.10 server answers to SHOW_CONFIG, but for tensorflow_version and the flags.
KEYS_1_10 = {
    "client",
    "num_process",
    "ventilator -> worker",
    "worker -> sink",
    "ventilator <-> sink",
    "server_current_time",
    "device_map",
    "num_concurrent_socket",
    "python_version",
    "server_version",
    "pyzmq_version",
    "zmq_version",
    "server_start_time",
}
FLAGS_1_10 = {
    "model_dir",
    "tuned_model_dir",
    "ckpt_name",
    "config_name",
    "graph_tmp_dir",
    "max_seq_len",
    "do_lower_case",
    "pooling_layer",
    "pooling_strategy",
    "mask_cls_sep",
    "no_special_token",
    "show_tokens_to_client",
    "no_position_embeddings",
    "port",
    "port_out",
    "http_port",
    "http_max_connect",
    "cors",
    "num_worker",
    "max_batch_size",
    "priority_batch_size",
    "cpu",
    "xla",
    "fp16",
    "gpu_memory_fraction",
    "device_map",
    "prefetch_size",
    "fixed_embed_length",
    "verbose",
}


def describe(
    *flags: str, client: bytes = b"client", statistics: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    args = get_args_parser().parse_args(["-engine", "echo", *flags])
    plan = plan_echo(args)
    spec = ServiceSpec(
        host=args.host,
        port=args.port,
        port_out=args.port_out,
        num_worker=args.num_worker,
        devices=(-1,) * args.num_worker,
        credits=2,
        max_batch_size=args.max_batch_size,
        token_budget=1024,
        padding_weight=0.15,
        priority_batch_size=args.priority_batch_size,
        max_queue_rows=args.max_queue_rows,
        max_queue_bytes=args.max_queue_mb,
        show_tokens=args.show_tokens_to_client,
        vocabulary=None,
        tokenizer=TokenizerSettings(25),
        fixed_length=False,
        engine=EngineSpec("echo", None, 768, False, 1, 0.5),
        pooling=plan.pooling,
        model="echo",
        config=reported_config(args, plan),
        verbose=False,
        use_color=False,
        drain_timeout=30.0,
        model_fingerprint="0123456789abcdef",
    )
    answer = describe_service(spec, Endpoints.inside("/run/service"), client, statistics)
    described = json.loads(answer)
    assert isinstance(described, dict)
    return described


def test_1_10_keys_are_all_there() -> None:
    assert set(describe()) >= KEYS_1_10 | FLAGS_1_10


def test_the_version_is_the_one_that_1_10_clients_ask_for() -> None:
    described = describe()
    assert described["server_version"] == "1.10.0"
    assert described["bert_serving_version"] == __version__
    assert described["protocol"] == 2


def test_what_tells_the_model() -> None:
    described = describe()
    assert described["model"] == "echo"
    assert described["model_fingerprint"] == "0123456789abcdef"
    assert described["generation"] == 1


def test_values_are_in_1_10_s_form() -> None:
    described = describe("-num_worker", "2", "-max_seq_len", "30", "-pooling_strategy", "NONE")
    assert described["num_process"] == 4
    assert described["max_seq_len"] == 30
    assert described["pooling_strategy"] == 0
    assert described["pooling_layer"] == [-2]
    assert described["do_lower_case"] is True
    assert described["ventilator -> worker"] == ["ipc:///run/service/workers"]


def test_what_was_chosen_counts_rather_than_the_flag() -> None:
    """The flags say "auto" and "any"; whoever asks wants to know what became of that."""
    described = describe("-engine", "auto")
    assert described["engine"] == "echo"
    assert described["device_map"] == [-1]


def test_an_unlimited_sequence_is_null() -> None:
    assert describe("-max_seq_len", "NONE")["max_seq_len"] is None


def test_statistics_come_with_the_status_only() -> None:
    assert "statistic" not in describe()
    assert describe(statistics={"num_batch": 3})["statistic"] == {"num_batch": 3}


def test_an_identity_that_is_no_text_is_shown() -> None:
    assert describe(client=b"a\xff")["client"] == "a\\xff"
