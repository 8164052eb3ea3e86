"""What a benchmark found, as JSON, as Markdown tables, and as what :mod:`plots` draws."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.latency import Latency
from bert_serving.graph_opt.files import atomic_write

__all__ = ["Cell", "Figure", "Outcome", "Series", "Table", "latency_cells", "markdown", "write"]

Cell = Union[str, int, float, None]

LATENCY_COLUMNS = ("mean ms", "median ms", "p95 ms", "p99 ms", "failed")


@dataclass(frozen=True)
class Table:
    """``rows`` have a cell for each of ``columns``."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Series:
    """A line of a figure: ``x`` ascending, a ``y`` for each."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Figure:
    """A plot, to be written as ``name``.png. ``kind`` is "points", joined by lines with every x
    named on the axis, "lines", or "distribution", steps from 0 to 1. ``mark`` is an x to point out,
    with its label. ``log_x`` makes that axis logarithmic.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    kind: str = "points"
    log_x: bool = False
    mark: Optional[Tuple[float, str]] = None


@dataclass(frozen=True)
class Outcome:
    """Of one benchmark: ``data`` becomes JSON; ``failed`` if a part of it couldn't be measured."""

    kind: str
    data: Dict[str, Any]
    tables: Sequence[Table]
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = field(default_factory=list)
    failed: bool = False


def latency_cells(latency: Latency) -> List[Cell]:
    """Cells for LATENCY_COLUMNS; None: so many requests failed that there is no such value."""
    seconds = (latency.mean, latency.median, latency.p95, latency.p99)
    cells: List[Cell] = [None if value is None else value * 1000 for value in seconds]
    return cells + [latency.failed]


def markdown(outcome: Outcome, environment: Dict[str, Any]) -> str:
    """Tables, remarks, and what the figures depend on."""
    parts = []
    for table in outcome.tables:
        lines = ["## %s" % table.title, "", _row(table.columns), "|" + "---|" * len(table.columns)]
        lines += [_row([_shown(cell) for cell in row]) for row in table.rows]
        parts.append("\n".join(lines))
    if outcome.notes:
        parts.append("\n".join("- %s" % note for note in outcome.notes))
    listed = ["- %s: %s" % (name, _inline(value)) for name, value in environment.items()]
    parts.append("## Measured with\n\n" + "\n".join(listed))
    return "\n\n".join(parts) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| %s |" % " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)


def _shown(cell: Cell) -> str:
    """Numbers with three digits that count, and none cut off before the point."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return "%.0f" % cell if abs(cell) >= 100 else "%.3g" % cell
    return str(cell)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join("%s %s" % (name, _inline(one)) for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(_inline(one) for one in value)
    return str(value)


def as_json(outcome: Outcome, environment: Dict[str, Any]) -> str:
    """The whole result. What isn't JSON's becomes text."""
    content = {"kind": outcome.kind, "environment": environment, "results": outcome.data}
    content["notes"] = list(outcome.notes)
    content["series"] = {
        figure.name: [asdict(series) for series in figure.series] for figure in outcome.figures
    }
    return json.dumps(content, indent=1, default=str, allow_nan=False) + "\n"


def write(
    outcome: Outcome, environment: Dict[str, Any], directory: Path, plots: bool
) -> List[Path]:
    """Write results.json, results.md and the plots; returns their paths. Raises BenchmarkError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / "results.json", directory / "results.md"]
        atomic_write(paths[0], as_json(outcome, environment))
        atomic_write(paths[1], markdown(outcome, environment))
        if plots:
            from bert_serving.benchmarks.plots import draw

            paths += [draw(figure, directory) for figure in outcome.figures]
    except OSError as error:
        raise BenchmarkError(
            "can't write the results to %s: %s" % (directory, error.strerror or error)
        ) from error
    return paths
