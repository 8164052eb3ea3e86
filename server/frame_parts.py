"""What messages between the server's processes are put together from: arrays and values as bytes.

Pure; :mod:`bert_serving.server.messages` says what lies where.
"""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any, Dict, Mapping, Tuple

import numpy as np

from bert_serving.server.pooling import Pooling

__all__ = [
    "buffer_of",
    "json_frame",
    "name_bytes",
    "name_of",
    "own_memory",
    "poolings_bytes",
    "poolings_of",
    "provenance",
    "provenance_bytes",
    "values_of",
]

MAX_NAME = 32


def provenance_bytes(handles: np.ndarray, indices: np.ndarray, lengths: np.ndarray) -> bytes:
    """Where each row comes from and its length: int64, int32 and int32 [rows]."""
    return handles.tobytes() + indices.tobytes() + lengths.tobytes()


def provenance(head: bytes, start: int, rows: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What :func:`provenance_bytes` made, from place ``start`` on."""
    return (
        np.frombuffer(head, np.int64, rows, start),
        np.frombuffer(head, np.int32, rows, start + 8 * rows),
        np.frombuffer(head, np.int32, rows, start + 12 * rows),
    )


def poolings_bytes(poolings: Mapping[int, Pooling]) -> bytes:
    """Rare, so in JSON: the fields of a pooling, behind the request that it is of."""
    values = [[handle, *astuple(pooling)] for handle, pooling in poolings.items()]
    return json.dumps(values).encode("ascii")


def poolings_of(text: bytes) -> Dict[int, Pooling]:
    """What :func:`poolings_bytes` made."""
    return {
        handle: Pooling(strategy, tuple(layers), normalize)
        for handle, strategy, layers, normalize in json.loads(text)
    }


def json_frame(letter: bytes, **values: Any) -> bytes:
    """A message's letter and its values."""
    return letter + json.dumps(values).encode("ascii")


def values_of(head: bytes) -> Dict[str, Any]:
    """The values behind the letter."""
    values: Dict[str, Any] = json.loads(head[1:])
    return values


def name_bytes(worker: str) -> bytes:
    """A worker's name, for a field of MAX_NAME bytes."""
    name = worker.encode("ascii")
    assert len(name) <= MAX_NAME, "struct would cut it"
    return name


def name_of(field: bytes) -> str:
    """The name in such a field."""
    return field.rstrip(b"\0").decode("ascii")


def buffer_of(array: np.ndarray) -> Any:
    """The array's own memory as a frame; an empty array has none to lend."""
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""


def own_memory(frame: Any) -> Any:
    """The frame, or a copy if it is less than half of the array whose memory it keeps: a few rows
    of a batch, which is many others' too.
    """
    if isinstance(frame, bytes) or not isinstance(frame.obj, np.ndarray):
        return frame
    whole = frame.obj
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    return bytes(frame) if 2 * len(frame) < whole.nbytes else frame
