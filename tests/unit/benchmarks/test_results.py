"""Results as JSON and Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.latency import summarize
from bert_serving.benchmarks.results import (
    Figure,
    Outcome,
    Series,
    Table,
    latency_cells,
    markdown,
    write,
)

OUTCOME = Outcome(
    "load",
    {"runs": [{"rate": 5.0}]},
    [Table("Speed", ("clients", "rows/s"), [(1, 12345.678), (2, 0.012345), (4, None)])],
    [Figure("speed", "Speed", "clients", "rows", [Series("", [1.0, 2.0], [3.0, 4.0])])],
    ["a remark"],
)
ENVIRONMENT = {"cores": 2, "packages": {"numpy": "1.19", "pyzmq": "25"}, "flags": ["-load"]}


def test_markdown() -> None:
    lines = markdown(OUTCOME, ENVIRONMENT).splitlines()
    assert lines[:7] == [
        "## Speed",
        "",
        "| clients | rows/s |",
        "|---|---|",
        "| 1 | 12346 |",
        "| 2 | 0.0123 |",
        "| 4 | – |",
    ]
    assert "- a remark" in lines
    assert "- packages: numpy 1.19, pyzmq 25" in lines


def test_cells_cannot_break_a_table() -> None:
    outcome = Outcome("load", {}, [Table("T", ("a|b",), [("c|d\ne",)])])
    assert "| c\\|d e |" in markdown(outcome, {})


def test_files(tmp_path: Path) -> None:
    paths = write(OUTCOME, ENVIRONMENT, tmp_path / "new" / "directory", plots=False)
    assert [path.name for path in paths] == ["results.json", "results.md"]
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    assert content["kind"] == "load"
    assert content["environment"] == ENVIRONMENT
    assert content["results"] == OUTCOME.data
    assert content["series"]["speed"] == [{"label": "", "x": [1.0, 2.0], "y": [3.0, 4.0]}]
    assert paths[1].read_text(encoding="utf-8") == markdown(OUTCOME, ENVIRONMENT)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchmarkError, match=r"can't write the results to .*file"):
        write(OUTCOME, ENVIRONMENT, tmp_path / "file", plots=False)


def test_latencies_are_shown_in_milliseconds() -> None:
    assert latency_cells(summarize([0.5], failed=3)) == [500.0, None, None, None, 3]
