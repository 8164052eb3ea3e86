from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.targets import write
from bert_serving.server.engines import Features, create
from bert_serving.server.engines.tensorflow import TensorFlowEngine
from bert_serving.server.errors import EngineError
from bert_serving.server.spec import EngineSpec

pytestmark = pytest.mark.usefixtures("own_environment")


def write_graph(path: Path, used: List[str]) -> Path:
    """A graph that looks the sum of some of the inputs up in a table of 5 numbers, 10 and so on."""
    builder = GraphBuilder()
    total = builder.constant(0, "int32")
    for name in used:
        total = builder.op("AddV2", (total, builder.placeholder(name, "int32", (None, None))))
    table = builder.constant(np.arange(10, 15), "float32", "table")
    axis = builder.constant(0, "int32", "axis")
    rows = builder.op("GatherV2", (table, total, axis), batch_dims=0)
    write(builder.build(builder.op("Identity", (rows,), "final_encodes")), path, "pb")
    return path


def spec_of(path: Path, xla: bool = False) -> EngineSpec:
    return EngineSpec("tensorflow", str(path), 3, False, 1, 0.5, xla)


def features_of(ids: List[List[int]]) -> Features:
    flat = np.array([one for row in ids for one in row], np.int32)
    lengths = np.array([len(row) for row in ids], np.int32)
    return Features(np.stack([flat, flat * 0 + 1, flat * 0]), lengths)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (["input_ids"], [[10, 11, 12]]),
        (["input_type_ids", "input_ids"], [[11, 12, 13]]),
        (["input_mask"], [[10, 10, 10]]),
    ],
)
def test_a_graph_gets_the_inputs_that_it_has(
    used: List[str], expected: List[List[int]], tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    engine = create("tensorflow")
    engine.load(spec_of(write_graph(tmp_path / "model.pb", used)), -1)
    try:
        vectors = engine.encode(features_of([[0, 1, 2]]))
        assert vectors.dtype == np.float32
        assert vectors.tolist() == expected
    finally:
        engine.close()
    engine.close()  # is of no harm


def test_what_fails_in_a_batch_is_an_error_and_the_next_batch_works(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    engine = create("tensorflow")
    engine.load(spec_of(write_graph(tmp_path / "model.pb", ["input_ids"])), -1)
    try:
        with pytest.raises(EngineError, match=r"TensorFlow failed: .*\b9 is not in \[0, 5\)"):
            engine.encode(features_of([[0, 9]]))
        assert engine.encode(features_of([[4]])).tolist() == [[14]]
    finally:
        engine.close()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def renamed(content: bytes) -> bytes:
    return content.replace(b"final_encodes", b"other_encodes")


def foreign(content: bytes) -> bytes:
    return content.replace(b"GatherV2", b"GatherV9")


@pytest.mark.parametrize("damage", [cut, renamed, foreign, lambda content: b""])
def test_a_graph_that_cannot_be_loaded_is_named(damage: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    path = write_graph(tmp_path / "model.pb", ["input_ids"])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EngineError, match=r"can't load .*model\.pb: .*remove its directory"):
        create("tensorflow").load(spec_of(path), -1)
    path.unlink()
    with pytest.raises(EngineError, match=r"can't load .*model\.pb: .*No such file"):
        create("tensorflow").load(spec_of(path), -1)


def test_a_gpu_that_cannot_be_used(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    path = write_graph(tmp_path / "model.pb", ["input_ids"])
    engine = create("tensorflow")
    try:
        # There is none of this number on any machine.
        with pytest.raises(EngineError, match=r"can't use GPU 999; check .*CUDA.* or use -cpu"):
            engine.load(spec_of(path), 999)
    finally:
        engine.close()


def test_an_engine_that_is_not_installed_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(EngineError, match=r"not installed .*pip install 'bert-serving\[tensorfl"):
        create("tensorflow").load(spec_of(tmp_path), -1)


def test_releases_that_do_not_fit_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    (tmp_path / "tensorflow.py").write_text("raise TypeError('Descriptors cannot be created')")
    monkeypatch.syspath_prepend(str(tmp_path))
    message = r"can't be imported: TypeError: Descriptors .*pip install 'bert-serving\[tensorflow"
    with pytest.raises(EngineError, match=message):
        create("tensorflow").load(spec_of(tmp_path), -1)


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [(-1, None, "-1"), (-1, "0,1", "-1"), (2, None, "2"), (1, "3,GPU-8", "GPU-8")],
)
def test_only_one_device_is_seen(
    device: int, visible: Any, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(EngineError):
        TensorFlowEngine().load(spec_of(tmp_path), device)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
    # The GPUs were counted in this order, unless the user named them in CUDA's own.
    assert os.environ.get("CUDA_DEVICE_ORDER") == (None if visible else "PCI_BUS_ID")


PROGRAM = """
import json, sys
import numpy as np
from bert_serving.server.engines import Features, create
from bert_serving.server.spec import EngineSpec
engine = create("tensorflow")
engine.load(EngineSpec("tensorflow", sys.argv[1], 3, False, 1, 0.5, xla=True), -1)
ids = np.array([[0, 1, 2]], np.int32)
for _ in range(2):
    vectors = engine.encode(Features(np.concatenate([ids, ids, ids]), np.array([3])))
engine.close()
json.dump(vectors.tolist(), sys.stdout)
"""


def test_nothing_is_said_and_xla_computes_the_same(tmp_path: Path) -> None:
    """In a process of its own, for TensorFlow greets when it is imported first."""
    pytest.importorskip("tensorflow")
    path = write_graph(tmp_path / "model.pb", ["input_ids", "input_mask"])
    environment = {name: value for name, value in os.environ.items() if name[:3] != "TF_"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[[10.0, 12.0, 14.0]]"


FAILING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from bert_serving.server.engines import create
from bert_serving.server.spec import EngineSpec
try:
    create("tensorflow").load(EngineSpec("tensorflow", "model.pb", 3, False, 1, 0.5), -1)
finally:
    os.write(2, b"after\\n")
"""


def test_what_libraries_said_before_a_failure_is_shown(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("import os; os.write(2, b'no CUDA\\n'); 1 / 0")
    done = subprocess.run(
        [sys.executable, "-c", FAILING, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines()[:2] == ["no CUDA", "after"]
    assert "EngineError: TensorFlow can't be imported: ZeroDivisionError" in done.stderr


def test_settings_are_those_of_the_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    seen = []
    session = tensorflow.compat.v1.Session

    def remember(graph: Any, config: Any) -> Any:
        seen.append(config)
        return session(graph=graph, config=config)

    monkeypatch.setattr(tensorflow.compat.v1, "Session", remember)
    path = write_graph(tmp_path / "model.pb", ["input_ids"])
    for xla in (False, True):
        engine = create("tensorflow")
        engine.load(EngineSpec("tensorflow", str(path), 3, False, 7, 0.25, xla), -1)
        engine.close()
    plain, compiled = seen
    assert plain.intra_op_parallelism_threads == 7
    assert plain.inter_op_parallelism_threads == 1
    assert plain.gpu_options.per_process_gpu_memory_fraction == 0.25
    assert dict(plain.device_count) == {"GPU": 0}
    levels = [one.graph_options.optimizer_options.global_jit_level for one in seen]
    assert levels == [0, 1]
    assert compiled.intra_op_parallelism_threads == 7


def test_a_batch_as_the_worker_pads_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    engine = create("tensorflow")
    engine.load(spec_of(write_graph(tmp_path / "model.pb", ["input_ids"])), -1)
    try:
        assert engine.encode(features_of([[1], [2, 3]])).tolist() == [[11, 10], [12, 13]]
    finally:
        engine.close()
