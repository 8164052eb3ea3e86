"""bert-serving-encode as a process of its own, with a real server, ended in all ways."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import psutil
import pytest
from support import PATIENCE, client_of

from bert_serving.client.bulk.files import Paths
from bert_serving.server import BertServer

ENCODE = [sys.executable, "-m", "bert_serving.client.bulk.cli"]
ROWS = 3000
#: So that a test can interrupt it however late it comes to that.
SLOWLY = ["--batch_size", "16", "--window", "1", "--checkpoint-seconds", "0"]
#: Seconds between two looks at a file that another process writes.
TICK = 0.002


@pytest.fixture(scope="module")
def source(tmp_path_factory: Any) -> Path:
    path = Path(tmp_path_factory.mktemp("in") / "in.jsonl")
    with path.open("w", encoding="utf-8") as file:
        for row in range(ROWS):
            text = "text number %d of all" % row if row % 97 else ""
            file.write(json.dumps({"id": row, "text": text}) + "\n")
    return path


def command(source: Path, out: Path, server: BertServer, *words: str) -> List[str]:
    ports = ["--port", str(server.spec.port), "--port_out", str(server.spec.port_out)]
    # Small batches and a commit after each, so that there is much to interrupt.
    sizes = ["--batch_size", "64", "--window", "4", "--checkpoint_seconds", "0"]
    return [*ENCODE, str(source), "-o", str(out), *ports, *sizes, "--blank", "zero", *words]


def start(words: List[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, universal_newlines=True
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for the end; what it said."""
    try:
        return process.communicate(timeout=3 * PATIENCE)[1]
    except BaseException:
        process.kill()
        process.communicate()
        raise


def wait_until_written(process: "subprocess.Popen[str]", path: Path, size: int) -> bool:
    """Whether ``path`` grew to ``size`` before the process ended."""
    for _ in range(int(PATIENCE / TICK)):
        if path.exists() and path.stat().st_size >= size:
            return True
        try:
            process.wait(TICK)
        except subprocess.TimeoutExpired:
            continue
        return False
    raise AssertionError("waited in vain for %s to grow" % path)


@pytest.fixture(scope="module", params=["npy", "npz", "jsonl", "parquet"])
def whole(
    request: Any, source: Path, echo_server: BertServer, tmp_path_factory: Any
) -> Iterator[Path]:
    """The output of a run that nobody interrupted."""
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    out = Path(tmp_path_factory.mktemp("whole") / ("out." + request.param))
    process = start(command(source, out, echo_server))
    assert "wrote" in finish(process)
    assert process.returncode == 0
    yield out
    out.unlink()


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(
    whole: Path, source: Path, echo_server: BertServer, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    out = tmp_path / whole.name
    words = command(source, out, echo_server)
    partial = Paths(out).partial
    kills = 0
    while kills < 3:
        process = start(words + SLOWLY if kills == 0 else words)
        before = partial.stat().st_size if partial.exists() else 0
        is_running = wait_until_written(process, partial, before + chance.randrange(1, 2_500_000))
        if is_running:
            # A little later, at no moment in particular.
            try:
                process.wait(chance.uniform(0, 0.03))
            except subprocess.TimeoutExpired:
                process.kill()
        errors = finish(process)
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors
            break
        kills += 1
    else:
        process = start(words)
        errors = finish(process)
        assert process.returncode == 0, errors
        assert "going on behind row" in errors
    assert kills
    assert out.read_bytes() == whole.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(source: Path, echo_server: BertServer, tmp_path: Path, number: int) -> None:
    out = tmp_path / "out.npy"
    words = command(source, out, echo_server)
    process = start(words + SLOWLY)
    assert wait_until_written(process, Paths(out).partial, 1_000_000)
    process.send_signal(number)
    errors = finish(process)
    assert process.returncode == 130, errors
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    process = start(words)
    assert "going on behind row" in finish(process)
    assert process.returncode == 0
    with client_of(echo_server) as client:
        expected = client.encode(["text number 1 of all", "text number %d of all" % (ROWS - 1)])
    found = np.load(str(out), mmap_mode="r")
    assert found.shape == (ROWS, 768)
    assert np.array_equal(found[[1, -1]], expected)
    assert not found[0].any()


def test_a_server_of_its_own(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    words = [*ENCODE, str(source), "-o", str(out), "--blank", "zero"]
    server = ["--start", "--", "-engine", "echo"]
    process = start(words + SLOWLY + server)
    assert wait_until_written(process, Paths(out).partial, 100_000)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGINT)
    assert "interrupted" in finish(process)
    assert process.returncode == 130
    psutil.wait_procs(children, timeout=PATIENCE)
    assert not [child for child in children if child.is_running()]
    process = start(words + server)
    assert "going on behind row" in finish(process)
    assert process.returncode == 0
    assert np.load(str(out)).shape == (ROWS, 768)


def test_a_server_of_its_own_is_stopped_after_an_error(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a\n\n", "utf-8")
    words = [*ENCODE, str(source), "-o", str(tmp_path / "out.npy"), "--quiet"]
    process = start([*words, "--start", "--", "-engine", "echo"])
    errors = finish(process)
    assert process.returncode == 1
    assert errors.startswith("error: line 2 is blank")
    process = start([*words, "--restart", "--start", "--", "-engine", "echo", "-model_dir", "none"])
    assert "error: the server can't start" in finish(process)
    assert process.returncode == 2


def test_without_space(source: Path, echo_server: BertServer, tmp_path: Path) -> None:
    """A limit of the size of files stands for a disk that is full."""
    resource = pytest.importorskip("resource")
    out = tmp_path / "out.npy"
    words = command(source, out, echo_server)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))

    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, universal_newlines=True, preexec_fn=limit
    )
    errors = finish(process)
    assert process.returncode == 1
    assert "error: can't write %s: File too large" % Paths(out).partial in errors
    assert "the same command goes on from there" in errors
    process = start(words)
    assert "going on behind row" in finish(process)
    assert process.returncode == 0
    assert os.path.getsize(str(out)) == 128 + ROWS * 768 * 4
