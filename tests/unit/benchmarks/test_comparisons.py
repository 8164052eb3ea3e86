"""Taking turns, processes of rivals that fail, and memory that processes share."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from bert_serving.benchmarks.checks import Measured, named
from bert_serving.benchmarks.compare import Group, main, measure
from bert_serving.benchmarks.comparisons.own import pss_of, workers_of
from bert_serving.benchmarks.comparisons.setting import Setting, interleaved
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.rivals.processes import Runner, bert_as_service


def setting(directory: Path, **changes: Any) -> Setting:
    return Setting(directory=directory, scratch=directory, quick=True, **changes)


def test_the_sides_take_turns_and_each_begins_half_of_them() -> None:
    order: List[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    ours, theirs = interleaved(3, lambda: side("ours"), lambda: side("theirs"))
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert ours == (1.0, 4.0, 5.0)
    assert theirs == (2.0, 3.0, 6.0)


def test_what_was_measured_before_a_failure_stays(tmp_path: Path) -> None:
    def run(one: Setting, wanted: Any) -> Iterator[Measured]:
        yield Measured(named("batch"), (4.0,), (2.0,), {"figure": "rows/s"})
        raise BenchmarkError("it died")

    group = Group(("batch", "clients", "client"), run)
    found = measure(setting(tmp_path), ["batch", "client"], [group])
    assert [one.check.name for one in found] == ["batch", "client"]
    assert found[0].value == 2.0
    assert {"figure", "others_busy", "took_seconds"} <= set(found[0].details)
    assert found[1].problem == "it died"


def test_a_group_that_nobody_wants_is_not_run(tmp_path: Path) -> None:
    def run(one: Setting, wanted: Any) -> Iterator[Measured]:
        raise AssertionError("it was run")

    assert measure(setting(tmp_path), ["memory"], [Group(("batch",), run)]) == []


def test_quick_leaves_out_rivals_that_are_not_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="--quick; name an environment by --infinity"):
        setting(tmp_path).rival("infinity")
    place = {"infinity": tmp_path}
    assert setting(tmp_path, environments=place).rival("infinity") == tmp_path


def test_an_environment_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--infinity", str(tmp_path), "--only", "infinity"]) == 2
    assert "is no virtual environment" in capsys.readouterr().err


def fake_environment(directory: Path, command: str, script: str) -> Path:
    """A virtual environment whose Python runs this one, and a command in it."""
    (directory / "bin").mkdir()
    (directory / "bin" / "python").symlink_to(sys.executable)
    (directory / "bin" / command).write_text(script, encoding="utf-8")
    return directory


def test_a_rival_that_does_not_start_says_why(tmp_path: Path) -> None:
    script = "raise SystemExit('no such model')"
    place = fake_environment(tmp_path, "bert-serving-start", script)
    server = bert_as_service(place, tmp_path, tmp_path)
    with pytest.raises(BenchmarkError, match="ended with status 1: no such model"), server:
        raise AssertionError("it isn't ready")


RUNNER = """
import json, sys
for line in sys.stdin:
    order = json.loads(line)
    if order == {"run": True}:
        print(json.dumps({"seconds": 2.5}), flush=True)
    elif order["threads"] == 0:
        sys.exit(3)
    else:
        print(json.dumps({"ready": True}), flush=True)
"""


def runner(directory: Path, order: Dict[str, Any]) -> Runner:
    place = fake_environment(directory, "runner.py", RUNNER)
    return Runner(place, place / "bin" / "runner.py", order)


def test_a_runner_is_told_and_asked(tmp_path: Path) -> None:
    with runner(tmp_path, {"threads": 2}) as rival:
        assert [rival.seconds(), rival.seconds()] == [2.5, 2.5]


def test_a_runner_that_dies(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="ended with 3"):
        runner(tmp_path, {"threads": 0})


def test_proportional_memory_of_this_process() -> None:
    before = pss_of(os.getpid())
    size = 64 * 2**20
    with mmap.mmap(-1, size) as memory:
        for start in range(0, size, mmap.PAGESIZE):
            memory[start] = 1
        assert pss_of(os.getpid()) - before > 0.9 * size


def test_no_workers_run_here() -> None:
    assert workers_of() == []
