"""Where the rivals' virtual environments come from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.rivals import environments
from bert_serving.benchmarks.rivals.environments import (
    Rival,
    environment,
    find_python,
    installed_versions,
)

RUNNING = "%d.%d" % sys.version_info[:2]


def interpreter(path: Path, version: str) -> str:
    """A file that says that it is a Python of this version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\necho %s\n" % version, encoding="ascii")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No interpreter is on the path, nor with pyenv."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.delenv("PYTHON37", raising=False)
    return tmp_path


def test_an_interpreter_is_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = interpreter(nowhere / "mine", "3.7")
    interpreter(nowhere / "bin" / "python3.7", "3.7")
    monkeypatch.setenv("PYTHON37", named)
    assert find_python("3.7") == named


def test_an_interpreter_is_on_the_path(nowhere: Path) -> None:
    found = interpreter(nowhere / "bin" / "python3.7", "3.7")
    assert find_python("3.7") == found


def test_one_that_is_another_is_passed_over(nowhere: Path) -> None:
    interpreter(nowhere / "bin" / "python3.7", "3.11")
    found = interpreter(nowhere / "pyenv" / "versions" / "3.7.16" / "bin" / "python", "3.7")
    assert find_python("3.7") == found


def test_without_an_interpreter_the_error_says_how_to_name_one(nowhere: Path) -> None:
    assert find_python("3.7") is None
    rival = Rival("old", ("something",), (), python="3.7")
    with pytest.raises(BenchmarkError, match=r"old needs Python 3\.7.*PYTHON37="):
        environment(rival, nowhere)


def test_what_pip_says_when_it_fails(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.whl")
    with pytest.raises(BenchmarkError, match=r"missing\.whl"):
        environment(Rival("broken", (missing,), ()), tmp_path)
    assert not (tmp_path / "broken" / "installed").exists()


def test_it_is_made_once_and_again_when_it_needs_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def run(command: list) -> None:
        commands.append(command)
        (tmp_path / "rival").mkdir(exist_ok=True)

    monkeypatch.setattr(environments, "_run", run)
    first = Rival("rival", ("package==1",), ())
    for _ in range(2):
        assert environment(first, tmp_path) == tmp_path / "rival"
    assert len(commands) == 2  # venv, and pip
    environment(Rival("rival", ("package==2",), ()), tmp_path)
    assert commands[3][-1] == "package==2"


def test_versions_of_what_is_installed(tmp_path: Path) -> None:
    site = tmp_path / "lib" / ("python" + RUNNING) / "site-packages"
    for name in ("infinity_emb-0.0.78", "torch-2.13.0+cpu", "torchvision-1.0"):
        (site / (name + ".dist-info")).mkdir(parents=True)
    found = installed_versions(tmp_path, ("infinity-emb", "torch", "transformers"))
    assert found == {"infinity-emb": "0.0.78", "torch": "2.13.0+cpu"}
