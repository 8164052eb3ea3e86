from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, List

import pytest

from bert_serving.client.bulk.display import Display
from bert_serving.client.bulk.state import State

BEGIN = State({}, {}, rows=1000, consumed=50)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_now_and_then() -> None:
    clock, lines = Clock(), []  # type: ignore[var-annotated]
    display = Display(200, BEGIN, clock, lines.append, bar=False)
    for seconds, rows in ((29, 1500), (31, 4100), (32, 5000), (62, 7200)):
        clock.now = 100.0 + seconds
        display.show(replace(BEGIN, rows=rows, consumed=rows // 40))
    assert lines == ["4,100 rows, 100 rows/s (51%)", "7,200 rows, 100 rows/s (90%)"]
    assert display.summary(replace(BEGIN, rows=7200)).endswith("rows/s since it went on at 1,000")
    display.close()


def test_a_bar(capsys: Any) -> None:
    pytest.importorskip("tqdm")
    clock, lines = Clock(), []  # type: ignore[var-annotated]
    display = Display(200, BEGIN, clock, lines.append, bar=True)
    clock.now += 10
    display.show(replace(BEGIN, rows=3000, consumed=200))
    display.close()
    shown = capsys.readouterr().err
    assert " 25%|" in shown
    assert "100%|" in shown
    assert "3,000 rows, 200 rows/s" in shown
    assert lines == []


def test_without_tqdm_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    clock = Clock()
    lines: List[str] = []
    display = Display(0, BEGIN, clock, lines.append, bar=True)
    clock.now += 40
    display.show(BEGIN)
    display.close()
    assert lines == ["1,000 rows, 0 rows/s (100%)"]
