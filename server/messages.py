"""Messages between the server's own processes, and their frames.

Pure. Nothing is ever pickled. The first frame begins with a letter for the kind of message; the
numbers that follow have fixed places in messages that come with every request or batch, and are
JSON in the others. Large arrays are raw bytes in frames of their own. Texts stop at the
ventilator and vectors start at the workers::

    ventilator -> worker   Batch
    worker -> ventilator   Ready
    worker -> sink         Part, Broken
    ventilator -> sink     Announced, Registered, RowLost, RequestFailed, Dropped, Info
    sink -> ventilator     Done, Broken, Gone, Waiting

What became of a batch goes by the sink, so that the ventilator takes nothing for computed that the
sink doesn't have.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type, Union

import numpy as np

from bert_serving.client.reply_frames import dtype_name
from bert_serving.server.frame_parts import (
    buffer_of,
    json_frame,
    name_bytes,
    name_of,
    poolings_bytes,
    poolings_of,
    provenance,
    provenance_bytes,
    values_of,
)
from bert_serving.server.pooling import Pooling
from bert_serving.server.reply_plan import ReplyPlan

__all__ = [
    "Announced",
    "BatchMessage",
    "Broken",
    "Done",
    "Dropped",
    "Gone",
    "Info",
    "Part",
    "Ready",
    "Registered",
    "RequestFailed",
    "RowLost",
    "Waiting",
    "decode",
]


#: What stands in frames of fixed places, mostly behind the first letter. Where arrays follow (the
#: rows' provenance, behind BATCH and PART), they are aligned.
BATCH = struct.Struct("=c?6xqq")  # alone, batch, rows
PART = struct.Struct("=c?6xq8sqqdq32s")  # per token, rows, dtype, shape, began, batch, worker
DONE = struct.Struct("=q32s")  # batch, worker
REGISTERED = struct.Struct("=cq20sqq")  # handle, request id in digits, rows, padded length


@dataclass(frozen=True)
class BatchMessage:
    """Rows for a worker, packed one after another without padding."""

    batch_id: int
    handles: np.ndarray  # int64 [rows]: request that each row belongs to
    indices: np.ndarray  # int32 [rows]: place of each row in its request
    lengths: np.ndarray  # int32 [rows]
    features: np.ndarray  # int32 [3, tokens]: token ids, segment ids, attention mask
    alone: bool = True  # nothing else is to be computed there at the same time
    poolings: Mapping[int, Pooling] = field(default_factory=dict)  # of those that want their own

    def frames(self) -> List[Any]:
        head = BATCH.pack(b"b", self.alone, self.batch_id, len(self.handles))
        provenance = provenance_bytes(self.handles, self.indices, self.lengths)
        frames = [head + provenance, buffer_of(self.features)]
        if self.poolings:
            frames.append(poolings_bytes(self.poolings))
        return frames


@dataclass(frozen=True)
class Part:
    """Vectors of a batch: [rows, dimension], or for single tokens [tokens, dimension]."""

    handles: np.ndarray  # int64 [rows]
    indices: np.ndarray  # int32 [rows]
    lengths: np.ndarray  # int32 [rows]: tokens of each row
    vectors: np.ndarray
    per_token: bool
    began: float = 0.0  # when the batch was, by time.monotonic(), which processes here share
    ends: int = 0  # the batch, if this is its last part
    worker: str = ""  # whose it is, then

    def frames(self) -> List[Any]:
        vectors = self.vectors
        dtype, rows = dtype_name(vectors.dtype), len(self.handles)
        end = (self.ends, name_bytes(self.worker))
        head = PART.pack(b"p", self.per_token, rows, dtype, *vectors.shape, self.began, *end)
        provenance = provenance_bytes(self.handles, self.indices, self.lengths)
        return [head + provenance, buffer_of(vectors)]


@dataclass(frozen=True)
class Ready:
    """A worker can hold ``credits`` batches at a time, and computes ``streams`` of them; it has the
    model of that ``generation``.
    """

    credits: int
    streams: int = 1
    generation: int = 1

    def frames(self) -> List[Any]:
        values = {"streams": self.streams, "generation": self.generation}
        return [json_frame(b"y", credits=self.credits, **values)]


@dataclass(frozen=True)
class Done:
    """The sink has all vectors of these batches, which stand with their workers, as they ended."""

    batches: Tuple[Tuple[int, str], ...]

    def frames(self) -> List[Any]:
        return [b"d" + b"".join(DONE.pack(one, name_bytes(name)) for one, name in self.batches)]


@dataclass(frozen=True)
class Broken:
    """The engine failed on a batch; ``out_of_memory``: it had too little for one of this size."""

    worker: str
    batch_id: int
    message: str
    out_of_memory: bool = False

    def frames(self) -> List[Any]:
        return [json_frame(b"k", **asdict(self))]


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


Message = Union[
    Announced,
    BatchMessage,
    Broken,
    Done,
    Dropped,
    Gone,
    Info,
    Part,
    Ready,
    Registered,
    RequestFailed,
    RowLost,
    Waiting,
]

#: Messages of a client's name and a JSON object.
OF_CLIENTS: Dict[bytes, Type[Any]] = {
    b"a": Announced,
    b"f": RequestFailed,
    b"g": Gone,
    b"w": Waiting,
}
#: Messages of a JSON object.
PLAIN: Dict[bytes, Type[Any]] = {b"k": Broken, b"l": RowLost, b"x": Dropped, b"y": Ready}


def decode(frames: Sequence[Any]) -> Message:
    """The message in ``frames``; its arrays are read-only views of them.

    Raises ValueError: the peers are processes of the same version, so that is a bug.
    """
    head = bytes(frames[0])
    kind = head[:1]
    if kind == b"b":
        _, alone, batch_id, rows = BATCH.unpack_from(head)
        features = np.frombuffer(frames[1], np.int32).reshape(3, -1)
        poolings = poolings_of(bytes(frames[2])) if len(frames) > 2 else {}
        return BatchMessage(
            batch_id, *provenance(head, BATCH.size, rows), features, alone, poolings
        )
    if kind == b"p":
        _, per_token, rows, dtype, *shape, began, ends, worker = PART.unpack_from(head)
        dtype = dtype.rstrip(b"\0").decode("ascii")
        vectors = np.frombuffer(frames[1], np.dtype(dtype)).reshape(shape)
        rows_of = provenance(head, PART.size, rows)
        return Part(*rows_of, vectors, per_token, began, ends, name_of(worker))
    if kind == b"d":
        return Done(tuple((one, name_of(name)) for one, name in DONE.iter_unpack(head[1:])))
    if kind == b"r":
        return _registered(head, frames)
    if kind in OF_CLIENTS:
        return OF_CLIENTS[kind](client=bytes(frames[1]), **values_of(head))
    if kind in PLAIN:
        return PLAIN[kind](**values_of(head))
    if kind == b"i":
        return Info(client=bytes(frames[1]), info=bytes(frames[2]), **values_of(head))
    raise ValueError("unknown internal message %r" % head)


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
