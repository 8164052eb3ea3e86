from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

import pytest
from support import PATIENCE

from bert_serving.graph_opt import cache
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import read_model
from bert_serving.server import optimize
from bert_serving.server.engines.prepacking import is_prepacked
from bert_serving.server.spec import EngineSpec

GOOGLE = Path(__file__).parents[2] / "golden" / "tf1-tiny" / "model"
MEAN = {"pooling_strategy": "REDUCE_MEAN", "pooling_layers": [-2]}


@pytest.fixture(autouse=True)
def _signals_are_left_as_they_were() -> Iterator[None]:
    # Ignored until main() sees to it, or a test of that could end all tests.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def fake_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract isn't a matter of the format; this one needs no package."""

    def write(graph: Any, directory: Path, target: str) -> Tuple[Path, ...]:
        path = directory / cache.MODEL_FILES[target]
        path.write_bytes(b"%d nodes" % len(graph))
        return (path,)

    monkeypatch.setattr(cache, "_write_target", write)


@pytest.fixture
def give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Tuple[int, Dict[str, Any]]]:
    """Gives main() an order; returns the exit status and the answer."""

    def give(**changes: Any) -> Tuple[int, Dict[str, Any]]:
        order = {
            "model_dir": str(GOOGLE),
            "config_name": "bert_config.json",
            "ckpt_name": "bert_model.ckpt",
            "tuned_model_dir": None,
            "options": MEAN,
            "form": {"target": "onnx", "precision": "fp32", "device": "cpu"},
            "directory": str(tmp_path / "cache"),
        }
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(dict(order, **changes))))
        status = optimize.main()
        answer = json.loads(capsys.readouterr().out)
        assert isinstance(answer, dict)
        return status, answer

    return give


@pytest.mark.usefixtures("fake_target")
def test_the_answer_is_the_path_of_a_graph_that_is_found_from_then_on(
    give: Callable[..., Any], tmp_path: Path
) -> None:
    status, answer = give()
    assert status == 0
    assert list(answer) == ["path"]
    options = GraphOptions("REDUCE_MEAN", (-2,))
    found = cache.lookup(read_model(GOOGLE), options, directory=tmp_path / "cache")
    assert found is not None, "it is made under another key than it is looked for"
    assert str(found.path) == answer["path"]
    assert found.path.is_file()


@pytest.mark.usefixtures("fake_target")
def test_what_is_in_the_cache_is_not_made_again(
    give: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, answer = give()
    monkeypatch.setattr(cache, "optimize", None)
    assert give() == (0, answer)


@pytest.mark.usefixtures("fake_target")
def test_a_graph_of_every_layer_is_another_one(give: Callable[..., Any]) -> None:
    _, answer = give()
    status, other = give(options=dict(MEAN, every_layer=True))
    assert status == 0
    assert other["path"] != answer["path"]


@pytest.mark.usefixtures("fake_target")
def test_a_graph_of_files_that_have_changed_is_not_made(
    give: Callable[..., Any], tmp_path: Path
) -> None:
    """It would be another model's than the one that serves."""
    model = tmp_path / "model"
    shutil.copytree(str(GOOGLE), str(model))
    options, form = GraphOptions("REDUCE_MEAN", (-2,)), cache.Form("onnx", "fp32", "cpu")
    entry = cache.entry_directory(read_model(model), options, form, tmp_path / "cache").name
    assert give(model_dir=str(model), entry=entry)[0] == 0
    weights = model / "bert_model.ckpt.data-00000-of-00001"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    status, answer = give(model_dir=str(model), entry=entry)
    assert status == 1
    assert str(model) in answer["error"]
    assert "bert-serving-reload" in answer["error"]


def test_a_graph_in_the_form_for_this_machine(give: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime", minversion="1.21")
    fit = {"engine": asdict(EngineSpec("onnxruntime", None, 40, False, 1, 0.5)), "device": -1}
    status, answer = give(fit=fit)
    assert status == 0
    assert is_prepacked(Path(answer["path"]))
    assert give(fit=fit) == (0, answer)
    for path in tmp_path.glob("cache/graphs/*/*"):
        if path.is_dir():
            shutil.rmtree(str(path))
        elif path.name == "model.onnx":
            path.write_bytes(b"x" * path.stat().st_size)
    status, answer = give(fit=fit)
    assert status == 1
    assert "can't write the graph" in answer["error"]


def test_a_graph_in_its_real_format(give: Callable[..., Any]) -> None:
    onnx = pytest.importorskip("onnx")
    status, answer = give()
    assert status == 0
    onnx.checker.check_model(answer["path"])


def test_the_form_counts(give: Callable[..., Any]) -> None:
    status, answer = give(form={"target": "pb", "precision": "fp32", "device": "gpu"})
    assert status == 0
    assert Path(answer["path"]).name == "model.pb"
    status, answer = give(form={"target": "pb", "precision": "fp7", "device": "cpu"})
    assert status == 1
    assert "precision 'fp7' isn't one of" in answer["error"]


@pytest.mark.usefixtures("fake_target")
def test_without_a_directory_it_is_the_user_s_cache(
    give: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_SERVING_CACHE", str(tmp_path / "user"))
    _, answer = give(directory=None)
    assert tmp_path / "user" in Path(answer["path"]).parents


@pytest.mark.usefixtures("fake_target")
def test_a_tuned_checkpoint_counts(give: Callable[..., Any], tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    for path in GOOGLE.glob("bert_model.ckpt.*"):
        shutil.copy(str(path), str(tuned / path.name.replace("bert_model", "tuned")))
    status, answer = give(tuned_model_dir=str(tuned), ckpt_name="tuned.ckpt")
    assert status == 0, answer
    status, answer = give(ckpt_name="tuned.ckpt")
    assert status == 1
    assert "tuned.ckpt" in answer["error"]


@pytest.mark.parametrize(
    ("changes", "mention"),
    [
        ({"config_name": "absent.json"}, "absent.json"),
        ({"ckpt_name": "absent.ckpt"}, "absent.ckpt"),
        ({"options": {"pooling_strategy": "REDUCE_MEAN", "pooling_layers": [7]}}, "layer 7"),
    ],
)
def test_an_error_for_the_user_is_an_answer(
    changes: Dict[str, Any], mention: str, give: Callable[..., Any], tmp_path: Path
) -> None:
    status, answer = give(**changes)
    assert status == 1
    assert list(answer) == ["error"]
    assert mention in answer["error"]


def test_a_damaged_model_is_an_error_for_the_user(give: Callable[..., Any], tmp_path: Path) -> None:
    model = Path(shutil.copytree(str(GOOGLE), str(tmp_path / "model")))
    index = model / "bert_model.ckpt.index"
    index.write_bytes(index.read_bytes()[:50])
    status, answer = give(model_dir=str(model))
    assert status == 1
    assert str(index) in answer["error"]


def test_an_end_from_outside_leaves_nothing_half_written(
    give: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(graph: Any, directory: Path, target: str) -> None:
        (directory / "half").write_bytes(b"written")
        written.append(directory)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)
        threading.Event().wait(PATIENCE)  # the signal ends it
        raise AssertionError("the signal didn't end it")

    monkeypatch.setattr(cache, "_write_target", write)
    with pytest.raises(SystemExit) as end:
        give()
    assert end.value.code == 128 + signal.SIGTERM
    assert len(written) == 1
    assert os.listdir(str(tmp_path / "cache" / "graphs")) == []
