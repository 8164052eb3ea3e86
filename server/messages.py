"""Messages between the server's own processes, and their frames.

Pure. Numbers that describe a message are JSON, arrays are raw bytes in frames of their own, and
nothing is ever pickled. Texts stop at the ventilator and vectors start at the workers::

    ventilator -> worker   Batch
    worker -> ventilator   Ready, Done, Broken
    worker -> sink         Part
    ventilator -> sink     Registered, RequestFailed, Dropped, Info
    sink -> ventilator     Gone
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

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


@dataclass(frozen=True)
class BatchMessage:
    """Rows for a worker, packed one after another without padding."""

    batch_id: int
    handles: np.ndarray  # int64 [rows]: request that each row belongs to
    indices: np.ndarray  # int32 [rows]: place of each row in its request
    lengths: np.ndarray  # int32 [rows]
    features: np.ndarray  # int32 [3, tokens]: token ids, segment ids, attention mask

    def frames(self) -> List[Any]:
        arrays = (self.handles, self.indices, self.lengths, self.features)
        return [b"batch", _json(id=self.batch_id)] + [_buffer(array) for array in arrays]


@dataclass(frozen=True)
class Part:
    """Vectors of a batch: [rows, dimension], or for single tokens [tokens, dimension]."""

    handles: np.ndarray  # int64 [rows]
    indices: np.ndarray  # int32 [rows]
    lengths: np.ndarray  # int32 [rows]: tokens of each row
    vectors: np.ndarray
    per_token: bool

    def frames(self) -> List[Any]:
        head = _json(
            dtype=self.vectors.dtype.name,
            shape=list(self.vectors.shape),
            per_token=self.per_token,
        )
        arrays = (self.handles, self.indices, self.lengths, self.vectors)
        return [b"part", head] + [_buffer(array) for array in arrays]


@dataclass(frozen=True)
class Ready:
    """A worker can hold ``credits`` batches at a time."""

    credits: int

    def frames(self) -> List[Any]:
        return [b"ready", _json(credits=self.credits)]


@dataclass(frozen=True)
class Done:
    """A batch's vectors are on their way to the sink."""

    batch_id: int

    def frames(self) -> List[Any]:
        return [b"done", _json(id=self.batch_id)]


@dataclass(frozen=True)
class Broken:
    """The engine failed on a batch."""

    batch_id: int
    message: str

    def frames(self) -> List[Any]:
        return [b"broken", _json(id=self.batch_id, message=self.message)]


@dataclass(frozen=True)
class Registered:
    """A request is tokenized: what the sink needs besides the vectors.

    ``padded_length`` is the sequence length of a result with a vector a token; ``tokens`` the
    JSON of the tokens, if the client is to have them.
    """

    handle: int
    client: bytes
    request_id: int
    rows: int
    padded_length: int
    tokens: Optional[bytes] = None

    def frames(self) -> List[Any]:
        head = _json(
            handle=self.handle,
            request_id=self.request_id,
            rows=self.rows,
            padded_length=self.padded_length,
        )
        return [b"registered", head, self.client] + ([self.tokens] if self.tokens else [])


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
            handle=self.handle, request_id=self.request_id, kind=self.kind, message=self.message
        )
        return [b"failed", head, self.client]


@dataclass(frozen=True)
class Dropped:
    """Nobody waits for this request any more."""

    handle: int

    def frames(self) -> List[Any]:
        return [b"dropped", _json(handle=self.handle)]


@dataclass(frozen=True)
class Info:
    """The answer to a command: a JSON object, passed on as it is."""

    client: bytes
    request_id: int
    info: bytes

    def frames(self) -> List[Any]:
        return [b"info", _json(request_id=self.request_id), self.client, self.info]


@dataclass(frozen=True)
class Gone:
    """A client has stopped listening."""

    client: bytes

    def frames(self) -> List[Any]:
        return [b"gone", self.client]


Message = Union[
    BatchMessage, Part, Ready, Done, Broken, Registered, RequestFailed, Dropped, Info, Gone
]


def decode(frames: Sequence[Any]) -> Message:
    """The message in ``frames``; its arrays are read-only views of them.

    Raises ValueError: the peers are processes of the same version, so that is a bug.
    """
    kind = bytes(frames[0])
    if kind == b"gone":
        return Gone(bytes(frames[1]))
    head: Dict[str, Any] = json.loads(bytes(frames[1]))
    if kind == b"batch":
        handles, indices, lengths = _provenance(frames)
        features = np.frombuffer(frames[5], np.int32).reshape(3, -1)
        return BatchMessage(head["id"], handles, indices, lengths, features)
    if kind == b"part":
        handles, indices, lengths = _provenance(frames)
        vectors = np.frombuffer(frames[5], np.dtype(head["dtype"])).reshape(head["shape"])
        return Part(handles, indices, lengths, vectors, head["per_token"])
    if kind == b"ready":
        return Ready(head["credits"])
    if kind == b"done":
        return Done(head["id"])
    if kind == b"broken":
        return Broken(head["id"], head["message"])
    if kind == b"registered":
        return Registered(
            client=bytes(frames[2]), tokens=bytes(frames[3]) if len(frames) > 3 else None, **head
        )
    if kind == b"failed":
        return RequestFailed(client=bytes(frames[2]), **head)
    if kind == b"dropped":
        return Dropped(head["handle"])
    if kind == b"info":
        return Info(bytes(frames[2]), head["request_id"], bytes(frames[3]))
    raise ValueError("unknown internal message %r" % kind)


def _provenance(frames: Sequence[Any]) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.frombuffer(frames[2], np.int64),
        np.frombuffer(frames[3], np.int32),
        np.frombuffer(frames[4], np.int32),
    )


def _json(**values: Any) -> bytes:
    return json.dumps(values).encode("ascii")


def _buffer(array: np.ndarray) -> Any:
    """The array's own memory as a frame; an empty array has none to lend."""
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""
