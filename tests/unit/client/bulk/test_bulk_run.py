"""The core, from an input file to the output's bytes, interrupted anywhere."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Iterator, List, Optional, Type

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_serving.client.bulk.errors import BulkError, OutputError
from bert_serving.client.bulk.files import Paths
from bert_serving.client.bulk.inputs import fingerprint, input_format, open_source
from bert_serving.client.bulk.outputs import open_output, output_format
from bert_serving.client.bulk.pipeline import Encoder, Result, in_order
from bert_serving.client.bulk.rows import batches
from bert_serving.client.bulk.run import Run
from bert_serving.client.bulk.state import State, load

DIMENSION = 5
#: Odd numbers, so that ends of batches, row groups and blocks of reading don't coincide.
ROWS = 61


class Mortal(Encoder):
    """Ends with ``error`` instead of the result number ``life``; answers the latest first."""

    def __init__(self, life: Optional[int], error: Type[BaseException]) -> None:
        self._life = life
        self._error = error
        self._waiting: List[Any] = []
        self._count = itertools.count()
        self.answered = 0

    def submit(self, texts: List[str]) -> int:
        self._waiting.append((next(self._count), texts))
        return int(self._waiting[-1][0])

    def receive(self) -> Result:
        if self.answered == self._life:
            raise self._error("the end")
        self.answered += 1
        number, texts = self._waiting.pop()
        vectors = [np.full(DIMENSION, len(text) + ord(text[0]) / 7, "f4") for text in texts]
        return Result(number, np.stack(vectors), 0)


def run(
    source_path: Path,
    out: Path,
    life: Optional[int] = None,
    error: Type[BaseException] = BulkError,
    interval: float = 0.0,
    size: int = 7,
) -> int:
    """As the command does it; returns how many batches were asked for."""
    paths = Paths(out)
    state = load(paths.progress) or State(fingerprint(source_path), {}, {"dimension": DIMENSION})
    encoder = Mortal(life, error)
    source = open_source(source_path, input_format(source_path, None), None, ",")
    clock = itertools.count()
    keep = out.suffix in (".jsonl", ".parquet")
    with closing(source), closing(
        open_output(paths, output_format(out), "float32", keep)
    ) as output:
        one = Run(paths, output, state, interval, lambda: next(clock))
        one.begin()
        parts = batches(source, state.position, size, "zero")
        one.write(in_order(parts, encoder, 3, DIMENSION), lambda state: None)
        one.finish()
    return encoder.answered


@pytest.fixture(scope="module", autouse=True)
def _without_waiting_for_the_disk() -> Iterator[None]:
    """No machine loses its power here, and thousands of commits take minutes on some disks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", params=["txt", "jsonl", "csv", "parquet"])
def source_path(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    path = Path(tmp_path_factory.mktemp("in") / ("in." + request.param))
    texts = ["text %d ä" % number if number % 11 else " " for number in range(ROWS)]
    if request.param == "txt":
        path.write_text("\r\n".join(texts), "utf-8")
    elif request.param == "jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    elif request.param == "csv":
        lines = ['"x\ny","%s"\n' % text for text in texts]
        path.write_text("a,text\n" + "".join(lines), "utf-8")
    else:
        arrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet as parquet

        parquet.write_table(arrow.table({"text": texts}), str(path), row_group_size=10)
    return path


@pytest.fixture(scope="module", params=["npy", "npz", "jsonl", "parquet"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return str(request.param)


#: OutputError stands for an end without another commit, as by SIGKILL or a full disk.
ENDS = st.sampled_from([BulkError, KeyboardInterrupt, OutputError])


@settings(max_examples=10)  # for each of 16 pairs of formats
@given(
    st.lists(st.tuples(st.integers(0, 6), ENDS, st.sampled_from([0.0, 2.0, 5.0])), max_size=5),
    st.integers(1, 9),
)
def test_interrupted_anywhere(source_path: Path, kind: str, ends: List[Any], size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole, out = Path(name) / ("whole." + kind), Path(name) / ("out." + kind)
        run(source_path, whole, size=size)
        for life, error, interval in ends:
            try:
                run(source_path, out, life, error, interval, size)
            except (BulkError, KeyboardInterrupt):
                assert not out.exists()
            else:
                break
        else:
            run(source_path, out, size=size)
        assert out.read_bytes() == whole.read_bytes()
        assert {path.name for path in Path(name).iterdir()} == {whole.name, out.name}


def test_what_is_done_is_not_done_again(source_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    with pytest.raises(KeyboardInterrupt):
        run(source_path, out, 4, KeyboardInterrupt, interval=1e9)
    done = load(Paths(out).progress)
    assert done is not None
    # Of four answers, the latest first and three at a time, two were in order: the first stood
    # behind two others.
    assert done.rows in (14, 21)
    assert run(source_path, out) == 9 - done.rows // 7
    assert np.load(str(out)).shape == (ROWS, DIMENSION)


def test_what_is_not_committed_is_cut(source_path: Path, kind: str, tmp_path: Path) -> None:
    whole, out = tmp_path / ("whole." + kind), tmp_path / ("out." + kind)
    run(source_path, whole)
    with pytest.raises(OutputError):
        run(source_path, out, 7, OutputError, interval=1e9)
    state = load(Paths(out).progress)
    assert state is not None
    assert state.rows == 0
    with Paths(out).partial.open("ab") as file:
        file.write(b"half a batch")
    run(source_path, out)
    assert out.read_bytes() == whole.read_bytes()


def test_interrupted_at_the_end(
    source_path: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / ("whole." + kind), tmp_path / ("out." + kind)
    run(source_path, whole)
    with monkeypatch.context() as patch:
        patch.setattr(Paths, "clean_up", lambda self: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run(source_path, out)
    state = load(Paths(out).progress)
    assert state is not None
    assert state.complete
    assert out.read_bytes() == whole.read_bytes()
    if Paths(out).partial.exists():
        run(source_path, out, life=0)
        assert out.read_bytes() == whole.read_bytes()
