"""Progress bars, or none."""

from __future__ import annotations

import pytest

from bert_serving.benchmarks.progress import Progress


def test_none(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(False)
    with progress.steps(2, "label") as begin, progress.share("other") as tell:
        begin("one")
        tell(0.5)
    assert capsys.readouterr().err == ""


def test_steps(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    with Progress(True).steps(2, "label") as begin:
        begin("one")
        begin("two")
    shown = capsys.readouterr().err
    assert "label" in shown
    assert "2/2" in shown


def test_share(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    with Progress(True).share("label") as tell:
        tell(0.5)
        tell(0.4)
        tell(1.0)
    assert "label: 100%" in capsys.readouterr().err
