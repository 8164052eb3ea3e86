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
from functools import partial
from itertools import groupby, repeat
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple, cast

import numpy as np

__all__ = [
    "CALL_TOKENS",
    "BatchLimits",
    "Load",
    "Row",
    "best_counts",
    "pack",
    "rows_of",
]

#: What a call costs on CPUs, in tokens.
CALL_TOKENS = 32.0
#: Where a chunk has at least so many rows of a batch, it takes less time to cut them out together.
SHARING = 4
#: So that a budget which is met exactly isn't missed by floating point.
ROUNDING = 1e-9


class _Fields(NamedTuple):
    request: int  # handle of the request that it belongs to
    index: int  # type: ignore[assignment]  # its place there; tuple.index is of no use here
    length: int  # in tokens
    chunk: np.ndarray  # int32 [3, tokens]: token ids, segment ids, attention mask of several rows
    start: int  # where in the chunk its tokens begin


class Row(_Fields):
    """A tokenized text that waits to be computed; a tuple, so that others can be made quickly."""

    __slots__ = ()

    def __new__(cls, request: int, index: int, features: np.ndarray) -> "Row":
        """A row with ``features``, int32 [3, length], of its own."""
        return super().__new__(cls, request, index, int(features.shape[1]), features, 0)

    @property
    def features(self) -> np.ndarray:
        """Int32 [3, length]."""
        return self.chunk[:, self.start : self.start + self.length]


def rows_of(
    request: int, first: int, lengths: Sequence[int], chunk: np.ndarray, starts: Sequence[int]
) -> Tuple[Row, ...]:
    """Rows of a request from place ``first`` on, whose features are parts of a chunk."""
    numbers = range(first, first + len(lengths))
    fields = zip(repeat(request), numbers, lengths, repeat(chunk), starts)
    return tuple(map(_make_row, fields))


#: As Row._make, without looking at how many fields there are.
_make_row = cast("Callable[[Tuple[Any, ...]], Row]", partial(tuple.__new__, Row))


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


def pack(rows: Sequence[Row]) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where each row comes from, its length, and their features one after another.

    Int64 [rows] handles, int32 [rows] indices and lengths, int32 [3, tokens]. It is quickest if
    rows of the same chunk stand together.
    """
    requests, numbers, counts, chunks, starts = zip(*rows)
    handles, indices = np.array(requests, np.int64), np.array(numbers, np.int32)
    lengths = np.array(counts, np.int32)
    if len(set(map(id, chunks))) > len(rows) / SHARING:
        parts = [row[3][:, row[4] : row[4] + row[2]] for row in rows]
    else:
        stops = lengths.cumsum()
        # Of each token: its place in its chunk.
        places = np.arange(stops[-1]) + (np.array(starts) - stops + lengths).repeat(lengths)
        parts = []
        row = token = 0
        for _, same in groupby(map(id, chunks)):
            chunk = chunks[row]
            row += len(list(same))
            parts.append(chunk.take(places[token : stops[row - 1]], axis=1))
            token = stops[row - 1]
    features = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    return handles, indices, lengths, features
