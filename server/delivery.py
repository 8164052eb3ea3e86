"""Who listens for replies, and what waits for them.

Pure. A reply is sent when its client listens; until then it waits, for a subscription takes its
own way through the network and may come after the request. A client that stopped listening is
given a moment to come back, since a lost connection looks the same; then it counts as gone, and
its work is cancelled. A client whose pipe is full keeps its replies here, in order, and others
are served meanwhile.

What waits is bounded, for each client and for all, and so is how long a client may take nothing.
A reply above that is thrown away, and an excuse of a few bytes takes its place: who reads again in
the end gets an error for each request, not silence.

What waits would be lost with this process. Clients that don't ask again by themselves have to be
told then: so others are told what waits for these.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Set, Tuple

from bert_serving.server.frame_parts import own_memory
from bert_serving.server.replies import (
    Action,
    Blocked,
    Event,
    GoneAway,
    Post,
    Reply,
    Send,
    Sent,
    Stalled,
    Subscribed,
    Unsubscribed,
    Waits,
)

__all__ = ["UNREAD", "Delivery"]

#: Seconds that replies wait for a client that has never listened.
WAIT_FOR_LISTENER = 30.0
#: Seconds after which a client that stopped listening counts as gone.
COME_BACK_WITHIN = 2.0
#: Seconds in which a client that listens has to take a reply, and the slowest connection that large
#: ones are expected to leave by, in bytes per second.
READ_WITHIN = 60.0
SLOWEST = 1e6
#: Bytes that a reply takes beside its frames, and an excuse in place of one.
REPLY_BYTES, EXCUSE_BYTES = 2048, 256
#: Excuses kept for a client; of what is older, it hears nothing.
MAX_EXCUSES = 10_000
#: What a client is told whose replies are thrown away.
UNREAD = (
    "too many replies wait for this client to read them, or wait for too long, and this one was "
    "thrown away; read them sooner, or ask for less at a time"
)


@dataclass
class _Client:
    listeners: int = 0
    absent_since: float = 0.0
    was_here: bool = False
    outbox: Deque[Reply] = field(default_factory=deque)
    size: int = 0  # bytes in the outbox
    excused: Set[bytes] = field(default_factory=set)  # requests with an excuse in the outbox
    gives_up_at: Optional[float] = None  # while its pipe is full
    is_stalled: bool = False  # took nothing for too long
    told: Set[bytes] = field(default_factory=set)  # requests with a reply here: see Waits
    handed_out: bytes = b""  # the request whose reply was handed out last


class Delivery:
    """See the module's docstring.

    At most ``most`` bytes wait, and ``most_of_client`` for each client; 0: any number. One reply
    may wait in any case. ``excuse`` makes the frames of an error for a client's request.
    """

    def __init__(
        self,
        excuse: Callable[[bytes, bytes], Sequence[Any]],
        most: int = 0,
        most_of_client: int = 0,
    ) -> None:
        self._excuse = excuse
        self._most, self._most_of_client = most, most_of_client
        self._clients: Dict[bytes, _Client] = {}
        self._absent: Dict[bytes, None] = {}
        self._blocked: Dict[bytes, None] = {}
        self._news: List[Waits] = []
        self.waiting_bytes = 0

    def of_protocol_1(self) -> List[Tuple[bytes, bytes]]:
        """Clients, and ids of requests, whose replies wait here and aren't asked for again."""
        found = self._clients.items()
        return [(name, request_id) for name, client in found for request_id in client.told]

    @property
    def waiting_replies(self) -> int:
        """How many replies could not be sent yet, excuses included."""
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

    def validate(self) -> None:
        """Assert what always holds; for tests, after every step."""
        for client in self._clients.values():
            assert client.size == sum(reply.size for reply in client.outbox)
            excuses = [reply.request_id for reply in client.outbox if reply.is_excuse]
            assert client.excused == set(excuses)
            assert len(client.excused) == len(excuses) <= MAX_EXCUSES
            waiting = {one.request_id for one in client.outbox if not one.asks_again}
            assert waiting <= client.told <= waiting | {client.handed_out}
        assert self.waiting_bytes == sum(client.size for client in self._clients.values())

    def handle(self, event: Event, now: float) -> List[Action]:
        """What follows from ``event``, at time ``now`` in seconds on any steady clock."""
        actions = self._handle(event, now)
        if self._news:
            actions, self._news = [*self._news, *actions], []
        return actions

    def _handle(self, event: Event, now: float) -> List[Action]:
        if isinstance(event, Post):
            return self._post(event, now)
        if isinstance(event, Subscribed):
            client = self._client(event.client, now)
            client.listeners += 1
            client.was_here = True
            self._absent.pop(event.client, None)
            return self._take_up(event.client)
        if isinstance(event, Sent):
            self._note_over(event.client, self._clients[event.client].handed_out)
            return self._take_up(event.client)
        if isinstance(event, Unsubscribed):
            self._note_leaving(event.client, now)
            return []
        if isinstance(event, Blocked):
            self._block(event, now)
            return []
        return self._tick(now)

    def _note_leaving(self, name: bytes, now: float) -> None:
        client = self._clients.get(name)
        if client is None or not client.listeners:
            return  # from what it subscribed to in vain
        client.listeners -= 1
        if client.listeners == 0:
            client.absent_since = now
            self._absent[name] = None

    def _client(self, name: bytes, now: float) -> _Client:
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(absent_since=now)
            self._absent[name] = None
        return client

    # -------------------------------------------------------------------------------- replies

    def _post(self, event: Post, now: float) -> List[Action]:
        client = self._client(event.client, now)
        if client.listeners and not client.outbox:
            client.handed_out = event.reply.request_id
            return [Send(event.client, event.reply)]
        if event.reply.request_id in client.excused:
            return []  # the rest of a stream, or its error: the excuse stands for it
        self._put(client, event.reply)
        self._note_waiting(event.client, event.reply)
        if client.is_stalled or self._is_too_much(client):
            client.outbox.pop()
            self._resize(client, -event.reply.size)
            self._put_excuse(event.client, event.reply)
            return [Stalled(event.client, 1)]
        if self._most and self.waiting_bytes > self._most:
            if not client.listeners:
                return [self._give_up(event.client)]  # there is no place to wait for it
            largest = max(self._clients, key=lambda name: self._clients[name].size)
            return self._throw_away(largest)
        return []

    def _is_too_much(self, client: _Client) -> bool:
        return bool(self._most_of_client) and (
            client.size > self._most_of_client and len(client.outbox) > 1
        )

    def _put(self, client: _Client, reply: Reply) -> None:
        client.outbox.append(_kept(reply))
        self._resize(client, reply.size)

    def _put_excuse(self, name: bytes, reply: Reply) -> None:
        client = self._clients[name]
        if reply.request_id in client.excused:
            return
        client.excused.add(reply.request_id)
        self._put(client, _excuse_for(reply))
        if len(client.excused) > MAX_EXCUSES:
            oldest = next(reply for reply in client.outbox if reply.is_excuse)
            client.outbox.remove(oldest)
            client.excused.remove(oldest.request_id)
            self._resize(client, -oldest.size)
            self._note_over(name, oldest.request_id)

    def _note_waiting(self, name: bytes, reply: Reply) -> None:
        told = self._clients[name].told
        if not reply.asks_again and reply.request_id not in told:
            told.add(reply.request_id)
            self._news.append(Waits(name, reply.request_id, is_over=False))

    def _note_over(self, name: bytes, request_id: bytes) -> None:
        told = self._clients[name].told
        if request_id in told:
            told.remove(request_id)
            self._news.append(Waits(name, request_id, is_over=True))

    def _resize(self, client: _Client, change: int) -> None:
        client.size += change
        self.waiting_bytes += change

    def _throw_away(self, name: bytes) -> List[Action]:
        """Let an excuse take the place of everything that waits for a client."""
        client = self._clients[name]
        replies = list(client.outbox)
        self._resize(client, -client.size)
        client.outbox.clear()
        client.excused.clear()
        for reply in replies:
            self._put_excuse(name, reply)
        lost = sum(not reply.is_excuse for reply in replies)
        return [Stalled(name, lost)] if lost else []

    def _block(self, event: Blocked, now: float) -> None:
        client = self._client(event.client, now)
        reply = _kept(event.reply)
        if reply.is_excuse:
            reply = _excuse_for(reply)
            client.excused.add(reply.request_id)
        self._note_waiting(event.client, reply)
        client.outbox.appendleft(reply)
        self._resize(client, reply.size)
        self._blocked[event.client] = None
        if client.gives_up_at is None:
            client.gives_up_at = now + READ_WITHIN + event.in_pipe / SLOWEST

    def _take_up(self, name: bytes) -> List[Action]:
        """The client takes replies, or begins to."""
        client = self._clients[name]
        client.gives_up_at, client.is_stalled = None, False
        return self._flush(name)

    def _flush(self, name: bytes) -> List[Action]:
        """The first waiting reply; the next one follows when this one is sent."""
        client = self._clients[name]
        self._blocked.pop(name, None)
        if not client.outbox or not client.listeners:
            return []
        reply = client.outbox.popleft()
        self._resize(client, -reply.size)
        if reply.is_excuse:
            client.excused.remove(reply.request_id)
            reply = reply._replace(frames=self._excuse(name, reply.request_id))
        client.handed_out = reply.request_id
        return [Send(name, reply)]

    # ----------------------------------------------------------------------------------- time

    def _tick(self, now: float) -> List[Action]:
        actions: List[Action] = []
        for name in list(self._blocked):
            client = self._clients[name]
            is_late = client.gives_up_at is not None and now >= client.gives_up_at
            if is_late and not client.is_stalled:
                client.is_stalled = True
                actions += self._throw_away(name)
            actions += self._flush(name)
        for name in list(self._absent):
            client = self._clients[name]
            patience = COME_BACK_WITHIN if client.was_here else WAIT_FOR_LISTENER
            if now - client.absent_since >= patience:
                actions.append(self._give_up(name))
        return actions

    def _give_up(self, name: bytes) -> GoneAway:
        """A client that doesn't listen counts as gone."""
        client = self._clients.pop(name)
        del self._absent[name]
        self._blocked.pop(name, None)
        self._resize(client, -client.size)
        return GoneAway(name, len(client.outbox))


def _kept(reply: Reply) -> Reply:
    """The reply as it waits: with memory of its own, so that its size is what it takes."""
    return reply._replace(frames=[own_memory(frame) for frame in reply.frames])


def _excuse_for(reply: Reply) -> Reply:
    return reply._replace(frames=(), size=EXCUSE_BYTES, is_excuse=True)
