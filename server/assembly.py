"""Putting the vectors of each request together again.

Pure. Parts come in any order, also before the ventilator has registered their request, and a
part may come twice when a batch was run again after its worker was lost. A request is complete
when it is registered and every row is there; then its reply is handed out, once. One that is
streamed is handed out in parts, each row once, as they come.
"""

from __future__ import annotations

import json
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from bert_serving.client import protocol
from bert_serving.client.protocol import Details
from bert_serving.server.batch_messages import Part
from bert_serving.server.ended import Ended
from bert_serving.server.incomplete import Incomplete, OfRows, note_arrival, store
from bert_serving.server.pieces import Slice, as_wanted, fill, is_whole, share
from bert_serving.server.request_messages import (
    Announced,
    Dropped,
    Registered,
    RequestFailed,
    RowLost,
)

__all__ = ["Assembly", "Complete", "Outcome"]


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

    @property
    def asks_again(self) -> bool:
        """Whether the client does, if the reply is lost with its connection."""
        return self.details is not None


Outcome = Union[Complete, RequestFailed]


class Assembly:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._requests: Dict[int, Incomplete] = {}
        self._ended = Ended()

    @property
    def open_requests(self) -> int:
        """How many requests are known and not ended."""
        return len(self._requests)

    def of_protocol_1(self) -> List[Tuple[str, int]]:
        """Identities, as Latin-1, and ids of open requests whose clients don't ask again."""
        found = []
        for request in self._requests.values():
            registered, known = request.registered, request.announced or request.registered
            if known is not None and (registered is None or registered.plan is None):
                found.append((known.client.decode("latin-1"), known.request_id))
        return found

    @property
    def ended_requests(self) -> int:
        """How many requests have ended, in a reply, an error or because nobody waited."""
        return len(self._ended)

    def validate(self) -> None:
        """Assert what always holds; for tests, after every step."""
        assert not any(handle in self._ended for handle in self._requests)

    def handle(
        self, event: Union[Announced, Part, Registered, RowLost, RequestFailed, Dropped], now: float
    ) -> List[Outcome]:
        """The replies that ``event`` makes complete, at time ``now`` of the machine's clock."""
        if isinstance(event, Announced):
            if event.handle not in self._ended:
                self._requests.setdefault(event.handle, Incomplete()).announced = event
            return []
        if isinstance(event, Part):
            return self._add_part(event, now)
        if isinstance(event, Registered):
            return self._register(event, now)
        if isinstance(event, RowLost):
            return self._lose_row(event, now)
        if isinstance(event, RequestFailed):
            return self._fail(event)
        self._end(event.handle)
        return []

    def _register(self, event: Registered, now: float) -> List[Outcome]:
        if event.handle in self._ended:
            return []
        request = self._requests.setdefault(event.handle, Incomplete())
        request.registered, request.missing = event, event.rows
        if event.plan is not None and event.plan.stream:
            request.of_rows = OfRows(
                None if event.tokens is None else json.loads(event.tokens),
                None if event.offsets is None else json.loads(event.offsets),
                set(event.plan.truncated),
            )
        early, request.early = request.early, []
        outcomes = [outcome for piece in early for outcome in self._add(event.handle, piece, now)]
        if request.lost and event.handle not in self._ended:
            outcomes += self._settle_lost(event.handle, request, now)
        return outcomes

    def _lose_row(self, event: RowLost, now: float) -> List[Outcome]:
        if event.handle in self._ended:
            return []
        request = self._requests.setdefault(event.handle, Incomplete())
        request.lost[event.index] = event.message
        return self._settle_lost(event.handle, request, now)

    def _settle_lost(self, handle: int, request: Incomplete, now: float) -> List[Outcome]:
        """Count the lost rows as come, as soon as it is known how their vectors would look."""
        if request.registered is None or request.like is None:
            return []
        arrived = request.arrived
        new = {row: why for row, why in request.lost.items() if arrived is None or not arrived[row]}
        request.lost = {}
        if not new:
            return []
        request.failed.update(new)
        shape, dtype, per_token = request.like
        rows = np.array(list(new))
        lengths = np.ones(len(rows), np.int64)  # of tokens, each a vector of zeros
        vectors = np.zeros((len(rows), *shape), dtype)
        return self._add(handle, Slice(rows, lengths, vectors, per_token), now)

    def _fail(self, event: RequestFailed) -> List[Outcome]:
        if event.handle is not None:
            if event.handle in self._ended:
                return []
            self._end(event.handle)
        return [event]

    def _end(self, handle: int) -> None:
        self._requests.pop(handle, None)
        self._ended.add(handle)

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
            piece = Slice(
                part.indices[start:stop],
                part.lengths[start:stop],
                part.vectors[low:high],
                part.per_token,
            )
            request = self._requests.setdefault(handles[start], Incomplete())
            request.began = min(request.began, part.began)
            if request.failed and request.of_rows is None:
                # Given up, and computed after all by a worker that was lost just then.
                for row in piece.indices.tolist():
                    request.failed.pop(row, None)
            outcomes += self._add(handles[start], piece, now)
        return outcomes

    def _add(self, handle: int, piece: Slice, now: float) -> List[Outcome]:
        if handle in self._ended:
            return []
        request = self._requests[handle]
        registered = request.registered
        if registered is None:
            request.early.append(piece)
            return []
        request.like = (piece.vectors.shape[1:], piece.vectors.dtype, piece.per_token)
        outcomes = self._add_to(handle, request, registered, piece, now)
        if request.lost and handle not in self._ended:
            outcomes += self._settle_lost(handle, request, now)
        return outcomes

    def _add_to(
        self, handle: int, request: Incomplete, registered: Registered, piece: Slice, now: float
    ) -> List[Outcome]:
        plan = registered.plan
        if request.of_rows is not None:
            return self._add_to_stream(handle, request, piece, now)
        if is_whole(piece, registered):
            result = piece.vectors
        else:
            store(request, piece, registered)
            if request.missing:
                return []
            assert request.result is not None
            result = request.result
        self._end(handle)
        details = None if plan is None else plan.details(request.began, now, request.failed)
        return [
            Complete(
                registered.client,
                registered.request_id,
                as_wanted(result, plan),
                registered.tokens,
                details,
                None,
                registered.offsets,
            )
        ]

    def _add_to_stream(
        self, handle: int, request: Incomplete, piece: Slice, now: float
    ) -> List[Outcome]:
        registered, of_rows = request.registered, request.of_rows
        assert registered is not None
        assert registered.plan is not None
        assert of_rows is not None
        new = note_arrival(request, piece, registered.rows)
        if not new.any():
            return []
        rows = piece.indices[new].tolist()
        if piece.per_token:
            shape = (len(piece.indices), registered.padded_length) + piece.vectors.shape[1:]
            array = np.zeros(shape, piece.vectors.dtype)
            fill(array, range(len(array)), piece)
            array = array[new]
        else:
            array = piece.vectors if new.all() else piece.vectors[new]
        if not request.missing:
            self._end(handle)
        return [
            Complete(
                registered.client,
                registered.request_id,
                as_wanted(array, registered.plan),
                share(of_rows.tokens, rows),
                registered.plan._replace(
                    truncated=tuple(row for row in rows if row in of_rows.truncated)
                ).details(
                    request.began,
                    now,
                    {row: request.failed[row] for row in rows if row in request.failed},
                ),
                protocol.Part(rows, not request.missing),
                share(of_rows.offsets, rows),
            )
        ]
