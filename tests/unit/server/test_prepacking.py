from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.targets import write
from bert_serving.server.engines import Features, create, prepacking
from bert_serving.server.engines.onnxruntime import SLOWER_ON_CPUS
from bert_serving.server.engines.prepacking import prepacked_path
from bert_serving.server.errors import EngineError
from bert_serving.server.spec import EngineSpec

WIDTH = 64

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def spec(tmp_path: Path) -> EngineSpec:
    """A graph that multiplies a row of a table for each token by a matrix, and sums rows."""
    random = np.random.RandomState(0)
    builder = GraphBuilder()
    ids = builder.placeholder("input_ids", "int32", (None, None))
    axis = builder.constant(0, "int32", "axis")
    table = builder.constant(random.rand(9, WIDTH), "float32", "table")
    words = builder.op("GatherV2", (table, ids, axis), batch_dims=0)
    matrix = builder.constant(random.rand(WIDTH, WIDTH), "float32", "matrix")
    flat = builder.op("Reshape", (words, builder.constant([-1, WIDTH], "int32")))
    product = builder.op("MatMul", (flat, matrix), transpose_a=False, transpose_b=False)
    path = tmp_path / "model.onnx"
    write(builder.build(builder.op("Identity", (product,), "final_encodes")), path, "onnx")
    return EngineSpec("onnxruntime", str(path), WIDTH, False, 1, 0.5)


def vectors(spec: EngineSpec) -> np.ndarray:
    engine = create("onnxruntime")
    engine.load(spec, -1)
    try:
        tokens = np.array([[1, 2, 3], [0, 0, 0], [1, 1, 1]], np.int32)
        return engine.encode(Features(tokens, np.array([3], np.int32)))
    finally:
        engine.close()


def test_a_graph_in_the_engine_s_own_form_gives_the_same(spec: EngineSpec) -> None:
    graph = Path(str(spec.graph))
    fitted = create("onnxruntime").fitted(spec, -1)
    assert fitted == prepacked_path(graph, SLOWER_ON_CPUS)
    assert fitted.with_name(fitted.name + ".data").stat().st_size >= 2 * WIDTH * WIDTH * 4
    np.testing.assert_allclose(vectors(replace(spec, graph=str(fitted))), vectors(spec), rtol=1e-5)
    assert not list(graph.parent.glob(".*")), "nothing half made is left"


def test_it_is_made_once(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = create("onnxruntime").fitted(spec, -1)
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    assert create("onnxruntime").fitted(spec, -1) == fitted


def test_on_a_gpu_the_graph_stays_as_it_is(spec: EngineSpec) -> None:
    assert create("onnxruntime").fitted(spec, 0) == Path(str(spec.graph))


def test_an_old_release_takes_the_graph_as_it_is(
    spec: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.20.1")
    assert create("onnxruntime").fitted(spec, -1) == Path(str(spec.graph))


def test_it_is_that_of_one_machine_and_release(
    spec: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Path(str(spec.graph))
    here = prepacked_path(graph, SLOWER_ON_CPUS)
    assert here == prepacked_path(graph, SLOWER_ON_CPUS)
    monkeypatch.setattr(prepacking, "processor", lambda: ("another",))
    assert prepacked_path(graph, SLOWER_ON_CPUS) != here
    monkeypatch.undo()
    monkeypatch.setattr(prepacking, "release", lambda package: ("onnxruntime-9",))
    assert prepacked_path(graph, SLOWER_ON_CPUS) != here


def test_another_process_was_faster(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    target = prepacked_path(Path(str(spec.graph)), SLOWER_ON_CPUS)
    session = onnxruntime.InferenceSession

    def slow(*args: Any, **kwargs: Any) -> Any:
        made = session(*args, **kwargs)
        target.parent.mkdir()
        target.write_bytes(b"the other's")
        return made

    monkeypatch.setattr(onnxruntime, "InferenceSession", slow)
    assert create("onnxruntime").fitted(spec, -1) == target
    assert target.read_bytes() == b"the other's"
    assert sorted(os.listdir(str(target.parent.parent))) == ["model.onnx", target.parent.name]


def test_a_graph_that_cannot_be_loaded_is_named(spec: EngineSpec) -> None:
    Path(str(spec.graph)).write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match=r"can't write the graph .*model\.onnx in its own form"):
        create("onnxruntime").fitted(spec, -1)
    assert os.listdir(str(Path(str(spec.graph)).parent)) == ["model.onnx"]


# --------------------------------------------------------------------------------- streams


@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (2, 2), (3, 3), (20, 8)])
def test_a_graph_whose_weights_are_shared_has_streams(
    threads: int, streams: int, spec: EngineSpec
) -> None:
    several = replace(spec, threads=threads)
    engine = create("onnxruntime")
    assert engine.most_streams(several, -1) == 1, "each session would have weights of its own"
    fitted = replace(several, graph=str(engine.fitted(several, -1)))
    assert engine.most_streams(fitted, -1) == streams
    assert engine.most_streams(fitted, 0) == 1, "on a GPU"


@pytest.mark.parametrize(("threads", "streams"), [(2, 1), (2, 2), (4, 2)])
def test_streams_give_the_same_at_the_same_time(
    threads: int, streams: int, spec: EngineSpec
) -> None:
    engine = create("onnxruntime")
    graph = str(engine.fitted(spec, -1))
    engine.load(replace(spec, graph=graph, threads=threads, streams=streams), -1)
    random = np.random.RandomState(1)
    batches = [Features(random.randint(0, 9, (3, n)), np.array([n])) for n in range(1, 50)]
    expected = [engine.encode(batch) for batch in batches]
    with ThreadPoolExecutor(streams) as pool:
        found = list(pool.map(lambda batch: engine.encode(batch, is_alone=False), batches))
    engine.close()
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5)
