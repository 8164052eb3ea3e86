"""What the command tells about its work: tables for people, JSON for programs."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

import numpy as np

from bert_serving.graph_opt.check import Check, OutputCheck
from bert_serving.graph_opt.facts import Tally
from bert_serving.graph_opt.optimization import Outcome
from bert_serving.graph_opt.units import human_bytes

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["as_json", "check_lines", "print_report"]


def as_json(outcome: Outcome) -> Dict[str, Any]:
    """The whole outcome as a JSON object; docs/optimizer.md says what its fields are."""
    from bert_serving.client.version import __version__

    values: Dict[str, Any] = _plain(asdict(outcome))
    values["ratio"] = ratio(outcome)
    if outcome.check is not None:
        values["check"]["passed"] = outcome.check.passed
    values["versions"] = {
        "bert-serving": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    return values


def ratio(outcome: Outcome) -> float:
    """Bytes of the weights after, relative to before."""
    return outcome.after.nbytes / outcome.before.nbytes if outcome.before.nbytes else 1.0


def print_report(outcome: Outcome, console: Console, verbose: bool = False) -> None:
    """Tables and lines; the paths are never broken, so that they can be copied."""

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)

    order = outcome.order
    line(
        "%s as %s, %s, for %s" % (order.model, order.target, order.precision, order.device.upper())
    )
    line(
        "inputs %s; outputs %s"
        % tuple(", ".join(names) for names in (outcome.after.inputs, outcome.after.outputs))
    )
    console.print()
    console.print(_passes(outcome))
    console.print(_dtypes(outcome))
    for file in outcome.files:
        line("wrote %s, %s" % (file.path, human_bytes(file.nbytes)))
    if order.plot is not None:
        line("drew %s" % order.plot)
    line(
        "weights %s -> %s, %.3g of the original"
        % (human_bytes(outcome.before.nbytes), human_bytes(outcome.after.nbytes), ratio(outcome))
    )
    _print_notes(outcome, verbose, line)
    if outcome.check is not None:
        style = "" if outcome.check.skipped else "green" if outcome.check.passed else "bold red"
        for text in check_lines(outcome.check):
            line(text, style)


def check_lines(check: Check) -> List[str]:
    """What the check found, for people."""
    if check.skipped is not None:
        return ["not checked: %s" % check.skipped]
    if check.failed is not None:
        return ["CHECK FAILED: %s" % check.failed]
    lines = [
        "%s: %s" % ("check passed" if check.passed else "CHECK FAILED", check.engine),
        "  against %s" % check.reference,
    ]
    for output in check.outputs:
        lines += _finding(output, check.tolerance)
    return lines


def _finding(output: OutputCheck, tolerance: float) -> List[str]:
    return [
        "  %s, %d rows: deviation %.2g, accepted up to %g"
        % (output.name, output.rows, output.deviation, tolerance),
        "    off by up to %.2g of %.3g, smallest cosine %.6f, %s"
        % (
            output.difference,
            output.scale,
            output.cosine,
            "all finite" if output.finite else "NOT ALL FINITE",
        ),
    ]


def _passes(outcome: Outcome) -> Any:
    table = _table("pass", "nodes before", "after", "weights before", "after", "seconds")
    for one in outcome.passes:
        table.add_row(
            one.name,
            str(one.nodes_before),
            str(one.nodes_after),
            human_bytes(one.bytes_before),
            human_bytes(one.bytes_after),
            "%.2f" % one.seconds,
        )
    return table


def _dtypes(outcome: Outcome) -> Any:
    table = _table("dtype", "weights before", "after", "tensors before", "after")
    before, after = outcome.before, outcome.after
    names = list(
        dict.fromkeys(
            list(before.weights) + list(after.weights) + list(before.tensors) + list(after.tensors)
        )
    )
    for name in names:
        table.add_row(
            name,
            _tally(before.weights.get(name)),
            _tally(after.weights.get(name)),
            str(before.tensors.get(name, "-")),
            str(after.tensors.get(name, "-")),
        )
    return table


def _tally(tally: Any) -> str:
    return (
        "-"
        if not isinstance(tally, Tally)
        else ("%s in %d" % (human_bytes(tally.nbytes), tally.count))
    )


def _table(first: str, *numbers: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, highlight=False)
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print_notes(outcome: Outcome, verbose: bool, line: Any) -> None:
    notes = [(one.name, note) for one in outcome.passes for note in one.notes]
    if not notes:
        return
    if not verbose:
        line("%d notes of the passes: see them with --verbose" % len(notes))
    for name, note in notes if verbose else ():
        line("  %s: %s" % (name, note))


def _plain(value: Any) -> Any:
    """Paths as strings, tuples as lists, and numbers that JSON doesn't have as None."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
