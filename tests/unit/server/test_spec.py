from __future__ import annotations

import json
from dataclasses import replace

from bert_serving.server.spec import Endpoints, EngineSpec, HttpSpec, PoolingSpec, ServiceSpec
from bert_serving.server.tokenization import TokenizerSettings

SPEC = ServiceSpec(
    host="127.0.0.1",
    port=5555,
    port_out=5556,
    num_worker=3,
    devices=(0, 1, -1),
    credits=2,
    max_batch_size=256,
    token_budget=1024,
    padding_weight=0.15,
    priority_batch_size=16,
    max_queue_rows=1000,
    max_queue_bytes=10**6,
    show_tokens=True,
    vocabulary="/modèle/vocab.txt",
    tokenizer=TokenizerSettings(25, lowercase=False, strip_accents=True, final_sigma=True),
    fixed_length=True,
    engine=EngineSpec(
        "tensorflow", "/graph.pb", 768, False, 4, 0.5, xla=True, layers_order={"options": {}}
    ),
    pooling=PoolingSpec("REDUCE_MEAN", (-2, -1), True, True, 12, True),
    model="modèle",
    config={"max_seq_len": None, "pooling_layer": [-2]},
    verbose=False,
    use_color=True,
    drain_timeout=7.5,
    model_fingerprint="0123456789abcdef",
)


def test_a_spec_travels_as_json() -> None:
    assert ServiceSpec.from_json(SPEC.to_json()) == SPEC
    served = replace(SPEC, http=HttpSpec(8125, 10, "*", 1 << 20, 4096, 60.0))
    assert ServiceSpec.from_json(served.to_json()) == served
    assert isinstance(json.loads(SPEC.to_json()), dict)


def test_what_is_not_set_travels_too() -> None:
    engine = EngineSpec("echo", None, 768, True, 1, 0.5)
    spec = replace(SPEC, vocabulary=None, engine=engine, tokenizer=TokenizerSettings(512))
    assert ServiceSpec.from_json(spec.to_json()) == spec


def test_devices_are_named_for_people() -> None:
    assert SPEC.labels == ["GPU 0", "GPU 1", "CPU"]


def test_endpoints_are_sockets_in_one_directory() -> None:
    endpoints = Endpoints.inside("/run/service")
    assert endpoints.control == "ipc:///run/service/control"
    names = {endpoints.control, endpoints.workers, endpoints.results, endpoints.events}
    assert len(names) == 4
    assert all(name.startswith("ipc:///run/service/") for name in names)
