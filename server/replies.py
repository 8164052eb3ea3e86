"""What :mod:`delivery` is told, its events, and what it answers, its actions. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Sequence, Union

__all__ = [
    "Action",
    "Blocked",
    "Event",
    "GoneAway",
    "Post",
    "Reply",
    "Send",
    "Sent",
    "Stalled",
    "Subscribed",
    "Tick",
    "Unsubscribed",
    "Waits",
]


class Reply(NamedTuple):
    """A reply, or a part of one, or an excuse for it, whose frames are made when it is sent.

    ``asks_again``: its client does, if the reply is lost with its connection.
    """

    request_id: bytes
    frames: Sequence[Any]
    size: int  # bytes
    is_excuse: bool = False
    asks_again: bool = True


class Post(NamedTuple):
    """A reply to deliver."""

    client: bytes
    reply: Reply


@dataclass(frozen=True)
class Subscribed:
    """A connection listens for the client's replies."""

    client: bytes


@dataclass(frozen=True)
class Unsubscribed:
    """A connection that listened for the client's replies no longer does."""

    client: bytes


@dataclass(frozen=True)
class Blocked:
    """The reply could not be sent: the client's pipe is full, or has large replies in it, of so
    many bytes.
    """

    client: bytes
    reply: Reply
    in_pipe: int = 0


class Sent(NamedTuple):
    """The reply handed out last for this client was sent."""

    client: bytes


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


class Send(NamedTuple):
    """Send the frames to the client now; answer with ``Sent`` or ``Blocked``."""

    client: bytes
    reply: Reply


@dataclass(frozen=True)
class GoneAway:
    """The client is gone; ``lost`` replies were thrown away."""

    client: bytes
    lost: int


@dataclass(frozen=True)
class Stalled:
    """The client listens and doesn't read, or too slowly; ``lost`` replies were thrown away."""

    client: bytes
    lost: int


class Waits(NamedTuple):
    """A reply whose client won't ask again waits for it here, or ``is_over``: does no longer."""

    client: bytes
    request_id: bytes
    is_over: bool


Event = Union[Post, Subscribed, Unsubscribed, Sent, Blocked, Tick]
Action = Union[Send, GoneAway, Stalled, Waits]
