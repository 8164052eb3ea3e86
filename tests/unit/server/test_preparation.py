from __future__ import annotations

import argparse
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
from support import port_flags

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import ModelSource
from bert_serving.server import engines, preparation, tuning
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.devices import Gpu, cpu_threads
from bert_serving.server.errors import StartupError
from bert_serving.server.preparation import CPU_TOKENS, GPU_TOKENS, prepare
from bert_serving.server.spec import EngineSpec, PoolingSpec, ServiceSpec
from bert_serving.server.tuning import Tuning

HF_TINY = Path(__file__).parents[2] / "golden" / "hf" / "hf-tiny"


def parse(*flags: str) -> argparse.Namespace:
    """Flags on free ports, unless they name some themselves."""
    return get_args_parser().parse_args(port_flags() + list(flags))


def prepare_echo(*flags: str) -> ServiceSpec:
    return prepare(parse("-engine", "echo", *flags))


# ------------------------------------------------------------------------------ the service


def test_a_service_without_a_model() -> None:
    args = parse("-engine", "echo", "-num_worker", "2", "-gpu_memory_fraction", "0.25")
    spec = prepare(args)
    assert (spec.host, spec.port, spec.port_out) == ("127.0.0.1", args.port, args.port_out)
    assert spec.num_worker == 2
    assert spec.devices == (-1, -1)
    assert (spec.model, spec.vocabulary) == ("echo", None)
    engine = spec.engine
    assert (engine.name, engine.graph, engine.dimension) == ("echo", None, 768)
    assert (engine.per_token, engine.gpu_memory_fraction) == (False, 0.25)
    assert engine.threads == cpu_threads(2)
    assert spec.config["num_worker"] == 2
    assert ServiceSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("flags", "credits"), [("", 2), ("-prefetch_size 0", 1), ("-prefetch_size 9", 10)]
)
def test_batches_that_a_worker_holds(flags: str, credits: int) -> None:
    assert prepare_echo(*flags.split()).credits == credits


def test_what_is_passed_on_as_it_was_named() -> None:
    flags = "-max_batch_size 64 -priority_batch_size 3 -show_tokens_to_client -verbose "
    flags += "-pooling_strategy NONE -max_seq_len 12"
    spec = prepare_echo(*flags.split())
    assert (spec.max_batch_size, spec.priority_batch_size) == (64, 3)
    assert spec.show_tokens
    assert spec.verbose
    assert spec.fixed_length
    assert spec.engine.per_token
    assert spec.tokenizer.max_length == 12
    default = prepare_echo()
    assert not default.show_tokens
    assert not default.verbose
    assert not default.fixed_length


def test_a_model_that_echo_takes_its_tokens_from() -> None:
    spec = prepare_echo("-model_dir", str(HF_TINY))
    assert spec.model == str(HF_TINY)
    assert spec.vocabulary == str(HF_TINY / "vocab.txt")
    assert (spec.engine.graph, spec.engine.dimension) == (None, 64)
    assert spec.tokenizer.max_length == 64


def test_flags_without_effect_are_told(log: Any) -> None:
    prepare_echo("-xla", "-http_timeout", "5")
    told = log.text
    assert "warning: -xla has no effect" in told
    assert "warning: -http_timeout has no effect" in told


@pytest.mark.parametrize(
    ("flags", "is_told"),
    [
        ("-mask_cls_sep -pooling_strategy LAST_TOKEN", True),
        ("-mask_cls_sep -pooling_strategy SEP_TOKEN", True),
        ("-mask_cls_sep", False),
        ("-pooling_strategy LAST_TOKEN", False),
    ],
)
def test_a_last_token_that_is_masked_is_told(flags: str, is_told: bool, log: Any) -> None:
    prepare_echo(*flags.split())
    assert ("is the last token that is not masked" in log.text) is is_told


# ------------------------------------------------------------------------------- devices

GPUS = [Gpu(0, 0.5), Gpu(1, 0.9)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this machine one with these GPUs."""

    def make(gpus: List[Gpu], has_cuda: bool) -> None:
        monkeypatch.setattr(preparation, "list_gpus", lambda: gpus)
        monkeypatch.setattr(preparation, "cuda_is_installed", lambda engine: has_cuda)

    return make


@pytest.mark.parametrize(
    ("gpus", "has_cuda", "flags", "devices"),
    [
        ([], False, "", (-1, -1)),
        (GPUS, True, "", (1, 0)),
        (GPUS, True, "-device_map 0", (0, 0)),
        (GPUS, True, "-cpu", (-1, -1)),
    ],
)
def test_devices(
    gpus: List[Gpu],
    has_cuda: bool,
    flags: str,
    devices: Tuple[int, ...],
    machine: Callable[..., None],
    log: Any,
) -> None:
    machine(gpus, has_cuda)
    args = parse("-num_worker", "2", *flags.split())
    assert preparation._devices(args, "onnxruntime") == devices
    assert log.text == ""


def test_a_gpu_that_is_not_used_is_told(machine: Callable[..., None], log: Any) -> None:
    machine(GPUS, has_cuda=False)
    assert preparation._devices(parse(), "onnxruntime") == (-1,)
    assert "pip install onnxruntime-gpu (or use -cpu)" in log.text
    assert preparation._devices(parse(), "tensorflow") == (-1,)
    assert "the TensorFlow here is the one for CPUs: pip uninstall tensorflow-cpu" in log.text
    preparation._devices(parse("-cpu"), "onnxruntime")
    assert log.text == "", "who asked for the CPU isn't told"


def test_echo_needs_no_device(machine: Callable[..., None]) -> None:
    machine(GPUS, has_cuda=True)
    assert preparation._devices(parse("-num_worker", "3"), "echo") == (-1, -1, -1)


# --------------------------------------------------------------------------------- batches


@pytest.fixture
def large_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineSpec:
    """An engine whose graph is large enough for batches to be measured."""
    (tmp_path / "model.onnx").write_bytes(b"graph")
    monkeypatch.setattr(tuning, "LEAST_BYTES", 1)
    return EngineSpec("onnxruntime", str(tmp_path / "model.onnx"), 8, False, 2, 0.5)


@pytest.mark.parametrize(("device", "tokens"), [(-1, CPU_TOKENS), (0, GPU_TOKENS)])
def test_batches_of_small_graphs_are_not_measured(
    device: int, tokens: int, tmp_path: Path, log: Any
) -> None:
    (tmp_path / "graph").write_bytes(b"small")
    small = EngineSpec("onnxruntime", str(tmp_path / "graph"), 8, False, 2, 0.5)
    assert preparation._tuning(small, device, 512) == Tuning(small.graph, tokens)
    nothing = replace(small, graph=None)
    assert preparation._tuning(nothing, device, 512) == Tuning(None, preparation.ECHO_TOKENS)
    assert log.text == ""


def test_batches_are_measured_by_a_process_of_their_own(
    large_graph: EngineSpec, program: Callable[[str], None], log: Any
) -> None:
    program(
        "import json, sys\n"
        "order = json.load(sys.stdin)\n"
        "keys = sorted(order['engine']), order['device'], order['max_length']\n"
        "json.dump({'graph': repr(keys), 'token_budget': 384, 'streams': 2, 'split_tokens': 64,"
        " 'seconds': [[2, 384, 0.5]]}, sys.stdout)"
    )
    keys = sorted(asdict(large_graph)), -1, 512
    expected = Tuning(repr(keys), 384, 2, 64, ((2, 384, 0.5),))
    assert preparation._tuning(large_graph, -1, 512) == expected
    assert "info: batches: about 384 tokens each, 2 at a time, measured (" in log.text


def test_what_was_measured_before_is_taken(
    large_graph: EngineSpec, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    found = Tuning("/own/form", 768)
    monkeypatch.setattr(tuning, "lookup", lambda spec, device, max_length: found)
    assert preparation._tuning(large_graph, -1, 512) is found
    assert "info: batches: about 768 tokens each, cached (" in log.text


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            'print(\'{"error": "the engine is broken"}\'); raise SystemExit(1)',
            r"^the engine is broken$",
        ),
        ("raise SystemExit(7)", "ended with status 7; is there enough memory to run"),
    ],
)
def test_an_engine_that_cannot_be_measured(
    code: str, message: str, large_graph: EngineSpec, program: Callable[[str], None]
) -> None:
    program(code)
    with pytest.raises(StartupError, match=message):
        preparation._tuning(large_graph, -1, 512)


@pytest.mark.parametrize(("flags", "credits"), [((), 6), (("-prefetch_size", "0"), 3)])
def test_a_service_runs_what_was_tuned(flags: Tuple[str, ...], credits: int) -> None:
    args = parse("-engine", "echo", "-num_worker", "2", *flags)
    plan = preparation.plan_echo(args)
    engine = EngineSpec("onnxruntime", "/graph", 8, False, 3, 0.5)
    fitted = Tuning("/own/form", 384, streams=3, split_tokens=64)
    spec = preparation._spec(args, plan, "m", None, engine, fitted, 0.5, (-1, -1), {})
    assert (spec.token_budget, spec.padding_weight, spec.credits) == (384, 0.5, credits)
    assert spec.engine == replace(engine, graph="/own/form", streams=3, split_tokens=64)


# ---------------------------------------------------------------------- what may be missing


def source_with_vocabulary(path: Path, tokens: int) -> ModelSource:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + ["word%d" % number for number in range(tokens - len(special))]
    path.write_text("".join(word + "\n" for word in words))
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    return ModelSource("google", path.parent, config, path, {}, ())


def test_a_vocabulary_of_another_model(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    preparation._check_vocabulary(source_with_vocabulary(path, 20))
    with pytest.raises(StartupError) as raised:
        preparation._check_vocabulary(source_with_vocabulary(path, 21))
    assert "%s has 21 tokens, but the model has embeddings for 20" % path in str(raised.value)


# ------------------------------------------------------------------------------- the graph


def test_the_newest_checkpoint_is_told(log: Any) -> None:
    directory = HF_TINY.parents[1] / "tf1-tiny" / "classifier"
    spec = prepare_echo("-model_dir", str(directory))
    assert spec.engine.dimension == 40
    assert "model: %s, the newest checkpoint, model.ckpt-7" % directory in log.text
    prepare_echo("-model_dir", str(directory), "-ckpt_name", "model.ckpt-7")
    assert "newest" not in log.text


def test_the_engine_s_own_kind_of_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []

    def optimize(order: Dict[str, Any]) -> Path:
        orders.append(order)
        return tmp_path / "graph"

    monkeypatch.setattr(preparation, "make_graph", optimize)
    monkeypatch.setattr(engines, "choose", lambda name: name)
    flags = ["-model_dir", str(HF_TINY), "-cpu", "-graph_tmp_dir", str(tmp_path)]
    for engine in ("onnxruntime", "tensorflow"):
        spec = prepare(parse("-engine", engine, "-precision", "fp16", "-xla", *flags))
        assert (spec.engine.name, spec.engine.graph) == (engine, str(tmp_path / "graph"))
        assert spec.engine.xla
        chosen = [spec.config[name] for name in ("engine", "precision", "fp16")]
        assert chosen == [engine, "fp16", True]
    assert [order["form"] for order in orders] == [
        {"target": "onnx", "precision": "fp16", "device": "cpu", "packed": True},
        {"target": "pb", "precision": "fp16", "device": "cpu", "packed": True},
    ]


def test_the_graph_for_other_poolings_is_ordered_but_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = []

    def optimize(order: Dict[str, Any]) -> Path:
        orders.append(order)
        return tmp_path / "graph"

    monkeypatch.setattr(preparation, "make_graph", optimize)
    monkeypatch.setattr(engines, "choose", lambda name: name)
    flags = ["-model_dir", str(HF_TINY), "-cpu", "-graph_tmp_dir", str(tmp_path)]
    flags += ["-engine", "onnxruntime", "-pooling_layer", "1", "-no_position_embeddings"]
    spec = prepare(parse(*flags))
    assert spec.pooling == PoolingSpec("REDUCE_MEAN", (1,), False, False, 4, True)
    (own,) = orders
    every_layer = GraphOptions(every_layer=True, position_embeddings=False)
    order = dict(spec.engine.layers_order or {})
    assert len(order.pop("entry")) == 64, "it names the files as they were"
    assert order == dict(own, options=asdict(every_layer))
    assert ServiceSpec.from_json(spec.to_json()).engine.layers_order is not None
    fixed = prepare(parse(*flags, "-fixed_pooling"))
    assert fixed.engine.layers_order is None
    assert fixed.pooling.fixed
    assert fixed.config["fixed_pooling"] is True


def test_a_graph_is_made_once(tmp_path: Path, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    flags = ["-model_dir", str(HF_TINY), "-cpu", "-graph_tmp_dir", str(tmp_path / "graphs")]
    spec = prepare(parse(*flags))
    assert spec.engine.name == "onnxruntime"
    assert spec.engine.dimension == 64
    assert spec.token_budget == CPU_TOKENS
    graph = Path(str(spec.engine.graph))
    assert graph.is_file()
    assert tmp_path / "graphs" in graph.parents
    assert log.wait_for("info: graph: ").startswith("info: graph: optimized (")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert prepare(parse(*flags)).engine == spec.engine
    assert log.wait_for("info: model: ").startswith("info: model: %s (" % HF_TINY)
    assert log.wait_for("info: graph: ").startswith("info: graph: cached (")
