"""How messages between a client and the server travel: their ZeroMQ frames.

Pure: no socket, no clock. The frames are those of bert-as-service 1.10, so that its clients go
on working; what protocol 2 adds stands in places that protocol 1 doesn't read.

::

    request   [identity, payload, request_id, rows]             client PUSH -> server PULL
              [identity, payload, request_id, rows, header]     protocol 2: header is a JSON object
    vectors   [topic, info, array, request_id]                  server XPUB -> client SUB
    info      [topic, json, request_id]                         answer to a command
    error     [topic, info, b"", request_id]                    info["dtype"] is no dtype

``payload`` is a JSON list of strings (or of lists of strings, already tokenized), or the exact
name of a command. ``request_id`` and ``rows`` are decimal digits. ``topic`` is the identity and
a NUL byte (see ``protocol.topic_of``). The array is raw, little-endian and C-ordered; its dtype and
shape stand in ``info``.

A 1.10 client knows no error frame, but raises whatever numpy raises for a dtype that it can't
parse, with that dtype in the message. An error reply therefore carries its text as the dtype,
and beside it, for clients that know better, an ``error`` object with a kind and a message.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from bert_serving.client.protocol import (
    MAX_IDENTITY_BYTES,
    ErrorReply,
    InfoReply,
    MalformedMessage,
    Reply,
    Request,
    Texts,
    VectorsReply,
    check_identity,
    identity_of,
    shorten,
    topic_of,
)

__all__ = [
    "encode_request",
    "decode_request",
    "encode_texts",
    "parse_texts",
    "dtype_name",
    "vectors_frames",
    "info_frames",
    "error_frames",
    "decode_reply",
]

#: 20 digits hold any unsigned 64-bit number.
MAX_DIGITS = 20
MAX_HEADER_BYTES = 64 * 1024
#: Seconds; about 30 years.
MAX_TIMEOUT = 1e9

Frame = Union[bytes, bytearray, memoryview]


# ---------------------------------------------------------------------------------- requests


def encode_texts(texts: Texts) -> bytes:
    """The payload of an encode request."""
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def encode_request(request: Request) -> List[bytes]:
    """The frames of ``request``; four of them, as 1.10 sends, when there is no header."""
    frames = [
        request.identity,
        request.payload,
        b"%d" % request.request_id,
        b"%d" % request.rows,
    ]
    if request.header:
        frames.append(json.dumps(dict(request.header)).encode("utf-8"))
    return frames


def decode_request(frames: Sequence[Frame]) -> Request:
    """The request in ``frames``; the payload's JSON is left to :func:`parse_texts`.

    Raises MalformedMessage, with the sender in it as far as it can be told.
    """
    if len(frames) not in (4, 5):
        raise _malformed_count(frames)
    identity = bytes(frames[0])
    try:
        check_identity(identity)
    except ValueError as error:
        raise MalformedMessage(str(error)) from error
    request_id = _digits(frames[2], "request id", identity, None)
    rows = _digits(frames[3], "number of rows", identity, request_id)
    header: Mapping[str, Any] = {}
    if len(frames) == 5:
        header = _parse_header(frames[4], identity, request_id)
    return Request(identity, bytes(frames[1]), request_id, rows, header)


def parse_texts(request: Request) -> Tuple[Texts, bool]:
    """The texts of an encode request, and whether they are already tokenized.

    Raises MalformedMessage unless the payload is a JSON list of ``request.rows`` strings, or
    of as many lists of strings.
    """

    def malformed(message: str) -> MalformedMessage:
        return MalformedMessage(message, request.identity, request.request_id)

    try:
        texts = json.loads(request.payload.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise malformed(
            "the payload is neither a command nor JSON: %s (%s)"
            % (shorten(request.payload), _shorten_text(str(error)))
        ) from error
    if not isinstance(texts, list):
        raise malformed(
            "the payload must be a JSON list of texts, but is %s" % type(texts).__name__
        )
    if not texts:
        raise malformed("the list of texts is empty")
    if len(texts) != request.rows:
        raise malformed(
            "the request says that it has %d rows, but has %d texts" % (request.rows, len(texts))
        )
    is_tokenized = isinstance(texts[0], list)
    for row, text in enumerate(texts):
        problem = _problem_with_text(text, is_tokenized)
        if problem:
            raise malformed("text %d %s" % (row, problem))
    return texts, is_tokenized


def _problem_with_text(text: object, is_tokenized: bool) -> Optional[str]:
    if not is_tokenized:
        if isinstance(text, str):
            return None
        if isinstance(text, list):
            return "is a list of tokens, but text 0 is a string"
        return "must be a string, but is %s" % type(text).__name__
    if not isinstance(text, list):
        return "must be a list of tokens, as text 0 is, but is %s" % type(text).__name__
    for position, token in enumerate(text):
        if not isinstance(token, str):
            return "must have strings as tokens, but token %d is %s" % (
                position,
                type(token).__name__,
            )
    return None


def _malformed_count(frames: Sequence[Frame]) -> MalformedMessage:
    """Of a wrong number of frames: the sender, if the first and third frame can name one."""
    identity: Optional[bytes] = None
    request_id: Optional[int] = None
    if len(frames) >= 3:
        candidate, digits = bytes(frames[0]), bytes(frames[2])
        is_name = 0 < len(candidate) <= MAX_IDENTITY_BYTES and b"\0" not in candidate
        if is_name and digits.isdigit() and len(digits) <= MAX_DIGITS:
            identity, request_id = candidate, int(digits)
    return MalformedMessage(
        "a request has 4 frames, or 5 with a header, but this one has %d" % len(frames),
        identity,
        request_id,
    )


def _digits(frame: Frame, what: str, identity: bytes, request_id: Optional[int]) -> int:
    # Cut before the copy: the frame may be as large as the network allows.
    value = bytes(frame[: MAX_DIGITS + 1])
    if not value.isdigit() or len(value) > MAX_DIGITS:
        raise MalformedMessage(
            "the %s must be 1 to %d decimal digits, but is %s" % (what, MAX_DIGITS, shorten(value)),
            identity,
            request_id,
        )
    return int(value)


def _is_duration(value: object) -> bool:
    """Whether a value out of JSON, where numbers may be as large as they like, is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 < value <= MAX_TIMEOUT


def _parse_header(frame: Frame, identity: bytes, request_id: int) -> Mapping[str, Any]:
    if len(frame) > MAX_HEADER_BYTES:
        raise MalformedMessage(
            "the header has %d bytes; at most %d are allowed" % (len(frame), MAX_HEADER_BYTES),
            identity,
            request_id,
        )
    try:
        header = json.loads(bytes(frame).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(
            "the header is not JSON: %s" % shorten(bytes(frame)), identity, request_id
        ) from error
    if not isinstance(header, dict):
        raise MalformedMessage(
            "the header must be a JSON object, but is %s" % type(header).__name__,
            identity,
            request_id,
        )
    timeout = header.get("timeout")
    if timeout is not None and not _is_duration(timeout):
        raise MalformedMessage(
            "the header's timeout must be a positive number of seconds, but is %s"
            % _shorten_text(repr(timeout)),
            identity,
            request_id,
        )
    return header


# ----------------------------------------------------------------------------------- replies


def vectors_frames(
    identity: bytes, request_id: int, array: np.ndarray, tokens: Optional[bytes] = None
) -> List[Any]:
    """The frames of vectors; the array's buffer itself is one of them, not a copy.

    ``tokens`` is the JSON of a list (a row each) of lists of strings, if the client is to have
    them; 1.10 sends an empty string if not.
    """
    info = b'{"dtype":"%s","shape":[%s],"tokens":%s}' % (
        dtype_name(array.dtype),
        b",".join(b"%d" % size for size in array.shape),
        b'""' if tokens is None else tokens,
    )
    buffer = np.ascontiguousarray(array).data.cast("B") if array.size else b""
    return [topic_of(identity), info, buffer, b"%d" % request_id]


@lru_cache(maxsize=None)
def dtype_name(dtype: np.dtype) -> bytes:
    """Its name, which numpy makes up anew each time that it is asked."""
    return dtype.name.encode("ascii")


def info_frames(identity: bytes, request_id: int, info: bytes) -> List[bytes]:
    """The frames that answer a command; ``info`` is a JSON object."""
    return [topic_of(identity), info, b"%d" % request_id]


def error_frames(identity: bytes, request_id: int, kind: str, message: str) -> List[bytes]:
    """The frames of an error, readable by clients of both protocols (module docstring)."""
    # A lone surrogate, which a message may quote from a text, can be shown but not encoded.
    message = message.encode("utf-8", "backslashreplace").decode("utf-8")
    info = {
        "dtype": "error from the server (%s): %s" % (kind, message),
        "shape": [0],
        "tokens": "",
        "error": {"kind": kind, "message": message},
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
    request_id = _digits(frames[-1], "request id", identity, None)
    try:
        info: Dict[str, Any] = json.loads(bytes(frames[1]).decode("utf-8", "surrogatepass"))
        if not isinstance(info, dict):
            raise TypeError("it is %s, not an object" % type(info).__name__)
        if len(frames) == 3:
            return InfoReply(request_id, info)
        if "error" in info:
            return ErrorReply(request_id, str(info["error"]["kind"]), str(info["error"]["message"]))
        array = np.frombuffer(frames[2], dtype=np.dtype(str(info["dtype"])))
        array.setflags(write=False)
        return VectorsReply(request_id, array.reshape(info["shape"]), info.get("tokens", ""))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MalformedMessage(
            "the server's reply can't be read: %s" % error, identity, request_id
        ) from error


def _shorten_text(value: str, limit: int = 200) -> str:
    return value if len(value) <= limit else value[:limit] + "..."
