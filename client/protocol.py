"""Messages between a client and the server, and who is who.

Pure values; :mod:`bert_serving.client.frames` says how they travel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Union

import numpy as np

__all__ = [
    "PROTOCOL",
    "SHOW_CONFIG",
    "SHOW_STATUS",
    "TERMINATION",
    "COMMANDS",
    "ErrorKind",
    "MalformedMessage",
    "Request",
    "VectorsReply",
    "InfoReply",
    "ErrorReply",
    "Reply",
    "Texts",
    "check_identity",
    "topic_of",
    "identity_of",
    "shorten",
]

PROTOCOL = 2

TERMINATION = b"TERMINATION"
SHOW_CONFIG = b"SHOW_CONFIG"
SHOW_STATUS = b"SHOW_STATUS"
COMMANDS = frozenset((TERMINATION, SHOW_CONFIG, SHOW_STATUS))

#: ZeroMQ allows routing ids of at most 255 bytes; one byte is kept for the topic's NUL.
MAX_IDENTITY_BYTES = 254

Texts = Union[List[str], List[List[str]]]


class ErrorKind:
    """What an error reply is about: whose fault it is, and whether asking again can help."""

    BAD_REQUEST = "bad_request"  # the request itself is wrong; the same one fails again
    DEADLINE = "deadline"  # the time that the client allowed has passed
    SHUTTING_DOWN = "shutting_down"  # the server stops; ask another one, or this one later
    WORKER_FAILED = "worker_failed"  # the engine failed on this request, also when tried again
    INTERNAL = "internal"  # a bug of the server's


class MalformedMessage(ValueError):
    """Frames that are no message of this protocol.

    ``identity`` and ``request_id`` tell where an error reply can be sent; they are None when the
    frames don't say.
    """

    def __init__(
        self, message: str, identity: Optional[bytes] = None, request_id: Optional[int] = None
    ) -> None:
        super().__init__(message)
        self.identity = identity
        self.request_id = request_id


@dataclass(frozen=True)
class Request:
    """One request: ``payload`` is a command or the JSON of ``rows`` texts."""

    identity: bytes
    payload: bytes
    request_id: int
    rows: int = 0
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_command(self) -> bool:
        return self.payload in COMMANDS

    @property
    def timeout(self) -> Optional[float]:
        """Seconds after which the client no longer waits; None: it waits as long as it takes."""
        value = self.header.get("timeout")
        return None if value is None else float(value)


@dataclass(frozen=True)
class VectorsReply:
    """Vectors of a whole request: [rows, dimension], or [rows, sequence length, dimension]."""

    request_id: int
    array: np.ndarray
    tokens: Union[str, List[List[str]]] = ""


@dataclass(frozen=True)
class InfoReply:
    """The answer to SHOW_CONFIG or SHOW_STATUS."""

    request_id: int
    info: Mapping[str, Any]


@dataclass(frozen=True)
class ErrorReply:
    """The request failed; ``kind`` is one of :class:`ErrorKind`."""

    request_id: int
    kind: str
    message: str


Reply = Union[VectorsReply, InfoReply, ErrorReply]


def topic_of(identity: bytes) -> bytes:
    """The first frame of every reply to ``identity``.

    ZeroMQ matches subscriptions by prefix: with bare identities, whoever subscribes to
    b"client-1" also reads the replies of b"client-10", and b"" those of everybody. The server
    turns each subscription into the topic of that identity; the NUL, which no identity may
    contain, makes the match exact, and a client's own prefix filter still lets it through.
    """
    return identity + b"\0"


def identity_of(topic: bytes) -> bytes:
    """The identity that :func:`topic_of` was given, or that a 1.10 server sends bare."""
    return topic[:-1] if topic.endswith(b"\0") else topic


def check_identity(identity: bytes) -> None:
    """Raise ValueError unless ``identity`` can name a client."""
    if not isinstance(identity, bytes):
        raise ValueError("identity must be bytes, but is %s" % type(identity).__name__)
    if not 0 < len(identity) <= MAX_IDENTITY_BYTES or b"\0" in identity:
        raise ValueError(
            "identity must have 1 to %d bytes, none of them NUL, but is %s"
            % (MAX_IDENTITY_BYTES, shorten(identity))
        )


def shorten(value: bytes, limit: int = 60) -> str:
    """Bytes as they are shown in a message."""
    return repr(value) if len(value) <= limit else "%r... (%d bytes)" % (value[:limit], len(value))
