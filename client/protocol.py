"""Messages between a client and the server, and who is who.

Pure values; :mod:`bert_serving.client.frames` says how they travel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from bert_serving.client.options import Options

__all__ = [
    "PROTOCOL",
    "SHOW_CONFIG",
    "SHOW_STATUS",
    "TERMINATION",
    "RELOAD",
    "CANCEL",
    "COMMANDS",
    "ErrorKind",
    "MalformedMessage",
    "Request",
    "Timings",
    "Details",
    "Part",
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
#: Load the model again. Ours; 1.10 has no such command.
RELOAD = b"RELOAD"
SHOW_CONFIG = b"SHOW_CONFIG"
SHOW_STATUS = b"SHOW_STATUS"
#: The request whose id this one has is no longer wanted; nothing is answered. Protocol 2.
CANCEL = b"CANCEL"
COMMANDS = frozenset((TERMINATION, RELOAD, SHOW_CONFIG, SHOW_STATUS, CANCEL))

#: ZeroMQ allows routing ids of at most 255 bytes; one byte is kept for the topic's NUL.
MAX_IDENTITY_BYTES = 254

Texts = Union[List[str], List[List[str]]]


class ErrorKind:
    """What an error reply is about: whose fault it is, and whether asking again can help."""

    BAD_REQUEST = "bad_request"  # the request itself is wrong; the same one fails again
    TOO_LONG = "too_long"  # a text is, and the request forbids to cut it
    DEADLINE = "deadline"  # the time that the client allowed has passed
    OVERLOADED = "overloaded"  # too much waits; ask again later
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
    """One request: ``payload`` is a command or the JSON of ``rows`` texts.

    ``options`` are None in protocol 1. ``admin_token`` is for commands that not everybody may give,
    and a secret.
    """

    identity: bytes
    payload: bytes
    request_id: int
    rows: int = 0
    options: Optional[Options] = None
    admin_token: Optional[str] = field(default=None, repr=False)

    @property
    def name(self) -> Tuple[bytes, int]:
        """Whose it is and its id: what a reply is addressed to."""
        return self.identity, self.request_id

    @property
    def is_command(self) -> bool:
        return self.payload in COMMANDS

    @property
    def timeout(self) -> Optional[float]:
        """Seconds after which the client no longer waits; None: it waits as long as it takes."""
        return None if self.options is None else self.options.timeout


class Timings(NamedTuple):
    """Seconds from a request's acceptance until its texts were tokenized (``tokenize``), its first
    batch was begun (``queue``) and the reply was made (``total``); and from that first batch's
    beginning to the last one's end (``compute``).
    """

    tokenize: float
    queue: float
    compute: float
    total: float


class Details(NamedTuple):
    """What protocol 2 says of a request beside its vectors.

    ``num_tokens`` counts what was computed, special tokens included; ``truncated`` are the rows
    that were cut; ``offsets`` has for each row the first character of each token and the one behind
    its last, (0, 0) for special tokens. ``failed`` says of rows that can't be computed why; their
    vectors are zeros. ``model`` is the fingerprint of the model that computed all; None: the server
    doesn't say. In a part, the first and the last are of the whole request, the others of the
    part's rows.
    """

    num_tokens: int = 0
    truncated: Tuple[int, ...] = ()
    timings: Optional[Timings] = None
    offsets: Optional[List[List[List[int]]]] = None
    failed: Mapping[int, str] = {}
    model: Optional[str] = None


class Part(NamedTuple):
    """Which rows of a streamed request a reply has, and whether it is the last one."""

    rows: List[int]
    is_last: bool


@dataclass(frozen=True)
class VectorsReply:
    """Vectors of a whole request: [rows, dimension], or [rows, sequence length, dimension]; with a
    ``part`` those of some of its rows, in that order. ``details`` are None in protocol 1.
    """

    request_id: int
    array: np.ndarray
    tokens: Union[str, List[List[str]]] = ""
    details: Optional[Details] = None
    part: Optional[Part] = None


@dataclass(frozen=True)
class InfoReply:
    """The answer to SHOW_CONFIG or SHOW_STATUS."""

    request_id: int
    info: Mapping[str, Any]


@dataclass(frozen=True)
class ErrorReply:
    """The request failed; ``kind`` is one of :class:`ErrorKind`. ``retry_after`` are seconds after
    which asking again may help, if that is known.
    """

    request_id: int
    kind: str
    message: str
    retry_after: Optional[float] = None


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
