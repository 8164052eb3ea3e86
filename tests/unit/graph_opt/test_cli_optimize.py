"""The command bert-serving-optimize, and the function below it."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from unit.graph_opt.support import CASES, GOOGLE, HUGGING_FACE, TOLERANCE, golden_case, options_of

from bert_serving.graph_opt import optimization, pipeline, targets
from bert_serving.graph_opt.arguments import get_optimize_parser
from bert_serving.graph_opt.cli import main, order_of
from bert_serving.graph_opt.errors import GraphOptError, OptionError
from bert_serving.graph_opt.optimization import optimize_model
from bert_serving.graph_opt.order import Order

CLASSIFIER = GOOGLE.parent / "classifier"
#: A target that can be written here: there is no onnx for Python 3.7.
TARGET = "onnx" if find_spec("onnx") else "pb"


@pytest.fixture
def output(tmp_path):
    return tmp_path / ("model." + TARGET)


def parsed(*flags):
    return order_of(get_optimize_parser().parse_args([str(flag) for flag in flags]))


def command(capsys, *flags):
    """Exit status, standard output and standard error."""
    pytest.importorskip("rich")
    status = main([str(flag) for flag in flags] + ["--target", TARGET])
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *flags):
    """The message of a run that can't be done as asked."""
    status, out, err = command(capsys, *flags)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


def names(directory):
    return sorted(path.name for path in directory.iterdir())


# Flags


def test_both_spellings_mean_the_same():
    old = "-pooling_strategy NONE -pooling_layer -1 -2 -normalize false -no_position_embeddings"
    new = "--pooling-strategy NONE --pooling-layer -1 -2 --normalize false --no-position-embeddings"
    orders = [parsed("m", "-o", "out", *flags.split()) for flags in (old, new)]
    assert orders[0] == orders[1]
    assert orders[0].pooling_layers == (-1, -2)
    assert orders[0].position_embeddings is False
    assert orders[0].normalize is False


def test_what_is_not_named_is_none():
    order = parsed("m", "-output", "out")
    assert order == Order(Path("m"), Path("out"))
    assert (order.target, order.precision, order.device, order.check) == (
        "onnx",
        "fp32",
        "cpu",
        True,
    )


def test_lists_of_names():
    order = parsed("m", "-o", "out", "--inputs", "a,b", "-outputs", "c:0")
    assert (order.inputs, order.outputs) == (("a", "b"), ("c:0",))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--inputs", "a,,b"], "must be names separated by commas"),
        (["--tolerance", "-1"], "must be from 0 to 1, but is '-1'"),
        (["--normalize", "maybe"], "must be true or false"),
        (["--num-labels", "0"], "must be a whole number from 1 on"),
        (["--target", "tflite"], "invalid choice: 'tflite'"),
        (["--precision", "int4"], "invalid choice: 'int4'"),
    ],
)
def test_wrong_values_are_named(capsys, flags, message):
    with pytest.raises(SystemExit) as ended:
        parsed("m", "-o", "out", *flags)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# What it makes


def test_the_function_gives_data(output):
    steps = []
    outcome = optimize_model(
        Order(GOOGLE, output, TARGET), lambda done, total, name: steps.append((done, total, name))
    )
    assert [file.path for file in outcome.files] == [output]
    assert outcome.files[0].nbytes == output.stat().st_size
    assert outcome.kind == "google"
    assert outcome.options.pooling_layers == (-2,)
    assert outcome.after.nodes < outcome.before.nodes
    assert outcome.before.inputs == outcome.after.inputs
    assert outcome.passes[0].nodes_before == outcome.before.nodes
    assert outcome.check.passed
    assert outcome.check.outputs[0].name == "final_encodes"
    assert list(outcome.seconds) == ["read", "optimize", "write", "check"]
    assert [done for done, _, _ in steps] == sorted(done for done, _, _ in steps)
    assert all(done < total for done, total, _ in steps)
    assert steps[0][2] == "read"
    assert {"prune", "write", "check"} <= {name for _, _, name in steps}


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: " ".join(case["flags"]))
def test_the_file_gives_what_1_10_gave(output, case):
    runtime = pytest.importorskip("onnxruntime")
    options = options_of(case["flags"])
    optimize_model(
        Order(
            GOOGLE,
            output,
            pooling_strategy=options.pooling_strategy,
            pooling_layers=options.pooling_layers,
            position_embeddings=options.position_embeddings,
            check=False,
        )
    )
    feeds, expected = golden_case(case)
    session = runtime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, feeds)[0] - expected).max() <= TOLERANCE


def test_the_table_is_on_standard_output(capsys, output):
    status, out, err = command(capsys, HUGGING_FACE, "-o", output)
    assert (status, err) == (0, "")
    assert "narrow_integers" in out
    assert "wrote %s" % output in out
    assert "check passed" in out
    assert "\x1b" not in out


def test_json_is_all_there_is_on_standard_output(capsys, output):
    status, out, err = command(capsys, GOOGLE, "-o", output, "--json", "--pooling-layer", "-1")
    assert (status, err) == (0, "")
    values = json.loads(out)
    assert values["options"]["pooling_layers"] == [-1]
    assert values["check"]["passed"] is True
    assert values["files"][0]["path"] == str(output)


def test_no_check_makes_none(capsys, output):
    _, out, _ = command(capsys, GOOGLE, "-o", output, "--json", "--no-check")
    assert json.loads(out)["check"] is None


def test_a_failed_check_is_status_1_and_leaves_the_files(capsys, output, monkeypatch):
    def halved(graph):
        nodes = [
            node.with_attrs(value=node.attrs["value"] / 2)
            if node.op == "Const" and node.attrs["value"].ndim == 2
            else node
            for node in graph
        ]
        return graph.replaced(nodes=nodes), ()

    real = pipeline.pipeline_for
    monkeypatch.setattr(
        optimization, "pipeline_for", lambda *args: tuple(real(*args)) + (("halved", halved),)
    )
    status, out, err = command(capsys, GOOGLE, "-o", output)
    assert status == 1
    assert "CHECK FAILED" in out
    assert "%s doesn't compute what the original computes" % output in err
    assert output.exists()
    status, out, _ = command(capsys, GOOGLE, "-o", output, "--tolerance", "1")
    assert (status, "check passed" in out) == (0, True)


def test_files_that_their_engine_refuses_fail_the_check(capsys, output, monkeypatch):
    pytest.importorskip("onnxruntime" if TARGET == "onnx" else "tensorflow")
    real = targets.write

    def cut(graph, path, target):
        files = real(graph, path, target)
        Path(path).write_bytes(Path(path).read_bytes()[:1000])
        return files

    monkeypatch.setattr(targets, "write", cut)
    status, out, _ = command(capsys, GOOGLE, "-o", output)
    assert status == 1
    assert "CHECK FAILED: the engine can't run %s" % output in out


def test_an_input_that_nobody_can_make_up_is_told(capsys, output, monkeypatch):
    def impossible(graph):
        raise OptionError("no values can be made up for the input 'text'")

    monkeypatch.setattr(optimization, "random_batches", impossible)
    status, out, _ = command(capsys, GOOGLE, "-o", output)
    assert (status, "not checked: no values can be made up" in out) == (0, True)


def test_without_its_engine_the_graph_is_checked_in_numpy(capsys, output, monkeypatch):
    monkeypatch.setattr("bert_serving.graph_opt.check.find_spec", lambda name: None)
    _, out, _ = command(capsys, GOOGLE, "-o", output)
    assert "the numpy interpreter, since the files' own engine isn't installed" in out


def test_the_drawing(capsys, output, tmp_path):
    status, out, _ = command(capsys, GOOGLE, "-o", output, "--plot", tmp_path / "g.dot")
    assert (status, "drew %s" % (tmp_path / "g.dot") in out) == (0, True)
    assert "Before: " in (tmp_path / "g.dot").read_text(encoding="utf-8")


def test_precisions(capsys, output):
    sizes = {}
    for precision in ("fp32", "fp16"):
        status, out, _ = command(capsys, GOOGLE, "-o", output, "--precision", precision, "--json")
        values = json.loads(out)
        assert (status, values["check"]["passed"]) == (0, True)
        sizes[precision] = values["after"]["nbytes"]
    assert sizes["fp16"] < 0.6 * sizes["fp32"]


# TensorFlow graphs

TENSORS = [
    "--inputs",
    "input_ids,input_mask,segment_ids",
    "--outputs",
    "loss/probabilities",
]


@pytest.mark.parametrize("name", ["model.ckpt-7.meta", "model.ckpt-7"])
def test_a_training_graph_becomes_one_for_inference(capsys, output, name):
    status, out, _ = command(capsys, CLASSIFIER / name, "-o", output, *TENSORS, "--json")
    values = json.loads(out)
    assert (status, values["kind"], values["options"]) == (0, "tensorflow", None)
    assert values["after"]["nodes"] < 0.2 * values["before"]["nodes"]
    assert values["after"]["outputs"] == ["loss/probabilities"]
    assert values["check"]["passed"] is True
    assert values["check"]["outputs"][0]["rows"] > 4


def test_a_training_graph_without_names_lists_what_there_is(capsys, output):
    message = refused(capsys, CLASSIFIER / "model.ckpt-7.meta", "-o", output)
    for name in ("input_ids", "label_ids", "loss/probabilities"):
        assert name in message
    assert names(output.parent) == []


# What it refuses


def test_flags_of_the_other_kind_of_model(capsys, output):
    flags = ["--pooling-layer", "-1", "--num-labels", "3"]
    message = refused(capsys, CLASSIFIER / "model.ckpt-7.meta", "-o", output, *TENSORS, *flags)
    assert "is a TensorFlow graph, and --pooling-layer and --num-labels are for a model" in message
    message = refused(capsys, GOOGLE, "-o", output, "--inputs", "input_ids")
    assert "is a model directory, and --inputs is for a TensorFlow graph only" in message


def test_models_that_are_none(capsys, output, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    assert "weights.bin is a file, but neither" in refused(
        capsys, tmp_path / "weights.bin", "-o", output
    )
    assert "gone doesn't exist, neither as a model directory" in refused(
        capsys, tmp_path / "gone", "-o", output
    )
    assert "is no model directory" in refused(capsys, tmp_path, "-o", output)


def test_outputs_that_cannot_be_written(capsys, tmp_path, output):
    gone = tmp_path / "gone" / "model"
    assert "%s is no directory" % gone.parent in refused(capsys, GOOGLE, "-o", gone)
    assert "name the file" in refused(capsys, GOOGLE, "-o", tmp_path)
    model = CLASSIFIER / "model.ckpt-7.meta"
    assert "is the model itself" in refused(capsys, model, "-o", model, *TENSORS)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_bytes(b"")
    for name, message in (("file", "is a file, and"), ("full", "holds something other than")):
        with pytest.raises(OptionError, match=message):
            optimize_model(Order(GOOGLE, tmp_path / name, "savedmodel"))
    assert names(tmp_path) == ["file", "full"]


def test_a_drawing_that_is_impossible_is_known_before_any_work(capsys, output, tmp_path):
    message = refused(capsys, GOOGLE, "-o", output, "--plot", tmp_path / "graph.gif")
    assert "must end in" in message
    assert names(tmp_path) == []


def test_a_missing_package_is_named(output, monkeypatch):
    monkeypatch.setattr(optimization, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"needs the package onnx .* pip install onnx"):
        optimize_model(Order(GOOGLE, output, "onnx"))


# Nothing half-written


def full_disk(graph, path, target):
    Path(path).write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_what_was_there(capsys, output, monkeypatch):
    output.write_bytes(b"the last one")
    monkeypatch.setattr(targets, "write", full_disk)
    message = refused(capsys, GOOGLE, "-o", output)
    assert (
        message
        == "error: can't write %s: No space left on device; nothing of it was left there\n" % output
    )
    assert names(output.parent) == [output.name]
    assert output.read_bytes() == b"the last one"


def test_weights_and_model_take_their_place_together(output, monkeypatch):
    def write(graph, path, target):
        Path(path).write_bytes(b"model")
        Path(str(path) + ".data").write_bytes(b"weights")
        return Path(path), Path(str(path) + ".data")

    monkeypatch.setattr(targets, "write", write)
    outcome = optimize_model(Order(GOOGLE, output, TARGET, check=False))
    assert [(file.path.name, file.nbytes) for file in outcome.files] == [
        (output.name, 5),
        (output.name + ".data", 7),
    ]
    assert names(output.parent) == [output.name, output.name + ".data"]


def written_directory(graph, path, target):
    Path(path).mkdir()
    (Path(path) / "saved_model.pb").write_bytes(b"new")
    return (Path(path) / "saved_model.pb",)


def test_a_saved_model_takes_the_place_of_an_older_one(tmp_path, monkeypatch):
    place = tmp_path / "saved"
    (place / "variables").mkdir(parents=True)
    (place / "saved_model.pb").write_bytes(b"older")
    monkeypatch.setattr(targets, "write", written_directory)
    outcome = optimize_model(Order(GOOGLE, place, "savedmodel", check=False))
    assert [file.path for file in outcome.files] == [place / "saved_model.pb"]
    assert names(tmp_path) == ["saved"]
    assert names(place) == ["saved_model.pb"]
    assert (place / "saved_model.pb").read_bytes() == b"new"


def test_an_older_saved_model_stays_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    place = tmp_path / "saved"
    place.mkdir()
    (place / "saved_model.pb").write_bytes(b"older")
    monkeypatch.setattr(targets, "write", written_directory)
    real = os.rename

    def rename(source, target):
        if os.path.basename(source) == "saved" and target == str(place):
            raise PermissionError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(GraphOptError, match=r"can't write .*saved: Permission denied"):
        optimize_model(Order(GOOGLE, place, "savedmodel", check=False))
    assert names(tmp_path) == ["saved"]
    assert (place / "saved_model.pb").read_bytes() == b"older"


@pytest.mark.parametrize("stage", ["write", "pass"])
def test_an_interrupt_is_status_130_and_leaves_nothing(capsys, output, monkeypatch, stage):
    def interrupted(*args):
        if stage == "write":
            Path(args[1]).write_bytes(b"half")
        raise KeyboardInterrupt

    if stage == "write":
        monkeypatch.setattr(targets, "write", interrupted)
    else:
        monkeypatch.setattr(optimization, "pipeline_for", lambda *_: (("prune", interrupted),))
    assert command(capsys, GOOGLE, "-o", output) == (130, "", "interrupted\n")
    assert names(output.parent) == []


def test_sigterm_during_the_work_is_an_interrupt(capsys, output, monkeypatch):
    def terminated(graph):
        os.kill(os.getpid(), signal.SIGTERM)
        return graph, ()

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(optimization, "pipeline_for", lambda *_: (("prune", terminated),))
    assert command(capsys, GOOGLE, "-o", output)[0] == 130
    assert signal.getsignal(signal.SIGTERM) is before


# The terminal


def test_the_progress_bar_is_for_terminals_only(output, monkeypatch, capsys):
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert main([str(GOOGLE), "-o", str(output), "--target", TARGET, "--no-check"]) == 0
    text = terminal.getvalue()
    assert "write" in text
    # The line is erased at the end.
    assert text.rstrip("\r\n").endswith("\x1b[2K")
    assert "prune" in capsys.readouterr().out


def test_it_starts_without_any_engine():
    code = (
        "import sys; from bert_serving.graph_opt import cli\n"
        "print([name for name in ('tensorflow', 'onnx', 'onnxruntime', 'rich', 'zmq')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "bert_serving.graph_opt.cli", "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "usage: bert-serving-optimize" in done.stdout
