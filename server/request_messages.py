"""Messages of requests and clients, between ventilator and sink. Pure;
:mod:`bert_serving.server.messages` says how they travel.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Sequence, Type, Union

from bert_serving.server.frame_parts import json_frame, values_of
from bert_serving.server.reply_plan import ReplyPlan

__all__ = [
    "Announced",
    "Dropped",
    "Gone",
    "Info",
    "OfRequests",
    "Registered",
    "RequestFailed",
    "RowLost",
    "Waiting",
    "decode_of_requests",
]

#: What stands in its first frame, behind the letter; a plan may follow.
REGISTERED = struct.Struct("=cq20sqq")  # handle, request id in digits, rows, padded length


@dataclass(frozen=True)
class Announced:
    """A request that takes long to tokenize, and whose client doesn't ask again if it is lost."""

    handle: int
    client: bytes
    request_id: int

    def frames(self) -> List[Any]:
        return [json_frame(b"a", handle=self.handle, request_id=self.request_id), self.client]


@dataclass(frozen=True)
class Registered:
    """A request is tokenized: what the sink needs besides the vectors.

    ``padded_length`` is the sequence length of a result with a vector a token, 0 of others;
    ``tokens`` and ``offsets`` are JSON of the whole request, if the client is to have them.
    ``plan`` is None in protocol 1.
    """

    handle: int
    client: bytes
    request_id: int
    rows: int
    padded_length: int
    tokens: Optional[bytes] = None
    plan: Optional[ReplyPlan] = None
    offsets: Optional[bytes] = None

    def frames(self) -> List[Any]:
        digits = b"%d" % self.request_id  # which may be larger than any field for numbers
        head = REGISTERED.pack(b"r", self.handle, digits, self.rows, self.padded_length)
        truncated = b""
        if self.plan is not None:
            plan, truncated = self.plan.packed()
            head += plan
        frames = [head, self.client, self.tokens or b"", self.offsets or b"", truncated]
        while not frames[-1]:
            frames.pop()
        return frames


@dataclass(frozen=True)
class RowLost:
    """A row of a request, which goes on, can't be computed."""

    handle: int
    index: int
    message: str

    def frames(self) -> List[Any]:
        return [json_frame(b"l", **asdict(self))]


@dataclass(frozen=True)
class RequestFailed:
    """A request ends in an error; ``handle`` is None if it was never accepted. ``asks_again``: its
    client does, if this is lost with its connection.
    """

    handle: Optional[int]
    client: bytes
    request_id: int
    kind: str
    message: str
    retry_after: Optional[float] = None  # seconds
    asks_again: bool = False

    def frames(self) -> List[Any]:
        head = json_frame(
            b"f",
            handle=self.handle,
            request_id=self.request_id,
            kind=self.kind,
            message=self.message,
            retry_after=self.retry_after,
            asks_again=self.asks_again,
        )
        return [head, self.client]


@dataclass(frozen=True)
class Dropped:
    """Nobody waits for this request any more."""

    handle: int

    def frames(self) -> List[Any]:
        return [json_frame(b"x", handle=self.handle)]


@dataclass(frozen=True)
class Info:
    """The answer to a command: a JSON object, passed on as it is."""

    client: bytes
    request_id: int
    info: bytes

    def frames(self) -> List[Any]:
        return [json_frame(b"i", request_id=self.request_id), self.client, self.info]


@dataclass(frozen=True)
class Gone:
    """A client has stopped listening, or ``listens`` and doesn't read; ``lost`` replies to it were
    thrown away.
    """

    client: bytes
    lost: int = 0
    listens: bool = False

    def frames(self) -> List[Any]:
        return [json_frame(b"g", lost=self.lost, listens=self.listens), self.client]


@dataclass(frozen=True)
class Waiting:
    """A reply waits for its client, which doesn't ask again if it is lost; or ``is_over``."""

    client: bytes
    request_id: int
    is_over: bool

    def frames(self) -> List[Any]:
        head = json_frame(b"w", request_id=self.request_id, is_over=self.is_over)
        return [head, self.client]


OfRequests = Union[Announced, Registered, RowLost, RequestFailed, Dropped, Info, Gone, Waiting]

#: Messages of a JSON object and a client's name.
OF_CLIENTS: Dict[bytes, Type[Any]] = {
    b"a": Announced,
    b"f": RequestFailed,
    b"g": Gone,
    b"w": Waiting,
}
#: Messages of a JSON object.
PLAIN: Dict[bytes, Type[Any]] = {b"l": RowLost, b"x": Dropped}


def decode_of_requests(head: bytes, frames: Sequence[Any]) -> Optional[OfRequests]:
    """The message in ``frames``, the first of which is ``head``; None if it is of another kind."""
    kind = head[:1]
    if kind == b"r":
        return _registered(head, frames)
    if kind in OF_CLIENTS:
        return OF_CLIENTS[kind](client=bytes(frames[1]), **values_of(head))
    if kind == b"i":
        return Info(client=bytes(frames[1]), info=bytes(frames[2]), **values_of(head))
    return PLAIN[kind](**values_of(head)) if kind in PLAIN else None


def _registered(head: bytes, frames: Sequence[Any]) -> Registered:
    _, handle, digits, rows, padded_length = REGISTERED.unpack_from(head)
    client, request_id = bytes(frames[1]), int(digits.rstrip(b"\0"))
    tokens, offsets, truncated = [
        bytes(frames[place]) if len(frames) > place else b"" for place in (2, 3, 4)
    ]
    plan = None
    if len(head) > REGISTERED.size:
        plan = ReplyPlan.unpacked(head, REGISTERED.size, truncated)
    return Registered(
        handle, client, request_id, rows, padded_length, tokens or None, plan, offsets or None
    )
