"""The parts of a streamed reply: which rows have come, and all of them put together. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Set

import numpy as np

from bert_serving.client.errors import ModelChanged, ProtocolError
from bert_serving.client.protocol import Details, Part, VectorsReply

__all__ = ["RowsToCome", "assemble"]


class RowsToCome:
    """The rows of one request that no part has brought yet.

    A request that was sent again may be computed again: what came before is taken out of the parts
    of the second time. These may be of another model, if the server got one meanwhile; then they
    aren't the rest of the first ones.
    """

    def __init__(self, rows: int) -> None:
        self._total = rows
        self._seen: Set[int] = set()
        self._model: Optional[str] = None

    @property
    def missing(self) -> int:
        """How many rows are still to come."""
        return self._total - len(self._seen)

    def fresh(self, reply: VectorsReply) -> VectorsReply:
        """``reply`` with those of its rows that are new.

        Raises ProtocolError for unknown rows, ModelChanged for those of another model.
        """
        part = reply.part
        assert part is not None, "a reply of a stream is a part"
        if reply.details is not None and reply.details.model is not None:
            self._check_model(reply.details.model)
        places = []
        for place, row in enumerate(part.rows):
            if not 0 <= row < self._total:
                raise ProtocolError(
                    "the server sent row %d of a request that has %d" % (row, self._total)
                )
            if row not in self._seen:
                self._seen.add(row)
                places.append(place)
        return reply if len(places) == len(part.rows) else _some(reply, part, places)

    def _check_model(self, model: str) -> None:
        if self._model is None:
            self._model = model
        if model != self._model:
            raise ModelChanged(
                "the server's model changed while a stream was under way: the rows so far are of "
                "the old one (%.80s), the others would be of the new one (%.80s); drop what came "
                "and ask again for all" % (self._model, model)
            )


def _some(reply: VectorsReply, part: Part, places: List[int]) -> VectorsReply:
    rows = _pick(part.rows, places)
    details = reply.details
    if details is not None:
        kept = frozenset(rows)
        details = details._replace(
            truncated=tuple(row for row in details.truncated if row in kept),
            offsets=None if details.offsets is None else _pick(details.offsets, places),
            failed={row: why for row, why in details.failed.items() if row in kept},
        )
    tokens = reply.tokens if isinstance(reply.tokens, str) else _pick(reply.tokens, places)
    return replace(
        reply,
        array=reply.array[places],
        tokens=tokens,
        details=details,
        part=Part(rows, part.is_last),
    )


def _pick(values: Sequence[Any], places: List[int]) -> List[Any]:
    return [values[place] for place in places]


def assemble(replies: Sequence[VectorsReply], rows: int) -> VectorsReply:
    """One reply of all ``rows`` out of the parts of a whole stream, in any order.

    Token vectors of parts that are shorter than others are filled up with zeros. Raises
    ProtocolError for parts that don't fit together.
    """
    last = replies[-1]
    if last.part is None:
        return last
    filled = [reply for reply in replies if len(reply.array)]
    kinds = {(reply.array.ndim, reply.array.shape[-1], reply.array.dtype) for reply in filled}
    if len(kinds) != 1 or filled[0].array.ndim < 2:
        raise ProtocolError("the server sent parts of a request that don't fit together")
    width = np.max([reply.array.shape[1:] for reply in filled], axis=0)
    array = np.zeros((rows, *width), dtype=last.array.dtype)
    tokens: List[Any] = [None] * rows
    offsets: List[Any] = [None] * rows
    truncated: Set[int] = set()
    failed: Dict[int, str] = {}
    for reply in filled:
        places = reply.part.rows if reply.part is not None else list(range(rows))
        array[(places,) + tuple(map(slice, reply.array.shape[1:]))] = reply.array
        details = reply.details or Details()
        truncated.update(details.truncated)
        failed.update(details.failed)
        _place(tokens, places, reply.tokens)
        _place(offsets, places, details.offsets)
    whole: Optional[Details] = last.details and last.details._replace(
        truncated=tuple(sorted(truncated)),
        offsets=None if None in offsets else offsets,
        failed=failed,
    )
    return replace(
        last, array=array, tokens="" if None in tokens else tokens, details=whole, part=None
    )


def _place(into: List[Any], places: List[int], values: Any) -> None:
    if isinstance(values, list):
        for place, value in zip(places, values):
            into[place] = value
