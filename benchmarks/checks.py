"""The figures that a release is held to: what is compared, the bound, and what came of it. Pure."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from bert_serving.benchmarks.results import Cell, Outcome, Table

__all__ = ["CHECKS", "Check", "Measured", "named", "summarize"]

#: The share of the cores' time that others may use without spoiling the figures.
MOST_BUSY = 0.05


@dataclass(frozen=True)
class Check:
    """A ratio of two sides, or, with a ``unit``, a value of one.

    The bound is the least value allowed, or the greatest if ``at_most``. ``allowance`` is
    subtracted from our side before it is divided.
    """

    name: str
    what: str
    bound: float
    at_most: bool = False
    unit: str = ""
    allowance: float = 0.0

    def value(self, ours: float, theirs: Optional[float]) -> float:
        """Of one round, or of the medians; ``theirs`` is None if there is one side only."""
        return ours if theirs is None else (ours - self.allowance) / theirs

    def is_met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    @property
    def bound_text(self) -> str:
        """As people read it."""
        words = "%s %s" % ("at most" if self.at_most else "at least", _number(self.bound))
        return "%s %s" % (words, self.unit) if self.unit else words


CHECKS = (
    Check(
        "efficiency",
        "tokens/s of the service on mixed lengths ÷ bare ONNX Runtime session on batches of equal "
        "lengths, best shape",
        0.90,
    ),
    Check(
        "latency",
        "(median latency of one client, one sentence − 2 ms) ÷ one bare session run of that length",
        1.15,
        at_most=True,
        allowance=0.002,
    ),
    Check("batch", "4 to 30 words, requests of 256 ÷ bert-as-service 1.10", 2.4),
    Check("clients", "16 clients × one sentence ÷ bert-as-service 1.10", 6.0),
    Check("client", "1 client × one sentence ÷ bert-as-service 1.10", 3.0),
    Check(
        "sentence-transformers",
        "default model, 1,000 texts of mixed length ÷ sentence-transformers on PyTorch",
        1.35,
    ),
    Check("infinity", "default model, 32 clients × one text ÷ infinity-emb over HTTP", 4.0),
    Check("int8", "whole service, int8 ÷ float32", 1.3),
    Check(
        "echo-requests",
        "echo engine, 768 floats a row, 16 pipelining clients × one sentence",
        4000.0,
        unit="requests/s",
    ),
    Check(
        "echo-rows",
        "echo engine, 768 floats a row, 16 pipelining clients × requests of 256",
        60000.0,
        unit="rows/s",
    ),
    Check(
        "priority",
        "95th percentile of requests of one row while a job of 50,000 runs ÷ a batch's time",
        3.0,
        at_most=True,
    ),
    Check("memory", "PSS of the workers: two ÷ one", 1.25, at_most=True),
)


def named(name: str) -> Check:
    """The check of that name. Raises KeyError."""
    return {check.name: check for check in CHECKS}[name]


@dataclass(frozen=True)
class Measured:
    """What came of a check: a value of each side for each round, or the ``problem`` in its way.

    ``theirs`` is empty for a check of one side. ``details`` are what the figures depend on.
    """

    check: Check
    ours: Tuple[float, ...] = ()
    theirs: Tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    problem: Optional[str] = None

    @property
    def rounds(self) -> Tuple[float, ...]:
        """The value of each round."""
        theirs: Sequence[Optional[float]] = self.theirs or [None] * len(self.ours)
        return tuple(self.check.value(one, other) for one, other in zip(self.ours, theirs))

    @property
    def value(self) -> Optional[float]:
        """That of the medians; None if there is a problem."""
        if self.problem is not None:
            return None
        other = statistics.median(self.theirs) if self.theirs else None
        return self.check.value(statistics.median(self.ours), other)

    @property
    def is_met(self) -> Optional[bool]:
        return None if self.value is None else self.check.is_met(self.value)


def summarize(found: Sequence[Measured]) -> Outcome:
    """A table of all checks, and one of both sides."""
    columns = ("check", "what", "bound", "measured", "rounds", "met")
    table = Table("Checks", columns, [_row(one) for one in found])
    sides = Table(
        "Both sides, medians",
        ("check", "ours", "theirs", "of"),
        [
            [
                one.check.name,
                statistics.median(one.ours),
                statistics.median(one.theirs) if one.theirs else None,
                str(one.details.get("figure", one.check.unit)),
            ]
            for one in found
            if one.problem is None
        ],
    )
    data = {"checks": [_data(one) for one in found]}
    problems = ["%s: not measured: %s" % (m.check.name, m.problem) for m in found if m.problem]
    notes = problems + [
        "%s: others used %.0f %% of the cores just before; measure again on a quiet machine"
        % (one.check.name, 100 * one.details["others_busy"])
        for one in found
        if one.details.get("others_busy", 0.0) > MOST_BUSY
    ]
    return Outcome("compare", data, [table, sides], notes=notes, failed=bool(problems))


def _row(one: Measured) -> List[Cell]:
    check = one.check
    if one.value is None:
        return [check.name, check.what, check.bound_text, None, None, "not measured"]
    spread = "%s to %s" % (_number(min(one.rounds)), _number(max(one.rounds)))
    met = "yes" if one.is_met else "no"
    return [check.name, check.what, check.bound_text, one.value, spread, met]


def _data(one: Measured) -> Dict[str, Any]:
    values = {"value": one.value, "rounds": one.rounds, "met": one.is_met}
    return dict(asdict(one), **values)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else "%.3g" % value
