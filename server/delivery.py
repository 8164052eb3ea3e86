"""Who listens for replies, and what waits for them.

Pure. A reply is sent when its client listens; until then it waits, for a subscription takes its
own way through the network and may come after the request. A client that stopped listening is
given a moment to come back, since a lost connection looks the same; then it counts as gone, and
its work is cancelled. A client whose pipe is full keeps its replies here, in order, and others
are served meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, List, NamedTuple, Sequence, Union

__all__ = [
    "Blocked",
    "Delivery",
    "GoneAway",
    "Post",
    "Send",
    "Sent",
    "Subscribed",
    "Tick",
    "Unsubscribed",
]

#: Seconds that replies wait for a client that has never listened.
WAIT_FOR_LISTENER = 30.0
#: Seconds after which a client that stopped listening counts as gone.
COME_BACK_WITHIN = 2.0


class Post(NamedTuple):
    """A reply to deliver."""

    client: bytes
    frames: Sequence[Any]


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
    """The reply could not be sent: the client's pipe is full."""

    client: bytes
    frames: Sequence[Any]


class Sent(NamedTuple):
    """The reply handed out last for this client was sent."""

    client: bytes


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


class Send(NamedTuple):
    """Send the frames to the client now; answer with ``Sent`` or ``Blocked``."""

    client: bytes
    frames: Sequence[Any]


@dataclass(frozen=True)
class GoneAway:
    """The client is gone; ``lost`` replies were thrown away."""

    client: bytes
    lost: int


Event = Union[Post, Subscribed, Unsubscribed, Sent, Blocked, Tick]
Action = Union[Send, GoneAway]


@dataclass
class _Client:
    listeners: int = 0
    absent_since: float = 0.0
    was_here: bool = False
    outbox: Deque[Sequence[Any]] = field(default_factory=deque)


class Delivery:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._clients: Dict[bytes, _Client] = {}
        self._absent: Dict[bytes, None] = {}
        self._blocked: Dict[bytes, None] = {}

    @property
    def waiting_replies(self) -> int:
        """How many replies could not be sent yet."""
        return sum(len(client.outbox) for client in self._clients.values())

    @property
    def waiting_for_listeners(self) -> int:
        """How many of these are for clients that listen."""
        return sum(len(c.outbox) for c in self._clients.values() if c.listeners)

    @property
    def listening_clients(self) -> int:
        """How many clients are connected."""
        return len(self._clients) - len(self._absent)

    @property
    def needs_ticks(self) -> bool:
        """Whether time alone can change anything."""
        return bool(self._absent or self._blocked)

    def handle(self, event: Event, now: float) -> List[Action]:
        """What follows from ``event``, at time ``now`` in seconds on any steady clock."""
        if isinstance(event, Post):
            return self._post(event, now)
        if isinstance(event, Subscribed):
            client = self._client(event.client, now)
            client.listeners += 1
            client.was_here = True
            self._absent.pop(event.client, None)
            return self._flush(event.client)
        if isinstance(event, Sent):
            return self._flush(event.client)
        if isinstance(event, Unsubscribed):
            client = self._client(event.client, now)
            client.listeners = max(0, client.listeners - 1)
            if client.listeners == 0:
                client.absent_since = now
                self._absent[event.client] = None
            return []
        if isinstance(event, Blocked):
            self._client(event.client, now).outbox.appendleft(event.frames)
            self._blocked[event.client] = None
            return []
        return self._tick(now)

    def _client(self, name: bytes, now: float) -> _Client:
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(absent_since=now)
            self._absent[name] = None
        return client

    def _post(self, event: Post, now: float) -> List[Action]:
        client = self._client(event.client, now)
        if client.listeners and not client.outbox:
            return [Send(event.client, event.frames)]
        client.outbox.append(event.frames)
        return []

    def _flush(self, name: bytes) -> List[Action]:
        """The first waiting reply; the next one follows when this one is sent."""
        client = self._clients[name]
        self._blocked.pop(name, None)
        if not client.outbox or not client.listeners:
            return []
        return [Send(name, client.outbox.popleft())]

    def _tick(self, now: float) -> List[Action]:
        actions: List[Action] = []
        for name in list(self._blocked):
            actions += self._flush(name)
        for name in list(self._absent):
            client = self._clients[name]
            patience = COME_BACK_WITHIN if client.was_here else WAIT_FOR_LISTENER
            if now - client.absent_since >= patience:
                del self._clients[name], self._absent[name]
                self._blocked.pop(name, None)
                actions.append(GoneAway(name, len(client.outbox)))
        return actions
