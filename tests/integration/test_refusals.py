"""What keeps the service from starting: a message that names the thing and the way out, exit
status 2, no traceback, and no process left (which a fixture checks)."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import pytest
from support import PATIENCE, command, environment, port_flags, run_start

from bert_serving.server.helper import get_args_parser
from bert_serving.server.preparation import prepare

Damage = Callable[[Path], None]


@pytest.fixture
def google(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(str(golden / "tf1-tiny" / "model"), str(tmp_path / "google")))


@pytest.fixture
def huggingface(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(str(golden / "hf" / "hf-tiny"), str(tmp_path / "huggingface")))


def refused(flags: List[str], tmp_path: Path, *mentions: str, **changes: str) -> None:
    changes.setdefault("BERT_SERVING_CACHE", str(tmp_path / "cache"))
    ports = [] if "-port" in flags else port_flags()
    run = run_start(*(flags + ports), **changes)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    last = run.stderr.strip().splitlines()[-1]
    assert "error: " in last
    for mention in mentions:
        assert mention in last


FLAGS: Dict[str, Tuple[List[str], Tuple[str, ...]]] = {
    "unknown flag": (["-num_workers_", "2"], ("-num_workers_",)),
    "unknown strategy": (["-pooling_strategy", "MEDIAN"], ("MEDIAN", "REDUCE_MEAN")),
    "no worker": (["-num_worker", "0"], ("num_worker", "0")),
    "short sequences": (["-max_seq_len", "3"], ("max_seq_len", "3")),
    "sequences in words": (["-max_seq_len", "many"], ("max_seq_len", "many")),
    "a port too high": (["-port", "70000"], ("port", "70000")),
    "a share too large": (["-gpu_memory_fraction", "1.5"], ("gpu_memory_fraction", "1.5")),
    "an unknown engine": (["-engine", "torch"], ("torch", "onnxruntime")),
    "no such directory": (["-model_dir", "./not/there"], ("./not/there", "doesn't exist")),
    "a file": (["-model_dir", __file__], (__file__, "is a file")),
    "an id on a hub that can't be reached": (
        ["-model_dir", "nobody/no-model"],
        ("nobody/no-model", "hub"),
    ),
    "an address that is not ours": (["-engine", "echo", "-host", "192.0.2.1"], ("192.0.2.1",)),
    "a GPU that isn't there": (["-device_map", "97"], ("97", "-cpu")),
}


@pytest.mark.parametrize("case", sorted(FLAGS))
def test_flags(case: str, tmp_path: Path) -> None:
    flags, mentions = FLAGS[case]
    refused(flags, tmp_path, *mentions, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))


@pytest.mark.parametrize("which", ["-port", "-port_out"])
def test_a_port_in_use(which: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        flags = port_flags()
        flags[flags.index(which) + 1] = str(taken.getsockname()[1])
        number = str(taken.getsockname()[1])
        refused(["-engine", "echo"] + flags, tmp_path, number, which, "in use")


def test_one_port_for_both(tmp_path: Path) -> None:
    refused(["-engine", "echo", "-port", "7777", "-port_out", "7777"], tmp_path, "7777")


def truncate(name: str, keep: float = 0.5) -> Damage:
    def damage(directory: Path) -> None:
        path = directory / name
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])

    return damage


def remove(name: str) -> Damage:
    return lambda directory: (directory / name).unlink()


def write(name: str, content: str) -> Damage:
    def damage(directory: Path) -> None:
        (directory / name).write_text(content)

    return damage


def edit_json(name: str, **changes: object) -> Damage:
    def damage(directory: Path) -> None:
        path = directory / name
        path.write_text(json.dumps(dict(json.loads(path.read_text()), **changes)))

    return damage


DATA = "bert_model.ckpt.data-00000-of-00001"
GOOGLE: Dict[str, Tuple[Damage, Tuple[str, ...]]] = {
    "config missing": (remove("bert_config.json"), ("bert_config.json",)),
    "config empty": (write("bert_config.json", ""), ("bert_config.json",)),
    "config no JSON": (write("bert_config.json", "{"), ("bert_config.json", "JSON")),
    "config without a key": (
        write("bert_config.json", '{"vocab_size": 220}'),
        ("bert_config.json", "hidden_size"),
    ),
    "config of another model": (
        edit_json("bert_config.json", intermediate_size=96),
        ("intermediate", "96"),
    ),
    "config with more layers": (edit_json("bert_config.json", num_hidden_layers=5), ("layer_3",)),
    "vocabulary missing": (remove("vocab.txt"), ("vocab.txt",)),
    "vocabulary empty": (write("vocab.txt", ""), ("vocab.txt",)),
    "vocabulary of another model": (
        write("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n" + "x\n" * 300),
        ("vocab.txt", "303", "220"),
    ),
    "vocabulary of something else": (write("vocab.txt", "one\ntwo\n"), ("vocab.txt",)),
    "index missing": (remove("bert_model.ckpt.index"), ("bert_model.ckpt",)),
    "index empty": (write("bert_model.ckpt.index", ""), ("bert_model.ckpt.index",)),
    "index truncated": (truncate("bert_model.ckpt.index"), ("bert_model.ckpt.index",)),
    "data missing": (remove(DATA), (DATA,)),
    "data empty": (write(DATA, ""), (DATA,)),
    "data truncated": (truncate(DATA), (DATA,)),
}
HUGGINGFACE: Dict[str, Tuple[Damage, Tuple[str, ...]]] = {
    "config missing": (remove("config.json"), ("config.json",)),
    "config no JSON": (write("config.json", "nonsense"), ("config.json", "JSON")),
    "another kind of model": (edit_json("config.json", model_type="gpt2"), ("gpt2",)),
    "vocabulary missing": (remove("vocab.txt"), ("vocab.txt",)),
    "weights missing": (remove("model.safetensors"), ("model.safetensors",)),
    "weights empty": (write("model.safetensors", ""), ("model.safetensors",)),
    "weights truncated": (truncate("model.safetensors"), ("model.safetensors",)),
    "weights of another model": (edit_json("config.json", hidden_size=32), ("32",)),
}


needs_an_engine = pytest.mark.skipif(
    not any(importlib.util.find_spec(name) for name in ("onnxruntime", "tensorflow")),
    reason="no engine that needs a model is installed",
)


@needs_an_engine
@pytest.mark.parametrize("case", sorted(GOOGLE))
def test_google_directory(case: str, google: Path, tmp_path: Path) -> None:
    damage, mentions = GOOGLE[case]
    damage(google)
    refused(["-model_dir", str(google), "-cpu"], tmp_path, *mentions)


@needs_an_engine
@pytest.mark.parametrize("case", sorted(HUGGINGFACE))
def test_huggingface_directory(case: str, huggingface: Path, tmp_path: Path) -> None:
    damage, mentions = HUGGINGFACE[case]
    damage(huggingface)
    refused(["-model_dir", str(huggingface), "-cpu"], tmp_path, *mentions)


@needs_an_engine
def test_sequences_longer_than_the_model_allows(google: Path, tmp_path: Path) -> None:
    flags = ["-model_dir", str(google), "-max_seq_len", "81"]
    refused(flags, tmp_path, "81", "80", "max_seq_len")


@needs_an_engine
@pytest.mark.parametrize("layer", ["3", "-4"])
def test_a_layer_outside_the_model(layer: str, google: Path, tmp_path: Path) -> None:
    refused(["-model_dir", str(google), "-pooling_layer", layer], tmp_path, layer, "3 layers")


@needs_an_engine
def test_a_cache_that_cannot_be_written(google: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    flags = ["-model_dir", str(google)]
    refused(flags, tmp_path, "file", BERT_SERVING_CACHE=str(blocked / "cache"))


def test_an_engine_that_is_not_installed(google: Path, tmp_path: Path) -> None:
    """Another interpreter of the same version, without its packages but those named."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # A finder that comes first and knows of no onnxruntime.
    (hidden / "sitecustomize.py").write_text(
        "import importlib.machinery as m\n"
        "found = m.PathFinder.find_spec\n"
        "def find_spec(name, *rest):\n"
        "    return None if name.startswith('onnx') else found(name, *rest)\n"
        "m.PathFinder.find_spec = staticmethod(find_spec)\n"
    )
    flags = ["-model_dir", str(google), "-engine", "onnxruntime"]
    refused(flags, tmp_path, "onnxruntime", "pip install", PYTHONPATH=str(hidden))


@needs_an_engine
def test_a_damaged_graph_in_the_cache(
    google: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the size that it should have, so that only the engine notices."""
    monkeypatch.setenv("BERT_SERVING_CACHE", str(tmp_path / "cache"))
    flags = ["-model_dir", str(google), "-cpu"]
    graph = prepare(get_args_parser().parse_args(flags + port_flags())).engine.graph
    assert graph is not None
    Path(graph).write_bytes(b"\xff" * Path(graph).stat().st_size)
    refused(flags, tmp_path, "worker-0 can't start", graph, "remove its directory")


@needs_an_engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(number: int, google: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = subprocess.Popen(
        command("start") + ["-model_dir", str(google), "-cpu"] + port_flags(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env=environment(BERT_SERVING_CACHE=str(cache)),
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "model: " in first  # now the graph is being optimized
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert output == ""
    assert "Traceback" not in errors
    graphs = cache / "graphs"
    assert not graphs.exists() or not [path for path in graphs.iterdir() if path.name[0] == "."]
