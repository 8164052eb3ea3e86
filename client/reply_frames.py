"""How replies travel from the server to a client: their ZeroMQ frames.

Pure: no socket, no clock. Requests are in ``frames.py``, and docs/protocol.md has both.

::

    vectors   [topic, info, array, request_id]        server XPUB -> client SUB
    info      [topic, json, request_id]               answer to a command
    error     [topic, info, b"", request_id]          info["dtype"] is no dtype

``topic`` is the identity and a NUL byte (see ``protocol.topic_of``). The array is raw,
little-endian and C-ordered; its dtype and shape stand in ``info``, a JSON object. To requests of
protocol 2 it also has what ``protocol.Details`` and, in streams, ``protocol.Part`` hold.

A 1.10 client knows no error frame, but raises whatever numpy raises for a dtype that it can't
parse, with that dtype in the message. An error reply therefore carries its text as the dtype,
and beside it, for clients that know better, an ``error`` object with a kind and a message.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from bert_serving.client.frames import Frame, read_digits
from bert_serving.client.protocol import (
    Details,
    ErrorReply,
    InfoReply,
    MalformedMessage,
    Part,
    Reply,
    Timings,
    VectorsReply,
    identity_of,
    topic_of,
)

__all__ = ["decode_reply", "dtype_name", "error_frames", "info_frames", "vectors_frames"]

_DTYPE = re.compile(r"float(16|32|64)|u?int(8|16|32|64)|bool|<?[fiu][1248]")


def vectors_frames(
    identity: bytes,
    request_id: int,
    array: np.ndarray,
    tokens: Optional[bytes] = None,
    details: Optional[Details] = None,
    part: Optional[Part] = None,
    offsets: Optional[bytes] = None,
) -> List[Any]:
    """The frames of vectors; the array's buffer itself is one of them, not a copy.

    ``tokens`` is the JSON of a list (a row each) of lists of strings, if the client is to have
    them; 1.10 sends an empty string if not. ``offsets`` stand for ``details.offsets``: JSON, since
    that is how the server has them.
    """
    info = b'{"dtype":"%s","shape":[%s],"tokens":%s%s%s%s}' % (
        dtype_name(array.dtype),
        b",".join(b"%d" % size for size in array.shape),
        b'""' if tokens is None else tokens,
        b"" if details is None else _details_json(details),
        b"" if offsets is None else b',"offsets":' + offsets,
        b"" if part is None else _part_json(part),
    )
    buffer = np.ascontiguousarray(array).data.cast("B") if array.size else b""
    return [topic_of(identity), info, buffer, b"%d" % request_id]


def _details_json(details: Details) -> bytes:
    text = b',"num_tokens":%d,"truncated":[%s]' % (
        details.num_tokens,
        b",".join(b"%d" % row for row in details.truncated),
    )
    if details.failed:
        text += b',"failed":' + json.dumps(details.failed).encode("ascii")
    if details.model is not None:
        text += _model_json(details.model)
    if details.timings is None:
        return text
    names = b',"timings":{"tokenize":%.6f,"queue":%.6f,"compute":%.6f,"total":%.6f}'
    return text + names % tuple(details.timings)


@lru_cache(maxsize=8)
def _model_json(model: str) -> bytes:
    """The same with every reply."""
    return b',"model":' + json.dumps(model).encode("ascii")


def _part_json(part: Part) -> bytes:
    rows = b",".join(b"%d" % row for row in part.rows)
    return b',"rows":[%s],"last":%s' % (rows, b"true" if part.is_last else b"false")


@lru_cache(maxsize=None)
def dtype_name(dtype: np.dtype) -> bytes:
    """Its name, which numpy makes up anew each time that it is asked."""
    return dtype.name.encode("ascii")


def info_frames(identity: bytes, request_id: int, info: bytes) -> List[bytes]:
    """The frames that answer a command; ``info`` is a JSON object."""
    return [topic_of(identity), info, b"%d" % request_id]


def error_frames(
    identity: bytes,
    request_id: int,
    kind: str,
    message: str,
    retry_after: Optional[float] = None,
) -> List[bytes]:
    """The frames of an error, readable by clients of both protocols (module docstring)."""
    # A lone surrogate, which a message may quote from a text, can be shown but not encoded.
    message = message.encode("utf-8", "backslashreplace").decode("utf-8")
    error: Dict[str, Any] = {"kind": kind, "message": message}
    if retry_after is not None:
        error["retry_after"] = retry_after
    info = {
        "dtype": "error from the server (%s): %s" % (kind, message),
        "shape": [0],
        "tokens": "",
        "error": error,
    }
    encoded = json.dumps(info).encode("utf-8")
    return [topic_of(identity), encoded, b"", b"%d" % request_id]


def decode_reply(frames: Sequence[Frame]) -> Reply:
    """The reply in ``frames``, of this server or of a real 1.10 one.

    The array of a VectorsReply is read-only and shares the frame's memory. Raises
    MalformedMessage.
    """
    if len(frames) not in (3, 4):
        raise MalformedMessage("a reply has 3 or 4 frames, but this one has %d" % len(frames))
    identity = identity_of(bytes(frames[0]))
    request_id = read_digits(frames[-1], "request id", identity, None)
    try:
        info: Dict[str, Any] = json.loads(bytes(frames[1]).decode("utf-8", "surrogatepass"))
        if not isinstance(info, dict):
            raise TypeError("it is %s, not an object" % type(info).__name__)
        if len(frames) == 3:
            return InfoReply(request_id, info)
        if "error" in info:
            return _error(request_id, info["error"])
        return _vectors(request_id, info, frames[2])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise MalformedMessage(
            "the server's reply can't be read: %s" % error, identity, request_id
        ) from error


def _error(request_id: int, error: Any) -> ErrorReply:
    if not isinstance(error, dict):
        raise TypeError("its error is %s, not an object" % type(error).__name__)
    retry_after = error.get("retry_after")
    seconds = None if retry_after is None else float(retry_after)
    return ErrorReply(
        request_id,
        str(error["kind"]),
        str(error["message"]),
        seconds if seconds is not None and 0 <= seconds < math.inf else None,
    )


def _vectors(request_id: int, info: Mapping[str, Any], content: Frame) -> VectorsReply:
    array = np.frombuffer(content, dtype=_dtype(info["dtype"]))
    array.setflags(write=False)
    array = array.reshape(_shape(info["shape"], array.size))
    tokens = info.get("tokens", "")
    if not isinstance(tokens, (str, list)):
        raise TypeError("its tokens are %s, no list" % type(tokens).__name__)
    if "num_tokens" not in info:
        return VectorsReply(request_id, array, tokens)
    timings = info.get("timings")
    details = Details(
        int(info["num_tokens"]),
        tuple(map(int, info["truncated"])),
        None if timings is None else Timings(*(float(timings[name]) for name in Timings._fields)),
        info.get("offsets"),
        {int(row): str(message) for row, message in info.get("failed", {}).items()},
        _model(info.get("model")),
    )
    part = Part(_rows(info["rows"]), bool(info["last"])) if "rows" in info else None
    if part is not None:
        _check_part(part, array, tokens, details.offsets)
    return VectorsReply(request_id, array, tokens, details, part)


def _dtype(name: Any) -> np.dtype:
    """Numpy makes a dtype of much more, also one whose values take no memory."""
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError("its vectors have the dtype %.80r" % (name,))
    return np.dtype(name)


def _shape(shape: Any, count: int) -> List[int]:
    """The shape of ``count`` numbers; no rows without numbers, since there can be any number."""
    if not isinstance(shape, list) or not all(map(_is_size, shape)):
        raise ValueError("its vectors have the shape %.80r" % (shape,))
    if count == 0 and (not shape or shape[0] != 0):
        raise ValueError("it has no vectors, but the shape %s" % shape)
    sizes: List[int] = shape
    return sizes


def _model(model: Any) -> Optional[str]:
    if model is not None and not isinstance(model, str):
        raise TypeError("its model is %s, no string" % type(model).__name__)
    return model


def _rows(rows: Any) -> List[int]:
    if not isinstance(rows, list) or not all(map(_is_size, rows)):
        raise ValueError("its rows are no list of numbers")
    return list(rows)


def _check_part(part: Part, array: np.ndarray, tokens: Any, offsets: Any) -> None:
    """Parts are taken apart by their rows, and put together."""
    rows = len(part.rows)
    if rows != len(array):
        raise ValueError("it has %d rows, but vectors of %d" % (rows, len(array)))
    for name, values in (("tokens", tokens), ("offsets", offsets)):
        if values not in ("", None) and (not isinstance(values, list) or len(values) != rows):
            raise ValueError("its %s are no list of %d" % (name, rows))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
