"""Messages of batches: from the ventilator to workers, from there to the sink, and what became of
them. Pure; :mod:`bert_serving.server.messages` says how they travel.
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

__all__ = ["BatchMessage", "Broken", "Done", "OfBatches", "Part", "Ready", "decode_of_batches"]

#: What stands in frames of fixed places, mostly behind the first letter. Where arrays follow (the
#: rows' provenance, behind BATCH and PART), they are aligned.
BATCH = struct.Struct("=c?6xqq")  # alone, batch, rows
PART = struct.Struct("=c?6xq8sqqdq32s")  # per token, rows, dtype, shape, began, batch, worker
DONE = struct.Struct("=q32s")  # batch, worker


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


OfBatches = Union[BatchMessage, Part, Ready, Done, Broken]

#: Messages of a JSON object.
PLAIN: Dict[bytes, Type[Any]] = {b"k": Broken, b"y": Ready}


def decode_of_batches(head: bytes, frames: Sequence[Any]) -> Optional[OfBatches]:
    """The message in ``frames``, the first of which is ``head``; None if it is of another kind."""
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
    return PLAIN[kind](**values_of(head)) if kind in PLAIN else None
