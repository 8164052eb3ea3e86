"""The corpus, and some inputs that are the same each time; scripts/fuzz makes others for longer."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.container import pack, unpack
from fuzz.engine import CORPUS, Fuzzer, Target
from fuzz.mutators import mutate_bytes
from fuzz.run import MODULES, NAMES, target_named

TESTS = Path(__file__).resolve().parents[1]
#: Some seconds of each, at most.
INPUTS = {"graph": 25, "huggingface": 100, "google": 80, "http": 150, "bundle": 100}
#: What a target imports that needn't be installed.
NEEDS = {"http": "fastapi", "parquet": "pyarrow"}
MOST_BYTES = 64 * 1024


def fuzz(name, *options, cwd):
    command = [sys.executable, "-m", "fuzz.run", "--keep", str(cwd), name, *options]
    paths = [str(TESTS)] + [path for path in (os.environ.get("PYTHONPATH"),) if path]
    return subprocess.run(
        command,
        cwd=str(cwd),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths), PYTHONHASHSEED="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )


@pytest.mark.parametrize("name", NAMES)
def test_only_documented_errors(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    done = fuzz(name, "--blind", "--inputs", str(INPUTS.get(name, 250)), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert ", 0 findings" in done.stdout


def test_targets_are_where_they_are_looked_for():
    for module, names in MODULES.items():
        try:
            targets = importlib.import_module(module).TARGETS
        except ImportError:
            continue
        assert tuple(one.name for one in targets) == tuple(names)
    assert {path.name for path in CORPUS.iterdir()} <= set(NAMES)


def test_the_corpus_is_small():
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert max(sizes) <= MOST_BYTES
    assert sum(sizes) <= 1536 * 1024


# The others have seeds that are refused on purpose, or leave an event loop behind.
@pytest.mark.parametrize(
    "name", ["request", "huggingface", "google", "bundle", "parquet", "progress"]
)
def test_seeds_are_well_formed(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    target = target_named(name)
    for data in target.seeds():
        target.run(data)


# The fuzzer itself.


def _faulty(data):
    if data.startswith(b"bug"):
        raise KeyError("a bug")
    if data.startswith(b"slow"):
        while True:
            pass
    raise ValueError("refused")


@pytest.fixture
def make(monkeypatch):
    before = signal.getsignal(signal.SIGVTALRM)
    yield functools.partial(_fuzzer, monkeypatch)
    signal.signal(signal.SIGVTALRM, before)


def _fuzzer(monkeypatch, **limits):
    for name, value in limits.items():
        monkeypatch.setattr("fuzz.engine." + name, value)
    target = Target("faulty", _faulty, (ValueError,), lambda: [b"fine"], mutate_bytes)
    return Fuzzer(target, 0, None, guided=False)


def test_findings(make):
    fuzzer = make(SECONDS_PER_INPUT=0.2)
    fuzzer.replay([b"fine", b"bugged", b"bug", b"slow"])
    found = fuzzer.summary.findings
    assert {where.split()[0]: one.data for where, one in found.items()} == {
        "KeyError": b"bug",
        "_TooSlow": b"slow",
    }
    assert "a bug" in next(iter(found.values())).report


def test_memory_is_a_finding(make):
    fuzzer = make(MEMORY_PER_INPUT=-1)
    fuzzer.replay([b"fine"])
    assert list(fuzzer.summary.findings) == ["memory"]


def test_entries_round_trip():
    entries = [("a.json", b"{}\n1"), ("d/b", b""), ("c d", b"\0")]
    assert unpack(pack(entries)) == entries
    assert unpack(b"no size\nabc") == []
