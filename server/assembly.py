"""Putting the vectors of each request together again.

Pure. Parts come in any order, also before the ventilator has registered their request, and a
part may come twice when a batch was run again after its worker was lost. A request is complete
when it is registered and every row is there; then its reply is handed out, once. One that is
streamed is handed out in parts, each row once, as they come.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from bert_serving.client import protocol
from bert_serving.client.protocol import Details, Timings
from bert_serving.server.messages import Dropped, Part, Registered, ReplyPlan, RequestFailed

__all__ = ["Assembly", "Complete", "Outcome"]

#: Ended requests remembered, so that late parts of theirs are known as such. Parts are late by
#: the few batches that were under way when the request ended.
REMEMBERED = 10000


class Complete(NamedTuple):
    """Vectors of a request, or of some of its rows: [rows, dimension] or [rows, padded length,
    dimension]. ``tokens`` and ``offsets`` are JSON, of the same rows.
    """

    client: bytes
    request_id: int
    array: np.ndarray
    tokens: Optional[bytes] = None
    details: Optional[Details] = None
    part: Optional[protocol.Part] = None
    offsets: Optional[bytes] = None


Outcome = Union[Complete, RequestFailed]


class _Slice(NamedTuple):
    """The rows of one request in one part."""

    indices: np.ndarray
    lengths: np.ndarray
    vectors: np.ndarray
    per_token: bool


@dataclass
class _OfRows:
    """What a streamed request's parts take their rows' share of."""

    tokens: Optional[List[Any]]
    offsets: Optional[List[Any]]
    truncated: Set[int]


@dataclass
class _Request:
    registered: Optional[Registered] = None
    early: List[_Slice] = field(default_factory=list)
    result: Optional[np.ndarray] = None
    arrived: Optional[np.ndarray] = None  # bool [rows]
    missing: int = 0  # rows
    began: float = float("inf")  # when its first batch was
    of_rows: Optional[_OfRows] = None  # of a streamed request


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

    def of_protocol_1(self) -> List[Tuple[str, int]]:
        """Identities, as Latin-1, and ids of open requests whose clients don't ask again."""
        known = [request.registered for request in self._requests.values()]
        return [
            (one.client.decode("latin-1"), one.request_id)
            for one in known
            if one is not None and one.plan is None
        ]

    @property
    def ended_requests(self) -> int:
        """How many requests have ended, in a reply, an error or because nobody waited."""
        return self._ended_count

    def handle(
        self, event: Union[Part, Registered, RequestFailed, Dropped], now: float
    ) -> List[Outcome]:
        """The replies that ``event`` makes complete, at time ``now`` of the machine's clock."""
        if isinstance(event, Part):
            return self._add_part(event, now)
        if isinstance(event, Registered):
            return self._register(event, now)
        if isinstance(event, RequestFailed):
            return self._fail(event)
        self._end(event.handle)
        return []

    def _register(self, event: Registered, now: float) -> List[Outcome]:
        if event.handle in self._ended:
            return []
        request = self._requests.setdefault(event.handle, _Request())
        request.registered, request.missing = event, event.rows
        if event.plan is not None and event.plan.stream:
            request.of_rows = _OfRows(
                None if event.tokens is None else json.loads(event.tokens),
                None if event.offsets is None else json.loads(event.offsets),
                set(event.plan.truncated),
            )
        early, request.early = request.early, []
        return [outcome for piece in early for outcome in self._add(event.handle, piece, now)]

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

    def _add_part(self, part: Part, now: float) -> List[Outcome]:
        """Cut a part where the request changes; the scheduler keeps a request's rows together."""
        outcomes: List[Outcome] = []
        handles = part.handles.tolist()
        cuts = [row for row in range(1, len(handles)) if handles[row] != handles[row - 1]]
        starts, stops = [0] + cuts, cuts + [len(handles)]
        tokens_before = np.concatenate(([0], np.cumsum(part.lengths))) if part.per_token else None
        for start, stop in zip(starts, stops):
            if handles[start] in self._ended:
                continue
            low, high = start, stop
            if tokens_before is not None:
                low, high = int(tokens_before[start]), int(tokens_before[stop])
            piece = _Slice(
                part.indices[start:stop],
                part.lengths[start:stop],
                part.vectors[low:high],
                part.per_token,
            )
            request = self._requests.setdefault(handles[start], _Request())
            request.began = min(request.began, part.began)
            outcomes += self._add(handles[start], piece, now)
        return outcomes

    def _add(self, handle: int, piece: _Slice, now: float) -> List[Outcome]:
        if handle in self._ended:
            return []
        request = self._requests[handle]
        registered = request.registered
        if registered is None:
            request.early.append(piece)
            return []
        plan = registered.plan
        if request.of_rows is not None:
            return self._add_to_stream(handle, request, piece, now)
        if _is_whole(piece, registered):
            result = piece.vectors
        else:
            _store(request, piece, registered)
            if request.missing:
                return []
            assert request.result is not None
            result = request.result
        self._end(handle)
        details = None if plan is None else _details(plan, request, now)
        return [
            Complete(
                registered.client,
                registered.request_id,
                _as_wanted(result, plan),
                registered.tokens,
                details,
                None,
                registered.offsets,
            )
        ]

    def _add_to_stream(
        self, handle: int, request: _Request, piece: _Slice, now: float
    ) -> List[Outcome]:
        registered, of_rows = request.registered, request.of_rows
        assert registered is not None
        assert registered.plan is not None
        assert of_rows is not None
        new = _note_arrival(request, piece, registered.rows)
        if not new.any():
            return []
        rows = piece.indices[new].tolist()
        if piece.per_token:
            shape = (len(piece.indices), registered.padded_length) + piece.vectors.shape[1:]
            array = np.zeros(shape, piece.vectors.dtype)
            _fill(array, range(len(array)), piece)
            array = array[new]
        else:
            array = piece.vectors if new.all() else piece.vectors[new]
        if not request.missing:
            self._end(handle)
        return [
            Complete(
                registered.client,
                registered.request_id,
                _as_wanted(array, registered.plan),
                _share(of_rows.tokens, rows),
                _details(
                    registered.plan._replace(
                        truncated=tuple(row for row in rows if row in of_rows.truncated)
                    ),
                    request,
                    now,
                ),
                protocol.Part(rows, not request.missing),
                _share(of_rows.offsets, rows),
            )
        ]


def _is_whole(piece: _Slice, registered: Registered) -> bool:
    """Whether the piece is all of the request already, in order: then nothing is copied."""
    if piece.per_token or len(piece.indices) != registered.rows:
        return False
    return piece.indices.tolist() == list(range(registered.rows))


def _note_arrival(request: _Request, piece: _Slice, rows: int) -> np.ndarray:
    """Which of the piece's rows hadn't come before: bool [rows of the piece]."""
    if request.arrived is None:
        request.arrived = np.zeros(rows, bool)
    new: np.ndarray = ~request.arrived[piece.indices]
    request.arrived[piece.indices] = True
    request.missing -= int(np.count_nonzero(new))
    return new


def _store(request: _Request, piece: _Slice, registered: Registered) -> None:
    """Copy the piece's rows to their places; a row that came before is written again."""
    if request.result is None:
        shape = (registered.rows,) + piece.vectors.shape[1:]
        if piece.per_token:
            shape = (registered.rows, registered.padded_length) + piece.vectors.shape[1:]
        # Zeros, since what lies behind the end of a row stays what it is.
        request.result = np.zeros(shape, piece.vectors.dtype)
    if piece.per_token:
        _fill(request.result, piece.indices.tolist(), piece)
    else:
        request.result[piece.indices] = piece.vectors
    _note_arrival(request, piece, registered.rows)


def _fill(target: np.ndarray, places: Sequence[int], piece: _Slice) -> None:
    """Copy vectors of tokens to the beginning of each row's place in [rows, length, dimension]."""
    start = 0
    for place, length in zip(places, piece.lengths.tolist()):
        target[place, :length] = piece.vectors[start : start + length]
        start += length


def _as_wanted(array: np.ndarray, plan: Optional[ReplyPlan]) -> np.ndarray:
    return array.astype(np.float16) if plan is not None and plan.half else array


def _share(values: Optional[List[Any]], rows: List[int]) -> Optional[bytes]:
    """The JSON of some rows' values."""
    return None if values is None else json.dumps([values[row] for row in rows]).encode("ascii")


def _details(plan: ReplyPlan, request: _Request, now: float) -> Details:
    timings = Timings(
        tokenize=plan.tokenized - plan.accepted,
        queue=request.began - plan.accepted,
        compute=now - request.began,
        total=now - plan.accepted,
    )
    return Details(plan.num_tokens, plan.truncated, timings)
