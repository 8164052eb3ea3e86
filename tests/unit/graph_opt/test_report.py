"""What the command prints: tables for people, JSON for programs."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from unit.graph_opt.support import random_source

from bert_serving.graph_opt.check import Check, OutputCheck
from bert_serving.graph_opt.facts import UNKNOWN, Tally, facts_of
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.optimization import Outcome, WrittenFile
from bert_serving.graph_opt.order import Order
from bert_serving.graph_opt.pipeline import GraphOptions, PassReport, build, optimize
from bert_serving.graph_opt.report import as_json, check_lines, print_report
from bert_serving.graph_opt.units import human_bytes

GOOD = OutputCheck("final_encodes", 8, 1e-6, 2.5, 0.9999999, True, 4e-7, True)
BAD = replace(
    GOOD, name="other", deviation=0.5, finite=False, difference=float("nan"), passed=False
)
LONG = Path("/a/directory/with/quite/a/long/name/so/that/it/would/be/wrapped/at/80/columns/m.onnx")


@pytest.fixture(scope="module")
def outcome():
    graph = build(random_source(), GraphOptions())
    optimized, report = optimize(graph)
    noted = PassReport("fuse_qkv", 20, 10, 4000, 3000, 0.25, ("layer_3: left [alone]",))
    return Outcome(
        order=Order(Path("model"), LONG),
        kind="google",
        options=GraphOptions(),
        before=facts_of(graph),
        after=facts_of(optimized),
        passes=report.passes + (noted,),
        files=(WrittenFile(LONG, 184000),),
        check=Check(1e-4, "the original", "onnxruntime 1.0", (GOOD,)),
        seconds={"read": 0.1},
    )


def printed(outcome, verbose=False, width=80):
    rich = pytest.importorskip("rich.console")
    file = io.StringIO()
    print_report(outcome, rich.Console(file=file, width=width), verbose)
    return file.getvalue()


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9994, "9.99 kB"),
        (9996, "10.0 kB"),
        (99960, "100 kB"),
        (999400, "999 kB"),
        (999600, "1.00 MB"),
        (438 * 10**6, "438 MB"),
        (2 * 10**13, "20.0 TB"),
        (5 * 10**16, "50000 TB"),
    ],
)
def test_sizes_have_three_digits(nbytes, text):
    assert human_bytes(nbytes) == text


def test_facts_count_weights_and_tensors_by_dtype():
    nodes = [
        Node("x", "Placeholder", (), {"dtype": np.dtype("int32"), "shape": (None,)}),
        Node("c", "Const", (), {"dtype": np.dtype("float32"), "value": np.zeros(3, np.float32)}),
        Node("d", "Const", (), {"dtype": np.dtype(object), "value": np.array(b"a", object)}),
        Node("m", "Mystery", ("x",), {}),
    ]
    facts = facts_of(Graph(nodes, ["m"]))
    assert facts.nodes == 4
    assert facts.weights["float32"] == Tally(1, 12)
    assert facts.tensors == {"int32": 1, "float32": 1, "string": 1, UNKNOWN: 1}
    assert (facts.inputs, facts.outputs) == (("x",), ("m",))
    assert sum(tally.nbytes for tally in facts.weights.values()) == facts.nbytes


def test_variables_are_weights_that_nobody_loads(outcome):
    assert outcome.before.weights["float32"].nbytes > outcome.after.weights["float32"].nbytes


def test_the_report_fits_80_columns_but_for_paths(outcome):
    text = printed(outcome)
    for line in text.splitlines():
        assert len(line) <= 80 or str(LONG) in line, line
    assert "wrote %s, 184 kB" % LONG in text
    assert "\x1b" not in text
    row = next(line.split() for line in text.splitlines() if line.strip().startswith("prune"))
    (prune,) = [one for one in outcome.passes if one.name == "prune"]
    assert row[1:3] == [str(prune.nodes_before), str(prune.nodes_after)]


def test_notes_are_told_when_asked_for(outcome):
    assert "left [alone]" not in printed(outcome)
    assert "notes of the passes: see them with --verbose" in printed(outcome)
    assert "fuse_qkv: layer_3: left [alone]" in printed(outcome, verbose=True)


def test_a_terminal_gets_colours_unless_no_color_is_set(outcome, monkeypatch):
    rich = pytest.importorskip("rich.console")

    def colours():
        file = io.StringIO()
        print_report(outcome, rich.Console(file=file, force_terminal=True, width=80))
        return "\x1b[32m" in file.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours()


def test_the_verdict_in_words():
    assert check_lines(Check(1e-4, "the original", "TensorFlow 1.15", (GOOD,))) == [
        "check passed: TensorFlow 1.15",
        "  against the original",
        "  final_encodes, 8 rows: deviation 4e-07, accepted up to 0.0001",
        "    off by up to 1e-06 of 2.5, smallest cosine 1.000000, all finite",
    ]
    lines = check_lines(Check(1e-4, "a", "b", (GOOD, BAD)))
    assert lines[0] == "CHECK FAILED: b"
    assert lines[-1].endswith("NOT ALL FINITE")
    assert check_lines(Check(1e-4, skipped="no kernel")) == ["not checked: no kernel"]


def test_json_has_everything(outcome):
    values = json.loads(json.dumps(as_json(outcome), allow_nan=False))
    assert values["order"]["output"] == str(LONG)
    assert values["passes"][-1]["notes"] == ["layer_3: left [alone]"]
    assert values["check"]["passed"] is True
    assert values["check"]["outputs"][0]["cosine"] == GOOD.cosine
    assert values["files"] == [{"path": str(LONG), "nbytes": 184000}]
    assert values["ratio"] == outcome.after.nbytes / outcome.before.nbytes
    assert values["before"]["weights"]["float32"]["count"] > 0
    assert set(values["versions"]) >= {"bert-serving", "numpy", "python"}


def test_json_has_no_numbers_that_json_lacks(outcome):
    failed = replace(outcome, check=Check(1e-4, "a", "b", (BAD,)))
    values = json.loads(json.dumps(as_json(failed), allow_nan=False))
    assert values["check"]["passed"] is False
    assert values["check"]["outputs"][0]["difference"] is None
    assert as_json(replace(outcome, check=None))["check"] is None
