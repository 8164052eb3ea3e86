"""A request of which something is there and something is missing, and its rows' arrival. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np

from bert_serving.server.pieces import Slice, fill
from bert_serving.server.request_messages import Announced, Registered

__all__ = ["Incomplete", "OfRows", "note_arrival", "store"]


@dataclass
class OfRows:
    """What a streamed request's parts take their rows' share of."""

    tokens: Optional[List[Any]]
    offsets: Optional[List[Any]]
    truncated: Set[int]


@dataclass
class Incomplete:
    announced: Optional[Announced] = None
    registered: Optional[Registered] = None
    early: List[Slice] = field(default_factory=list)
    result: Optional[np.ndarray] = None
    arrived: Optional[np.ndarray] = None  # bool [rows]
    missing: int = 0  # rows
    began: float = float("inf")  # when its first batch was
    of_rows: Optional[OfRows] = None  # of a streamed request
    like: Optional[Tuple[Tuple[int, ...], np.dtype, bool]] = None  # of vectors: see Assembly._add
    lost: Dict[int, str] = field(default_factory=dict)  # rows that won't come, and why
    failed: Dict[int, str] = field(default_factory=dict)  # those that count as come


def note_arrival(request: Incomplete, piece: Slice, rows: int) -> np.ndarray:
    """Which of the piece's rows hadn't come before: bool [rows of the piece]."""
    if request.arrived is None:
        request.arrived = np.zeros(rows, bool)
    new: np.ndarray = ~request.arrived[piece.indices]
    request.arrived[piece.indices] = True
    request.missing -= int(np.count_nonzero(new))
    return new


def store(request: Incomplete, piece: Slice, registered: Registered) -> None:
    """Copy the piece's rows to their places; a row that came before is written again."""
    if request.result is None:
        shape = (registered.rows,) + piece.vectors.shape[1:]
        if piece.per_token:
            shape = (registered.rows, registered.padded_length) + piece.vectors.shape[1:]
        # Zeros, since what lies behind the end of a row stays what it is.
        request.result = np.zeros(shape, piece.vectors.dtype)
    if piece.per_token:
        fill(request.result, piece.indices.tolist(), piece)
    else:
        request.result[piece.indices] = piece.vectors
    note_arrival(request, piece, registered.rows)
