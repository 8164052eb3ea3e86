"""Choosing which waiting rows are computed together.

Pure. A batch is padded to its longest row, so its cost goes with rows times longest length:
the choice keeps that product within a token budget and the padding in it small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

__all__ = ["BatchLimits", "Row", "select_rows"]

#: Below this many padded tokens a batch costs little more than the call itself, so that waste
#: in it matters less than a call saved.
FREE_TOKENS = 64
#: Share of real tokens below which rows are better computed in a batch of their own.
LEAST_FILL = 0.75


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
    """At most ``rows`` rows and ``tokens`` padded tokens; a longer row goes alone."""

    rows: int
    tokens: int


def select_rows(window: Sequence[Row], limits: BatchLimits) -> List[int]:
    """The indices, ascending, of the rows of ``window`` to compute next.

    ``window[0]``, the one that waited longest, is always among them, so nothing starves. Rows
    of the nearest lengths join it until the limits are reached or padding would waste more
    than it saves.
    """
    lengths = [row.length for row in window]
    by_length = sorted(range(len(window)), key=lengths.__getitem__)
    place = by_length.index(0)
    low, high = place, place + 1  # the batch is by_length[low:high]
    real = longest = lengths[0]
    while high - low < limits.rows:
        side = _nearest(lengths, by_length, low, high)
        if side is None:
            break
        candidate = lengths[by_length[side]]
        grown_longest = max(longest, candidate)
        padded = grown_longest * (high - low + 1)
        if padded > limits.tokens:
            break
        if padded > FREE_TOKENS and real + candidate < LEAST_FILL * padded:
            break
        real, longest = real + candidate, grown_longest
        low, high = min(low, side), max(high, side + 1)
    return sorted(by_length[low:high])


def _nearest(lengths: List[int], by_length: List[int], low: int, high: int) -> Optional[int]:
    """The neighbour of by_length[low:high] whose length is nearer to that of row 0."""
    if low == 0 or high == len(by_length):
        return low - 1 if low > 0 else high if high < len(by_length) else None
    shorter = lengths[0] - lengths[by_length[low - 1]]
    longer = lengths[by_length[high]] - lengths[0]
    return low - 1 if shorter <= longer else high


def provenance(rows: Sequence[Row]) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each row comes from: int64 [rows] handles, int32 [rows] indices and lengths."""
    handles = np.fromiter((row.request for row in rows), np.int64, len(rows))
    indices = np.fromiter((row.index for row in rows), np.int32, len(rows))
    lengths = np.fromiter((row.length for row in rows), np.int32, len(rows))
    return handles, indices, lengths
