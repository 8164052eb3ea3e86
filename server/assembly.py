"""Putting the vectors of each request together again.

Pure. Parts come in any order, also before the ventilator has registered their request, and a
part may come twice when a batch was run again after its worker was lost. A request is complete
when it is registered and every row is there; then its reply is handed out, once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Optional, Union

import numpy as np

from bert_serving.server.messages import Dropped, Part, Registered, RequestFailed

__all__ = ["Assembly", "Complete", "Outcome"]

#: Ended requests remembered, so that late parts of theirs are known as such. Parts are late by
#: the few batches that were under way when the request ended.
REMEMBERED = 10000


class Complete(NamedTuple):
    """All vectors of a request: [rows, dimension] or [rows, padded length, dimension]."""

    client: bytes
    request_id: int
    array: np.ndarray
    tokens: Optional[bytes]


Outcome = Union[Complete, RequestFailed]


class _Slice(NamedTuple):
    """The rows of one request in one part."""

    indices: np.ndarray
    lengths: np.ndarray
    vectors: np.ndarray
    per_token: bool


@dataclass
class _Request:
    registered: Optional[Registered] = None
    early: List[_Slice] = field(default_factory=list)
    result: Optional[np.ndarray] = None
    arrived: Optional[np.ndarray] = None  # bool [rows]


class Assembly:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._requests: Dict[int, _Request] = {}
        self._ended: "OrderedDict[int, None]" = OrderedDict()
        self._ended_count = 0

    @property
    def open_requests(self) -> int:
        """How many requests are known and not ended."""
        return len(self._requests)

    @property
    def ended_requests(self) -> int:
        """How many requests have ended, in a reply, an error or because nobody waited."""
        return self._ended_count

    def handle(self, event: Union[Part, Registered, RequestFailed, Dropped]) -> List[Outcome]:
        """The replies that ``event`` makes complete."""
        if isinstance(event, Part):
            return self._add_part(event)
        if isinstance(event, Registered):
            return self._register(event)
        if isinstance(event, RequestFailed):
            return self._fail(event)
        self._end(event.handle)
        return []

    def _register(self, event: Registered) -> List[Outcome]:
        if event.handle in self._ended:
            return []
        request = self._requests.setdefault(event.handle, _Request())
        request.registered = event
        early, request.early = request.early, []
        return [outcome for piece in early for outcome in self._add(event.handle, piece)]

    def _fail(self, event: RequestFailed) -> List[Outcome]:
        if event.handle is not None:
            if event.handle in self._ended:
                return []
            self._end(event.handle)
        return [event]

    def _end(self, handle: int) -> None:
        self._requests.pop(handle, None)
        if handle not in self._ended:
            self._ended_count += 1
        self._ended[handle] = None
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def _add_part(self, part: Part) -> List[Outcome]:
        """Cut a part where the request changes; the scheduler keeps a request's rows together."""
        outcomes: List[Outcome] = []
        handles = part.handles.tolist()
        cuts = [row for row in range(1, len(handles)) if handles[row] != handles[row - 1]]
        starts, stops = [0] + cuts, cuts + [len(handles)]
        tokens_before = np.concatenate(([0], np.cumsum(part.lengths))) if part.per_token else None
        for start, stop in zip(starts, stops):
            low, high = start, stop
            if tokens_before is not None:
                low, high = int(tokens_before[start]), int(tokens_before[stop])
            piece = _Slice(
                part.indices[start:stop],
                part.lengths[start:stop],
                part.vectors[low:high],
                part.per_token,
            )
            outcomes += self._add(handles[start], piece)
        return outcomes

    def _add(self, handle: int, piece: _Slice) -> List[Outcome]:
        if handle in self._ended:
            return []
        request = self._requests.setdefault(handle, _Request())
        registered = request.registered
        if registered is None:
            request.early.append(piece)
            return []
        if _is_whole(piece, registered):
            result = piece.vectors
        else:
            _store(request, piece, registered)
            if request.arrived is None or not request.arrived.all():
                return []
            assert request.result is not None
            result = request.result
        self._end(handle)
        return [Complete(registered.client, registered.request_id, result, registered.tokens)]


def _is_whole(piece: _Slice, registered: Registered) -> bool:
    """Whether the piece is all of the request already, in order: then nothing is copied."""
    if piece.per_token or len(piece.indices) != registered.rows:
        return False
    return piece.indices.tolist() == list(range(registered.rows))


def _store(request: _Request, piece: _Slice, registered: Registered) -> None:
    """Copy the piece's rows to their places; a row that came before is written again."""
    if request.result is None:
        request.arrived = np.zeros(registered.rows, bool)
        shape = (registered.rows,) + piece.vectors.shape[1:]
        if piece.per_token:
            shape = (registered.rows, registered.padded_length) + piece.vectors.shape[1:]
        # Zeros, since what lies behind the end of a row stays what it is.
        request.result = np.zeros(shape, piece.vectors.dtype)
    assert request.arrived is not None
    if piece.per_token:
        start = 0
        for index, length in zip(piece.indices.tolist(), piece.lengths.tolist()):
            request.result[index, :length] = piece.vectors[start : start + length]
            start += length
    else:
        request.result[piece.indices] = piece.vectors
    request.arrived[piece.indices] = True
