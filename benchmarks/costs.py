"""What a batch costs: measured samples, and a formula fitted to them. Pure.

    seconds = a + b * tokens + c * rows * longest + d * rows * longest² + e * excess

``tokens`` counts real ones; rows * longest, those with padding; rows * longest² stands for
attention; ``excess`` is the part of the tokens that counts (with padding if the engine computes
it) beyond ``KNEE``, where batches fall out of a CPU's cache. No coefficient is negative.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from bert_serving.benchmarks.errors import BenchmarkError

__all__ = [
    "MEASURED",
    "CostModel",
    "CostTable",
    "Sample",
    "fit",
    "read_tables",
    "relative_errors",
]

KNEE = 1024
#: The tables that come with this package.
MEASURED = Path(__file__).parent / "data" / "cost_tables.json"


class Sample(NamedTuple):
    """The duration of a batch."""

    rows: int
    tokens: int
    longest: int
    seconds: float


@dataclass(frozen=True)
class CostTable:
    """Samples of one engine with one model; ``packed``: padding is paid for in attention only.

    ``streams``: so many batches of a shape were computed at a time, as the server does if each has
    ``split_tokens`` tokens at least.
    """

    name: str
    packed: bool
    machine: Dict[str, Any]
    samples: Sequence[Sample]
    streams: int = 1
    split_tokens: int = 0

    def as_json(self) -> Dict[str, Any]:
        """Values of JSON, which :func:`read_tables` reads."""
        samples = [list(sample[:3]) + [float("%.4g" % sample.seconds)] for sample in self.samples]
        return {
            "name": self.name,
            "packed": self.packed,
            "streams": self.streams,
            "split_tokens": self.split_tokens,
            "machine": self.machine,
            "columns": list(Sample._fields),
            "samples": samples,
        }


def read_tables(path: Path = MEASURED) -> Dict[str, CostTable]:
    """The tables in a file, by their names. Raises BenchmarkError."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        tables = [
            CostTable(
                entry["name"],
                entry["packed"],
                entry["machine"],
                [Sample(*sample) for sample in entry["samples"]],
                entry["streams"],
                entry["split_tokens"],
            )
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError("can't read cost tables from %s: %s" % (path, error)) from error
    return {table.name: table for table in tables}


@dataclass(frozen=True)
class CostModel:
    """The formula of the module's docstring, with its coefficients in its order."""

    packed: bool
    coefficients: Tuple[float, ...]

    def seconds(self, rows: int, tokens: int, longest: int) -> float:
        """How long a batch takes."""
        values = _terms(self.packed, rows, tokens, longest)
        return sum(c * value for c, value in zip(self.coefficients, values))

    @property
    def padding_weight(self) -> float:
        """What a token of padding costs, a real one being 1, apart from attention."""
        _, token, padded, _, _ = self.coefficients
        return padded / (token + padded)

    @property
    def call_tokens(self) -> float:
        """What a call costs, in tokens."""
        call, token, padded, _, _ = self.coefficients
        return call / (token + padded)

    @property
    def speed(self) -> float:
        """Tokens per second in batches of about KNEE tokens, rows of 20 tokens."""
        rows = KNEE // 20
        return rows * 20 / self.seconds(rows, rows * 20, 20)


def _terms(packed: bool, rows: int, tokens: int, longest: int) -> List[float]:
    padded = rows * longest
    counted = tokens if packed else padded
    # Padded engines compute tokens and padding alike: there is no term for tokens alone.
    return [1.0, tokens if packed else 0, padded, padded * longest, max(0, counted - KNEE)]


def fit(table: CostTable) -> CostModel:
    """The coefficients with the least sum of squared relative errors.

    By coordinate descent, since none may be negative: each in turn gets its best value given the
    others (Lee & Seung treat the same problem; here it is small, and exact steps converge fast).
    """
    terms = np.array([_terms(table.packed, *sample[:3]) for sample in table.samples], float)
    seconds = np.array([sample.seconds for sample in table.samples])
    design = terms / seconds[:, None]
    scale = np.sqrt((design**2).sum(axis=0))
    design = design / np.where(scale > 0, scale, 1)
    gram, target = design.T @ design, design.sum(axis=0)
    found = np.zeros(design.shape[1])
    for _ in range(20_000):
        for i in np.flatnonzero(scale):
            found[i] = max(0.0, found[i] + (target[i] - gram[i] @ found) / gram[i, i])
    return CostModel(table.packed, tuple((found / np.where(scale > 0, scale, 1)).tolist()))


def relative_errors(model: CostModel, table: CostTable) -> np.ndarray:
    """(fitted - measured) / measured, float64 [samples]."""
    fitted = np.array([model.seconds(*sample[:3]) for sample in table.samples])
    measured = np.array([sample.seconds for sample in table.samples])
    errors: np.ndarray = fitted / measured - 1
    return errors
