"""The command, with a server that answers what the test wants."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest

from bert_serving.client.bulk import cli, job
from bert_serving.client.bulk.arguments import encode_options, parse
from bert_serving.client.bulk.errors import UsageError
from bert_serving.client.bulk.files import Paths
from bert_serving.client.bulk.parquet_input import ParquetSource
from bert_serving.client.bulk.service import ServerEncoder
from bert_serving.client.bulk.state import load
from bert_serving.client.frames import parse_texts

Command = Callable[..., int]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("".join("text %d\n" % number for number in range(10)), "utf-8")
    return path


@pytest.fixture
def encode(server: Any, source: Path, tmp_path: Path) -> Command:
    """Runs the command on ``source``; returns the exit status."""

    def run(*words: str, out: str = "out.npy", **options: Any) -> int:
        ports = ["--port", str(server.port), "--port_out", str(server.port_out)]
        timeout = ["--ip", "127.0.0.1", "--timeout", "10000", "--batch-size", "4"]
        path = str(options.get("source", source))
        return cli.main([path, "-o", str(tmp_path / out), *ports, *timeout, *words])

    return run


def failing_at(server: Any, text: str, make_error: Callable[..., Any]) -> Callable[..., Any]:
    """Answers as ever, but with an error for requests with ``text`` in them."""
    answer = server.script.texts

    def answer_or_fail(request: Any) -> Any:
        if text in parse_texts(request)[0]:
            return [make_error(request)]
        return answer(request)

    return answer_or_fail


def test_vectors_of_all_rows(
    encode: Command, server: Any, vectors: Any, tmp_path: Path, capsys: Any
) -> None:
    assert encode() == 0
    expected = vectors(["text %d" % number for number in range(10)])
    assert np.array_equal(np.load(str(tmp_path / "out.npy")), expected)
    assert [len(texts) for texts in server.texts] == [1, 4, 4, 2]
    captured = capsys.readouterr()
    assert "out.npy: 10 rows" in captured.err
    assert captured.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.npy"]


def test_quiet(encode: Command, capsys: Any) -> None:
    assert encode("--quiet") == 0
    assert capsys.readouterr().err == ""


def test_an_output_that_is_there(encode: Command, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out.npy").write_bytes(b"mine")
    assert encode() == 2
    assert "out.npy exists: replace it by --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out.npy").read_bytes() == b"mine"
    assert encode("--overwrite") == 0
    assert np.load(str(tmp_path / "out.npy")).shape == (10, 2)


def test_zeros_for_blank_rows(encode: Command, source: Path, tmp_path: Path, capsys: Any) -> None:
    source.write_text("a\nb\nc\nd\n\nf\n", "utf-8")
    assert encode() == 1
    errors = capsys.readouterr().err
    assert "error: line 5 is blank: ''" in errors
    assert "out.npy.partial: the same command goes on" in errors
    assert encode("--blank", "zero") == 0
    assert "going on behind row 4" in capsys.readouterr().err
    found = np.load(str(tmp_path / "out.npy"))
    assert (found == 0).all(axis=1).tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--blank", "error", "--dtype", "float16"], "--dtype was float32 and is float16"),
        (["--column", "a"], "--column was not given and is a"),
        (["--input_format", "csv"], "--input_format was txt and is csv"),
    ],
)
def test_other_options_than_before(
    encode: Command, source: Path, tmp_path: Path, capsys: Any, words: List[str], message: str
) -> None:
    source.write_text("a\nb\nc\nd\n\nf\n", "utf-8")
    assert encode() == 1
    before = (tmp_path / "out.npy.progress").read_bytes()
    capsys.readouterr()
    assert encode(*words) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "--restart" in errors
    assert (tmp_path / "out.npy.progress").read_bytes() == before


def test_another_input_or_model(
    encode: Command, server: Any, answer: Any, source: Path, tmp_path: Path, capsys: Any
) -> None:
    source.write_text("a\nb\nc\nd\n\nf\n", "utf-8")
    assert encode() == 1
    server.script.config.update(model="another", model_fingerprint="f" * 16)
    server.script.texts = lambda request: [answer(request, model="f" * 16)]
    assert encode("--blank", "zero") == 2
    assert "the server's model was not given and is another" in capsys.readouterr().err
    source.write_text("a\nb\nc\nd\ne\nf\n", "utf-8")
    assert encode() == 2
    assert "the input has changed since" in capsys.readouterr().err
    assert encode("--restart") == 0
    assert np.load(str(tmp_path / "out.npy")).shape == (6, 2)


def test_the_same_model_elsewhere(
    encode: Command, server: Any, source: Path, tmp_path: Path, capsys: Any
) -> None:
    source.write_text("a\nb\nc\nd\n\nf\n", "utf-8")
    assert encode() == 1
    server.script.config.update(model="other", model_dir="/elsewhere", engine="tensorflow")
    assert encode("--blank", "zero") == 0
    assert "going on behind row 4" in capsys.readouterr().err
    assert np.load(str(tmp_path / "out.npy")).shape == (6, 2)


def test_the_model_changes_under_way(
    encode: Command, server: Any, answer: Any, vectors: Any, tmp_path: Path, capsys: Any
) -> None:
    old, new = server.script.config["model_fingerprint"], "f" * 16
    normal = server.script.texts
    server.script.texts = lambda request: [
        answer(request, model=new if b"text 9" in request.payload else old)
    ]
    assert encode("--window", "1") == 1
    errors = capsys.readouterr().err
    assert "model changed during the run: its fingerprint was %s and is %s" % (old, new) in errors
    state = load(Paths(tmp_path / "out.npy").progress)
    assert state is not None
    assert state.rows == 8
    server.script.config["model_fingerprint"] = new
    server.script.texts = lambda request: [answer(request, model=new)]
    assert encode() == 2
    errors = capsys.readouterr().err
    assert "the server's model_fingerprint was %s and is %s" % (old, new) in errors
    assert "--restart" in errors
    server.script.config["model_fingerprint"] = old
    server.script.texts = normal
    assert encode() == 0
    expected = vectors(["text %d" % number for number in range(10)])
    assert np.array_equal(np.load(str(tmp_path / "out.npy")), expected)


def test_a_failed_request_names_its_lines(
    encode: Command, server: Any, tmp_path: Path, capsys: Any, failure: Any
) -> None:
    answer = server.script.texts
    server.script.texts = failing_at(server, "text 9", failure)
    assert encode("--window", "1") == 1
    errors = capsys.readouterr().err
    assert "error: lines 9 to 10 failed: WorkerFailed: the engine broke" in errors
    assert "the same command goes on from there" in errors
    state = load(Paths(tmp_path / "out.npy").progress)
    assert state is not None
    assert state.rows == 8
    server.script.texts = answer
    assert encode("--restart", "--blank", "zero", out="other.npy") == 0
    assert encode() == 0
    results = [(tmp_path / name).read_bytes() for name in ("out.npy", "other.npy")]
    assert results[0] == results[1]


def test_a_request_that_is_refused_at_once(
    encode: Command, server: Any, tmp_path: Path, capsys: Any, refusal: Any
) -> None:
    server.script.texts = lambda request: [refusal(request)]
    assert encode() == 2
    assert "error: BadRequest: not so" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_vectors_of_tokens_are_refused(
    encode: Command, server: Any, tmp_path: Path, capsys: Any, token_vectors: Any
) -> None:
    server.script.texts = lambda request: [token_vectors(request)]
    assert encode() == 2
    assert "a vector for every token (pooling strategy NONE)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_no_server(source: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["--ip", "127.0.0.1", "--port", "1", "--port_out", "1", "--timeout", "50"]
    assert cli.main([str(source), "-o", str(tmp_path / "out.npy"), *words]) == 1
    assert "error: RequestTimeout: no answer" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_an_empty_input(encode: Command, source: Path, tmp_path: Path) -> None:
    source.write_bytes(b"")
    assert encode() == 0
    assert np.load(str(tmp_path / "out.npy")).shape == (0, 2)


def test_the_input_changes_under_way(
    encode: Command, server: Any, source: Path, tmp_path: Path, capsys: Any
) -> None:
    answer = server.script.texts

    def change(request: Any) -> Any:
        if "text 9" in parse_texts(request)[0]:
            source.write_bytes(source.read_bytes() + b"more\n")
        return answer(request)

    server.script.texts = change
    assert encode() == 1
    assert "in.txt was changed while it was read" in capsys.readouterr().err
    assert not (tmp_path / "out.npy").exists()


def test_ended_before_it_was_cleaned_up(
    encode: Command, server: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Paths) -> None:
        raise KeyboardInterrupt

    for out in ("out.npy", "out.npz"):
        with monkeypatch.context() as patch:
            patch.setattr(Paths, "clean_up", interrupt)
            assert encode(out=out) == 130
        before = (tmp_path / out).read_bytes()
        asked = len(server.texts)
        capsys.readouterr()
        assert encode(out=out) == 0
        assert (tmp_path / out).read_bytes() == before
        assert len(server.texts) == asked
    assert "wrote" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.npy", "out.npz"]


def test_a_complete_run_whose_files_are_gone(
    encode: Command, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Paths, "clean_up", lambda self: None)
    assert encode() == 0
    (tmp_path / "out.npy").unlink()
    assert encode() == 2
    assert "neither it nor" in capsys.readouterr().err


@pytest.mark.parametrize("is_begun", [True, False])
def test_another_process_finishes_it_before_this_one_has_the_files(
    is_begun: bool,
    encode: Command,
    server: Any,
    failure: Any,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if is_begun:
        with monkeypatch.context() as patch:
            patch.setattr(server.script, "texts", failing_at(server, "text 9", failure))
            assert encode() == 1
    opened = job.open_output

    def open_late(*args: Any) -> Any:
        monkeypatch.setattr(job, "open_output", opened)
        assert encode() == 0
        return opened(*args)

    monkeypatch.setattr(job, "open_output", open_late)
    capsys.readouterr()
    assert encode() == 2
    said = "another process has written" if is_begun else "out.npy exists: replace it"
    assert said in capsys.readouterr().err
    assert np.load(str(tmp_path / "out.npy")).shape == (10, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.npy"]


def test_a_partial_output_of_unknown_origin(encode: Command, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out.npy.partial").write_bytes(b"whose?")
    assert encode() == 2
    assert "move it away, or begin anew by --restart" in capsys.readouterr().err
    (tmp_path / "out.npy.partial").write_bytes(b"")
    assert encode() == 0


def test_ctrl_c(
    encode: Command, server: Any, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    receive = ServerEncoder.receive
    received: List[Any] = []

    def interrupted(self: Any) -> Any:
        if len(received) == 3:  # the first was to learn the dimension
            raise KeyboardInterrupt
        received.append(receive(self))
        return received[-1]

    with monkeypatch.context() as patch:
        patch.setattr(ServerEncoder, "receive", interrupted)
        assert encode("--restart") == 130
    errors = capsys.readouterr().err
    assert "interrupted" in errors
    assert "the same command, without --restart, goes on from there" in errors
    assert encode() == 0
    assert "going on behind row 8" in capsys.readouterr().err
    assert np.load(str(tmp_path / "out.npy")).shape == (10, 2)


def test_kept_texts(encode: Command, tmp_path: Path) -> None:
    assert encode("--keep", out="out.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["text %d" % number for number in range(10)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in.txt", "-o", "out.npy", "--keep"], "--keep is for parquet and jsonl"),
        (["in.txt", "-o", "out.npy", "--", "-engine", "echo"], "add --start"),
        (["in.txt", "-o", "out.npy", "--start", "--port", "5"], "--port is for a server that runs"),
        (["in.txt", "-o", "out.npy", "--pooling-strategy", "none"], "gives no single vector"),
        (["in.txt", "-o", "out.txt"], "must end in .npy"),
        (["in.doc", "-o", "out.npy"], "can't be told from its name"),
        (["none.txt", "-o", "out.npy"], "can't read none.txt"),
        (["in.txt", "-o", "none/out.npy"], "the directory none doesn't exist"),
        (["in.txt", "-o", "directory.npy"], "directory.npy is a directory"),
        (["in.jsonl", "-o", "in.jsonl", "--overwrite"], "both input and output"),
    ],
)
def test_what_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: List[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in.txt", "in.jsonl"):
        (tmp_path / name).write_text("a\n", "utf-8")
    (tmp_path / "directory.npy").mkdir()
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


def test_what_the_server_is_told() -> None:
    required = ["in.txt", "-o", "out.npy"]
    assert encode_options(parse(required)) == {}
    words = ["--pooling_strategy", "cls_token", "--pooling-layer", "-1", "-2", "-normalize"]
    words += ["--truncate", "error", "--dtype", "float16"]
    assert encode_options(parse(required + words)) == {
        "pooling_strategy": "CLS_TOKEN",
        "pooling_layer": [-1, -2],
        "normalize": True,
        "truncate": False,
        "dtype": "float16",
    }
    assert parse([*required, "--start", "--", "-num_worker", "2"]).server_words == [
        "-num_worker",
        "2",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["--batch_size", "0"],
        ["--delimiter", "ab"],
        ["--delimiter", '"'],
        ["--checkpoint-seconds", "-1"],
        ["--checkpoint-seconds", "nan"],
        ["--blank", "skip"],
    ],
)
def test_wrong_values(words: List[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["in.txt", "-o", "out.npy", *words])
    assert end.value.code == 2
    assert words[0].replace("_", "-")[:8] in capsys.readouterr().err.replace("_", "-")


def test_packages_that_are_missing(
    tmp_path: Path, source: Path, encode: Command, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert encode(out="out.parquet") == 2
    assert "pip install 'bert-serving[encode]'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="pyarrow is needed to read Parquet"):
        ParquetSource(source, None)


def test_the_command_needs_no_more_than_the_client() -> None:
    code = "import sys, bert_serving.client.bulk.cli; print('\\n'.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout.split()
    assert "bert_serving.client.bulk.service" in loaded
    for name in ("pyarrow", "tqdm", "bert_serving.server", "bert_serving.graph_opt"):
        assert name not in loaded
