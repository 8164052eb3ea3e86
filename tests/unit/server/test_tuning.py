from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from support import PATIENCE

from bert_serving.server import engines, tuning
from bert_serving.server.calibration import SPLITS
from bert_serving.server.engines import Engine, Features
from bert_serving.server.pooling import HiddenStates
from bert_serving.server.spec import EngineSpec
from bert_serving.server.tuning import Tuning, is_worth_it, lookup, tune


class FakeEngine(Engine):
    """Remembers what it is asked; it has a form of the graph of its own."""

    def __init__(self) -> None:
        self.loaded: List[Any] = []
        self.batches: List[Features] = []
        self.alone: List[bool] = []
        self.is_closed = False
        self.streams = 1

    def fitted(self, spec: EngineSpec, device: int) -> Path:
        own = Path(str(spec.graph)).with_name("own")
        own.write_bytes(b"own form")
        return own

    def most_streams(self, spec: EngineSpec, device: int) -> int:
        assert str(spec.graph).endswith("own"), "not asked for the form that is loaded"
        return self.streams

    def load(self, spec: EngineSpec, device: int) -> None:
        self.loaded.append((spec.graph, spec.streams, device))

    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        self.batches.append(features)
        self.alone.append(is_alone)
        return np.zeros((features.rows, 1))

    def hidden_states(self, *_: Any, **__: Any) -> HiddenStates:
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"graph")
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()
    monkeypatch.setattr(engines, "create", lambda name: made)
    monkeypatch.setattr(tuning, "measure", one_of_each)
    return made


def one_of_each(run: Any, tried: Any, clocks: Any, seconds: float = 0.0) -> Any:
    """No time is measured; two streams are twice as fast as one."""
    for shape in tried:
        run(shape)
    return {shape: [(0.001 * shape.tokens,) * len(clocks)] for shape in tried}


def spec_of(graph: Path, **changes: Any) -> EngineSpec:
    return replace(EngineSpec("onnxruntime", str(graph), 8, False, 2, 0.5), **changes)


@pytest.mark.parametrize(("device", "budgets"), [(-1, tuning.CPU_BUDGETS), (0, tuning.GPU_BUDGETS)])
def test_a_graph_is_tuned_once(
    device: int, budgets: Any, graph: Path, engine: FakeEngine, tmp_path: Path
) -> None:
    spec = spec_of(graph)
    assert lookup(spec, device, 512) is None
    found = tune(spec, device, 512)
    own = str(tmp_path / "own")
    assert (found.graph, found.token_budget) == (own, budgets[0])
    assert (found.streams, found.split_tokens) == (1, 0)
    assert [shape for *shape, _ in found.seconds] == [[1, tokens] for tokens in budgets]
    assert engine.loaded == [(own, 1, device)]
    assert engine.is_closed
    assert [batch.tokens.shape[1] for batch in engine.batches] == list(budgets)
    assert {length for batch in engine.batches for length in batch.lengths} == {32}
    assert lookup(spec, device, 512) == found


def test_streams_are_measured_where_there_can_be_some(graph: Path, engine: FakeEngine) -> None:
    engine.streams = 2
    found = tune(spec_of(graph), -1, 512)
    assert (found.token_budget, found.streams) == (tuning.CPU_BUDGETS[0], 2)
    assert found.split_tokens == SPLITS[0]
    assert engine.loaded[0][1:] == (2, -1)
    count = len(tuning.CPU_BUDGETS)
    tried = set(tuning.shapes(tuning.CPU_BUDGETS, 2)) | set(tuning.splits(2))
    assert {(streams, tokens) for streams, tokens, _ in found.seconds} == tried
    assert engine.alone[: 3 * count] == [True] * count + [False] * 2 * count
    assert engine.alone[3 * count :] == [False, False, True] * len(SPLITS)
    assert lookup(spec_of(graph), -1, 512) == found


def test_rows_are_no_longer_than_the_model_takes(graph: Path, engine: FakeEngine) -> None:
    tune(spec_of(graph), -1, 25)
    assert {length for batch in engine.batches for length in batch.lengths} == {25}


def test_another_setting_is_measured_anew(
    graph: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(spec_of(graph), -1, 512)
    assert lookup(spec_of(graph), -1, 40) is not None, "rows of as many tokens were measured"
    assert lookup(spec_of(graph, threads=1), -1, 512) is None
    assert lookup(spec_of(graph, xla=True), -1, 512) is None
    assert lookup(spec_of(graph), 0, 512) is None
    assert lookup(spec_of(graph), -1, 25) is None
    monkeypatch.setattr(tuning, "release", lambda package: ("%s-0.0" % package,))
    assert lookup(spec_of(graph), -1, 512) is None
    monkeypatch.undo()
    monkeypatch.setattr(tuning, "processor", lambda: ("another",))
    assert lookup(spec_of(graph), -1, 512) is None


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{}",
        "[]",
        '{"graph": 1}',
        '{"graph": "", "token_budget": 0, "streams": 1, "split_tokens": 0, "seconds": []}',
        '{"graph": "", "token_budget": 9, "streams": 0, "split_tokens": 0, "seconds": []}',
    ],
)
def test_what_is_damaged_is_measured_anew(damage: str, graph: Path, engine: FakeEngine) -> None:
    tune(spec_of(graph), -1, 512)
    (path,) = graph.parent.glob("tuning-*.json")
    path.write_text(damage)
    assert lookup(spec_of(graph), -1, 512) is None


def test_a_form_that_is_gone_is_made_anew(graph: Path, engine: FakeEngine, tmp_path: Path) -> None:
    tune(spec_of(graph), -1, 512)
    (tmp_path / "own").unlink()
    assert lookup(spec_of(graph), -1, 512) is None


def test_small_graphs_are_not_worth_it(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_worth_it(graph)
    monkeypatch.setattr(tuning, "LEAST_BYTES", 7)
    assert not is_worth_it(graph)
    graph.with_name(graph.name + ".data").write_bytes(b"..")
    assert is_worth_it(graph), "with its weights in a second file"


def test_a_tuning_travels_as_json() -> None:
    one = Tuning("/graph", 512, 2, 64, ((1, 256, 0.5), (2, 512, 0.75)))
    assert Tuning.from_json(json.loads(json.dumps(asdict(one)))) == one


def test_the_process_says_what_went_wrong(graph: Path) -> None:
    order = {"engine": asdict(spec_of(graph, name="tensorflow")), "device": -1, "max_length": 8}
    environment = dict(os.environ, PYTHONPATH=str(graph.parent))
    (graph.parent / "tensorflow.py").write_text("raise ImportError('none here')")
    done = subprocess.run(
        [sys.executable, "-m", "bert_serving.server.tune"],
        input=json.dumps(order).encode("utf-8"),
        capture_output=True,
        env=environment,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert "tensorflow is not installed (none here)" in json.loads(done.stdout.decode())["error"]
