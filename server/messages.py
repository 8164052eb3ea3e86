"""Messages between the server's own processes, and their frames.

Pure. Nothing is ever pickled. The first frame begins with a letter for the kind of message; the
numbers that follow have fixed places in messages that come with every request or batch, and are
JSON in the others. Large arrays are raw bytes in frames of their own. Texts stop at the
ventilator and vectors start at the workers::

    ventilator -> worker   Batch
    worker -> ventilator   Ready, Done, Broken
    worker -> sink         Part
    ventilator -> sink     Registered, RequestFailed, Dropped, Info
    sink -> ventilator     Gone
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from bert_serving.client.frames import dtype_name

__all__ = [
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
    "decode",
]


#: The first letter, and what stands behind it. Where arrays follow, they are aligned.
BATCH = struct.Struct("=c?6xqq")  # alone, batch, rows; then the rows' provenance
PART = struct.Struct("=c?6xq8sqq")  # per token, rows, dtype, shape; then the rows' provenance
DONE = struct.Struct("=cq")  # batch
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

    def frames(self) -> List[Any]:
        head = BATCH.pack(b"b", self.alone, self.batch_id, len(self.handles))
        provenance = _provenance_bytes(self.handles, self.indices, self.lengths)
        return [head + provenance, _buffer(self.features)]


@dataclass(frozen=True)
class Part:
    """Vectors of a batch: [rows, dimension], or for single tokens [tokens, dimension]."""

    handles: np.ndarray  # int64 [rows]
    indices: np.ndarray  # int32 [rows]
    lengths: np.ndarray  # int32 [rows]: tokens of each row
    vectors: np.ndarray
    per_token: bool

    def frames(self) -> List[Any]:
        vectors = self.vectors
        dtype, rows = dtype_name(vectors.dtype), len(self.handles)
        head = PART.pack(b"p", self.per_token, rows, dtype, *vectors.shape)
        provenance = _provenance_bytes(self.handles, self.indices, self.lengths)
        return [head + provenance, _buffer(vectors)]


@dataclass(frozen=True)
class Ready:
    """A worker can hold ``credits`` batches at a time, and computes ``streams`` of them."""

    credits: int
    streams: int = 1

    def frames(self) -> List[Any]:
        return [_json(b"y", credits=self.credits, streams=self.streams)]


@dataclass(frozen=True)
class Done:
    """A batch's vectors are on their way to the sink."""

    batch_id: int

    def frames(self) -> List[Any]:
        return [DONE.pack(b"d", self.batch_id)]


@dataclass(frozen=True)
class Broken:
    """The engine failed on a batch."""

    batch_id: int
    message: str

    def frames(self) -> List[Any]:
        return [_json(b"k", batch_id=self.batch_id, message=self.message)]


@dataclass(frozen=True)
class Registered:
    """A request is tokenized: what the sink needs besides the vectors.

    ``padded_length`` is the sequence length of a result with a vector a token, 0 of others;
    ``tokens`` the JSON of the tokens, if the client is to have them.
    """

    handle: int
    client: bytes
    request_id: int
    rows: int
    padded_length: int
    tokens: Optional[bytes] = None

    def frames(self) -> List[Any]:
        digits = b"%d" % self.request_id  # which may be larger than any field for numbers
        head = REGISTERED.pack(b"r", self.handle, digits, self.rows, self.padded_length)
        return [head, self.client] + ([self.tokens] if self.tokens else [])


@dataclass(frozen=True)
class RequestFailed:
    """A request ends in an error; ``handle`` is None if it was never accepted."""

    handle: Optional[int]
    client: bytes
    request_id: int
    kind: str
    message: str

    def frames(self) -> List[Any]:
        head = _json(
            b"f",
            handle=self.handle,
            request_id=self.request_id,
            kind=self.kind,
            message=self.message,
        )
        return [head, self.client]


@dataclass(frozen=True)
class Dropped:
    """Nobody waits for this request any more."""

    handle: int

    def frames(self) -> List[Any]:
        return [_json(b"x", handle=self.handle)]


@dataclass(frozen=True)
class Info:
    """The answer to a command: a JSON object, passed on as it is."""

    client: bytes
    request_id: int
    info: bytes

    def frames(self) -> List[Any]:
        return [_json(b"i", request_id=self.request_id), self.client, self.info]


@dataclass(frozen=True)
class Gone:
    """A client has stopped listening."""

    client: bytes

    def frames(self) -> List[Any]:
        return [b"g", self.client]


Message = Union[
    BatchMessage, Part, Ready, Done, Broken, Registered, RequestFailed, Dropped, Info, Gone
]


def decode(frames: Sequence[Any]) -> Message:
    """The message in ``frames``; its arrays are read-only views of them.

    Raises ValueError: the peers are processes of the same version, so that is a bug.
    """
    head = bytes(frames[0])
    kind = head[:1]
    if kind == b"b":
        _, alone, batch_id, rows = BATCH.unpack_from(head)
        features = np.frombuffer(frames[1], np.int32).reshape(3, -1)
        return BatchMessage(batch_id, *_provenance(head, BATCH.size, rows), features, alone)
    if kind == b"p":
        _, per_token, rows, dtype, *shape = PART.unpack_from(head)
        dtype = dtype.rstrip(b"\0").decode("ascii")
        vectors = np.frombuffer(frames[1], np.dtype(dtype)).reshape(shape)
        return Part(*_provenance(head, PART.size, rows), vectors, per_token)
    if kind == b"d":
        return Done(DONE.unpack(head)[1])
    if kind == b"r":
        _, handle, digits, rows, padded_length = REGISTERED.unpack(head)
        tokens = bytes(frames[2]) if len(frames) > 2 else None
        client, request_id = bytes(frames[1]), int(digits.rstrip(b"\0"))
        return Registered(handle, client, request_id, rows, padded_length, tokens)
    if kind == b"g":
        return Gone(bytes(frames[1]))
    if kind == b"y":
        return Ready(**_values(head))
    if kind == b"k":
        return Broken(**_values(head))
    if kind == b"f":
        return RequestFailed(client=bytes(frames[1]), **_values(head))
    if kind == b"x":
        return Dropped(**_values(head))
    if kind == b"i":
        return Info(client=bytes(frames[1]), info=bytes(frames[2]), **_values(head))
    raise ValueError("unknown internal message %r" % head)


def _provenance_bytes(handles: np.ndarray, indices: np.ndarray, lengths: np.ndarray) -> bytes:
    return handles.tobytes() + indices.tobytes() + lengths.tobytes()


def _provenance(head: bytes, start: int, rows: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.frombuffer(head, np.int64, rows, start),
        np.frombuffer(head, np.int32, rows, start + 8 * rows),
        np.frombuffer(head, np.int32, rows, start + 12 * rows),
    )


def _json(letter: bytes, **values: Any) -> bytes:
    return letter + json.dumps(values).encode("ascii")


def _values(head: bytes) -> Dict[str, Any]:
    values: Dict[str, Any] = json.loads(head[1:])
    return values


def _buffer(array: np.ndarray) -> Any:
    """The array's own memory as a frame; an empty array has none to lend."""
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""
