"""How requests travel from a client to the server: their ZeroMQ frames.

Pure: no socket, no clock. The frames are those of bert-as-service 1.10, so that its clients go
on working; what protocol 2 adds stands in a frame that protocol 1 doesn't have. Replies are in
``reply_frames.py``, and docs/protocol.md has both.

::

    [identity, payload, request_id, rows]             client PUSH -> server PULL
    [identity, payload, request_id, rows, header]     protocol 2: header is a JSON object

``payload`` is a JSON list of strings (or of lists of strings, already tokenized or pairs), or the
exact name of a command. ``request_id`` and ``rows`` are decimal digits; CANCEL's id is that of the
request that is no longer wanted. ``options.py`` has what stands in the header; for commands that
only an administrator may give, also ``admin_token``, a string.
"""

from __future__ import annotations

import json
from typing import List, Optional, Sequence, Tuple, Union

from bert_serving.client.options import NO_OPTIONS, Options
from bert_serving.client.protocol import (
    MAX_IDENTITY_BYTES,
    MalformedMessage,
    Request,
    Texts,
    check_identity,
    shorten,
)

__all__ = [
    "encode_request",
    "decode_request",
    "encode_texts",
    "parse_texts",
    "read_digits",
]

#: 20 digits hold any unsigned 64-bit number.
MAX_DIGITS = 20
MAX_HEADER_BYTES = 64 * 1024
EMPTY_HEADER = b"{}"
#: The header's key that isn't one of the options.
ADMIN_TOKEN = "admin_token"

Frame = Union[bytes, bytearray, memoryview]


# ---------------------------------------------------------------------------------- requests


def encode_texts(texts: Texts) -> bytes:
    """The payload of an encode request."""
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def encode_request(request: Request) -> List[bytes]:
    """The frames of ``request``; four of them, as 1.10 sends, when it has no options."""
    frames = [
        request.identity,
        request.payload,
        b"%d" % request.request_id,
        b"%d" % request.rows,
    ]
    if request.options is not None or request.admin_token is not None:
        header = {} if request.options is None else request.options.to_header()
        if request.admin_token is not None:
            header[ADMIN_TOKEN] = request.admin_token
        frames.append(json.dumps(header).encode("utf-8") if header else EMPTY_HEADER)
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
    request_id = read_digits(frames[2], "request id", identity, None)
    rows = read_digits(frames[3], "number of rows", identity, request_id)
    options, admin_token = None, None
    if len(frames) == 5:
        options, admin_token = _parse_header(frames[4], identity, request_id)
    return Request(identity, bytes(frames[1]), request_id, rows, options, admin_token)


def parse_texts(request: Request) -> Tuple[Texts, bool]:
    """The texts of an encode request, and whether they are already tokenized.

    Raises MalformedMessage unless the payload is a JSON list of ``request.rows`` strings, or
    of as many lists of strings; with the option ``pairs``, of two strings each.
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
    if request.options is not None and request.options.pairs:
        is_tokenized, find_problem = False, _problem_with_pair
    elif isinstance(texts[0], list):
        is_tokenized, find_problem = True, _problem_with_tokens
    else:
        is_tokenized, find_problem = False, _problem_with_text
    for row, text in enumerate(texts):
        problem = find_problem(text)
        if problem:
            raise malformed("text %d %s" % (row, problem))
    return texts, is_tokenized


def _problem_with_text(text: object) -> Optional[str]:
    if isinstance(text, str):
        return None
    if isinstance(text, list):
        return "is a list of tokens, but text 0 is a string"
    return "must be a string, but is %s" % type(text).__name__


def _problem_with_tokens(text: object) -> Optional[str]:
    if not isinstance(text, list):
        return "must be a list of tokens, as text 0 is, but is %s" % type(text).__name__
    for position, token in enumerate(text):
        if not isinstance(token, str):
            return "must have strings as tokens, but token %d is %s" % (
                position,
                type(token).__name__,
            )
    return None


def _problem_with_pair(text: object) -> Optional[str]:
    if not isinstance(text, list):
        return "must be a pair, a list of two strings, but is %s" % type(text).__name__
    if len(text) != 2 or not all(isinstance(one, str) for one in text):
        return "must be a pair, a list of two strings, but has %d elements, of which %d are" % (
            len(text),
            sum(isinstance(one, str) for one in text),
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


def read_digits(frame: Frame, what: str, identity: bytes, request_id: Optional[int]) -> int:
    """The number in a frame; ``identity`` and ``request_id`` are for the MalformedMessage."""
    # Cut before the copy: the frame may be as large as the network allows.
    value = bytes(frame[: MAX_DIGITS + 1])
    if not value.isdigit() or len(value) > MAX_DIGITS:
        raise MalformedMessage(
            "the %s must be 1 to %d decimal digits, but is %s" % (what, MAX_DIGITS, shorten(value)),
            identity,
            request_id,
        )
    return int(value)


def _parse_header(frame: Frame, identity: bytes, request_id: int) -> Tuple[Options, Optional[str]]:
    """The options and the admin token. Messages quote nothing where the token may stand."""
    if frame == EMPTY_HEADER:
        return NO_OPTIONS, None
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
            "the header is not JSON: %s" % _shorten_text(str(error)), identity, request_id
        ) from error
    if not isinstance(header, dict):
        raise MalformedMessage(
            "the header must be a JSON object, but is %s" % type(header).__name__,
            identity,
            request_id,
        )
    admin_token = header.pop(ADMIN_TOKEN, None)
    if not isinstance(admin_token, (str, type(None))):
        raise MalformedMessage("the header's admin_token must be a string", identity, request_id)
    try:
        return Options.from_header(header), admin_token
    except ValueError as error:
        raise MalformedMessage(str(error), identity, request_id) from error


def _shorten_text(value: str, limit: int = 200) -> str:
    return value if len(value) <= limit else value[:limit] + "..."
