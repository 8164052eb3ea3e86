"""Some rows of a request's result, and how they are put into arrays. Pure."""

from __future__ import annotations

import json
from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np

from bert_serving.server.reply_plan import ReplyPlan
from bert_serving.server.request_messages import Registered

__all__ = ["Slice", "as_wanted", "fill", "is_whole", "share"]


class Slice(NamedTuple):
    """The rows of one request in one part."""

    indices: np.ndarray
    lengths: np.ndarray
    vectors: np.ndarray
    per_token: bool


def is_whole(piece: Slice, registered: Registered) -> bool:
    """Whether the piece is all of the request already, in order: then nothing is copied."""
    if piece.per_token or len(piece.indices) != registered.rows:
        return False
    return piece.indices.tolist() == list(range(registered.rows))


def fill(target: np.ndarray, places: Sequence[int], piece: Slice) -> None:
    """Copy vectors of tokens to the beginning of each row's place in [rows, length, dimension]."""
    start = 0
    for place, length in zip(places, piece.lengths.tolist()):
        target[place, :length] = piece.vectors[start : start + length]
        start += length


def as_wanted(array: np.ndarray, plan: Optional[ReplyPlan]) -> np.ndarray:
    return array.astype(np.float16) if plan is not None and plan.half else array


def share(values: Optional[List[Any]], rows: List[int]) -> Optional[bytes]:
    """The JSON of some rows' values."""
    return None if values is None else json.dumps([values[row] for row in rows]).encode("ascii")
