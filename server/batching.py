"""Choosing which waiting rows are computed together.

Pure. An engine either pads a batch to its longest row, so that its cost goes with rows times
longest length, or packs the tokens of all rows, so that little more than attention pays for
padding; and each call costs something. :class:`BatchLimits` says so in numbers, in tokens. The
choice keeps what a batch counts within a budget and, as far as the order of service leaves it one,
makes the real tokens' share of the cost as large as it gets.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

__all__ = ["CALL_TOKENS", "BatchLimits", "Load", "Row", "best_counts", "provenance"]

#: What a call costs on CPUs, in tokens.
CALL_TOKENS = 32.0
#: So that a budget which is met exactly isn't missed by floating point.
ROUNDING = 1e-9


class Row(NamedTuple):
    """A tokenized text that waits to be computed."""

    request: int  # handle of the request that it belongs to
    index: int  # type: ignore[assignment]  # its place there; tuple.index is of no use here
    features: np.ndarray  # int32 [3, length]: token ids, segment ids, attention mask

    @property
    def length(self) -> int:
        return int(self.features.shape[1])


@dataclass(frozen=True)
class BatchLimits:
    """At most ``rows`` rows and ``tokens`` weighted tokens; a longer row goes alone.

    ``padding_weight`` is what a token of padding costs, a real one being 1: 1 with an engine that
    computes padding like tokens, 0 with one that pays nothing for it. ``call_tokens`` is what a
    call costs however little is in it; it doesn't count as to the limit.
    """

    rows: int
    tokens: int
    padding_weight: float = 1.0
    call_tokens: float = CALL_TOKENS

    def weighted(self, rows: int, tokens: int, longest: int) -> float:
        """What a batch of so many rows and real tokens counts."""
        return tokens + self.padding_weight * (rows * longest - tokens)


@dataclass
class Load:
    """What is in a batch so far."""

    rows: int = 0
    tokens: int = 0
    longest: int = 0


def best_counts(
    available: Mapping[int, int], near: int, load: Load, limits: BatchLimits, budget: float
) -> Dict[int, int]:
    """How many rows of which length should join a batch.

    ``available`` is length -> rows that wait. Lengths nearest to ``near`` go first, and rows join
    up to where the real tokens' share of what the batch costs is largest, as long as it counts no
    more than ``budget``. An empty batch gets a row of length ``near`` in any case.
    """
    lengths = sorted(available)
    weight, call = limits.padding_weight, limits.call_tokens
    rows, tokens, longest = load.rows, load.tokens, load.longest
    share = tokens / (call + limits.weighted(rows, tokens, longest))
    found: List[Tuple[int, int]] = []
    best = 0
    high = bisect_right(lengths, near)
    low = high - 1
    while rows < limits.rows and (low >= 0 or high < len(lengths)):
        if high == len(lengths) or (low >= 0 and near - lengths[low] <= lengths[high] - near):
            length, low = lengths[low], low - 1
        else:
            length, high = lengths[high], high + 1
        longest = longest if longest > length else length
        # So many rows more until (1 - weight) * tokens + weight * rows * longest is the budget.
        left = budget - (1 - weight) * tokens - weight * rows * longest
        count = min(
            available[length],
            limits.rows - rows,
            int(left / ((1 - weight) * length + weight * longest) + ROUNDING),
        )
        if count < 1:
            if rows > 0:
                break
            count = 1
        rows, tokens = rows + count, tokens + count * length
        found.append((length, count))
        weighted = tokens + weight * (rows * longest - tokens)
        if tokens >= share * (call + weighted):
            share = tokens / (call + weighted)
            best = len(found)
    return dict(found[:best])


def provenance(rows: Sequence[Row]) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each row comes from: int64 [rows] handles, int32 [rows] indices and lengths."""
    handles = np.array([row[0] for row in rows], np.int64)
    indices = np.array([row[1] for row in rows], np.int32)
    lengths = np.array([row[2].shape[1] for row in rows], np.int32)
    return handles, indices, lengths
