"""Figures become pictures; what they look like was looked at."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.benchmarks.plots import draw, round_above, round_below
from bert_serving.benchmarks.results import Figure, Series

ONE = [Series("one", [1.0, 4.0, 16.0], [10.0, 30.0, 200.0])]
TWO = ONE + [Series("two", [1.0, 4.0], [11.0, 50.0])]
SHARES = [Series("", [3.0, 4.0, 60.0], [0.3, 0.6, 0.9])]


@pytest.mark.parametrize(
    "figure",
    [
        Figure("f", "Throughput", "clients", "rows", ONE, log_x=True),
        Figure("f", "Throughput", "clients", "rows", TWO),
        Figure("f", "Latency", "ms", "share", SHARES, kind="distribution", log_x=True),
        Figure("f", "Latency", "ms", "share", SHARES, kind="distribution", mark=(50.0, "bound")),
        Figure("f", "One value", "ms", "share", [Series("", [5.0], [1.0])], "distribution", True),
        Figure("f", "One value", "clients", "rows", [Series("", [5.0], [0.0])], log_x=True),
    ],
    ids=["one", "two", "distribution", "mark", "one-latency", "one-point"],
)
def test_it_is_a_png(figure: Figure, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = draw(figure, tmp_path)
    assert path == tmp_path / "f.png"
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@given(st.floats(1e-6, 1e9))
def test_an_axis_ends_at_round_numbers(value: float) -> None:
    low, high = round_below(value), round_above(value)
    assert low <= value <= high
    assert high <= 2.5 * low * 1.001
    for end in (low, high):
        digits = end / 10 ** math.floor(math.log10(end) + 1e-9)
        assert round(digits, 6) in (1, 2, 5)
