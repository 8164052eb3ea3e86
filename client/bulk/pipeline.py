"""Keeps several requests under way and gives their results in the order of the input.

Pure: what sends and receives is an :class:`Encoder`, of which tests have their own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional

import numpy as np

from bert_serving.client.bulk.errors import BulkError
from bert_serving.client.bulk.rows import Batch, is_blank

__all__ = ["BatchFailed", "Encoded", "Encoder", "Result", "in_order"]


class Result(NamedTuple):
    """The vectors, float [rows, dimension], of the request ``id``, and how many texts were cut."""

    id: int
    vectors: np.ndarray
    truncated: int


class BatchFailed(Exception):
    """The request ``id`` failed, and would again; the message says why."""

    def __init__(self, id: int, message: str) -> None:
        super().__init__(message)
        self.id = id


class Encoder:
    """Encodes texts elsewhere, several requests at a time."""

    def submit(self, texts: List[str]) -> int:
        """Send a request; its id. Raises BulkError."""
        raise NotImplementedError

    def receive(self) -> Result:
        """Wait for the next result, of any request. Raises BatchFailed, and BulkError."""
        raise NotImplementedError


class Encoded(NamedTuple):
    """A batch with the vectors of all of its rows; those of blank texts are 0."""

    batch: Batch
    vectors: np.ndarray
    truncated: int


@dataclass
class _Pending:
    batch: Batch
    encoded: Optional[Encoded] = None


def in_order(
    batches: Iterable[Batch], encoder: Encoder, window: int, dimension: int, unit: str = "line"
) -> Iterator[Encoded]:
    """The results of ``batches`` in their order, at most ``window`` of which are held at a time.

    When a batch can't be read, those before it come first, and then what ``batches`` raised. When
    one failed, BulkError names its lines.
    """
    pending: Deque[_Pending] = deque()
    by_id: Dict[int, _Pending] = {}
    source = iter(batches)
    more, failure = True, None
    while more or pending:
        while more and len(pending) < window:
            try:
                batch = next(source)
            except StopIteration:
                more = False
            except BulkError as error:
                more, failure = False, error
            else:
                pending.append(_send(batch, encoder, by_id, dimension))
        while pending and pending[0].encoded is not None:
            yield pending.popleft().encoded  # type: ignore[misc]
        if by_id and not (more and len(pending) < window):
            _receive(encoder, by_id, dimension, unit)
    if failure is not None:
        raise failure


def _send(batch: Batch, encoder: Encoder, by_id: Dict[int, _Pending], dimension: int) -> _Pending:
    texts = batch.filled()
    if not texts:
        return _Pending(batch, Encoded(batch, np.zeros((len(batch.texts), dimension), "f4"), 0))
    one = _Pending(batch)
    by_id[encoder.submit(texts)] = one
    return one


def _receive(encoder: Encoder, by_id: Dict[int, _Pending], dimension: int, unit: str) -> None:
    try:
        result = encoder.receive()
    except BatchFailed as error:
        batch = by_id[error.id].batch
        raise BulkError(
            "%ss %d to %d failed: %s" % (unit, batch.first_line, batch.end.line, error)
        ) from error
    one = by_id.pop(result.id)
    rows = len(one.batch.filled())
    if result.vectors.shape != (rows, dimension):
        raise BulkError(
            "the server answered %d texts with an array of shape %s instead of %s; does it still "
            "run with the same flags?" % (rows, list(result.vectors.shape), [rows, dimension])
        )
    one.encoded = Encoded(one.batch, _with_blanks(one.batch, result.vectors), result.truncated)


def _with_blanks(batch: Batch, vectors: np.ndarray) -> np.ndarray:
    if len(vectors) == len(batch.texts):
        return vectors
    whole = np.zeros((len(batch.texts), vectors.shape[1]), vectors.dtype)
    whole[[not is_blank(text) for text in batch.texts]] = vectors
    return whole
