"""Who listens for replies, and what waits for them.

Pure. A reply is sent when its client listens; until then it waits, for a subscription takes its
own way through the network and may come after the request. A client that stopped listening is
given a moment to come back, since a lost connection looks the same; then it counts as gone, and
its work is cancelled. A client whose pipe is full keeps its replies here, in order, and others
are served meanwhile.

What waits is bounded, for each client and for all, and so is how long a client may take nothing.
A reply above that is thrown away, and an excuse of a few bytes takes its place: who reads again in
the end gets an error for each request, not silence. Excuses have a bound of their own, so that
those who never read can't fill all the place with them; above it, who has most of them loses the
oldest.

What waits would be lost with this process. Clients that don't ask again by themselves have to be
told then: so others are told what waits for these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from bert_serving.server import outbox_bounds
from bert_serving.server.outbox import Outbox, Totals
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
#: Bytes that a reply takes beside its frames.
REPLY_BYTES = 2048
#: What a client is told whose replies are thrown away.
UNREAD = (
    "too many replies wait for this client to read them, or wait for too long, and this one was "
    "thrown away; read them sooner, or ask for less at a time"
)


@dataclass
class _Client:
    outbox: Outbox
    absent_since: float
    listeners: int = 0
    was_here: bool = False
    gives_up_at: Optional[float] = None  # while its pipe is full
    is_stalled: bool = False  # took nothing for too long
    told: Set[bytes] = field(default_factory=set)  # requests with a reply here: see Waits
    handed_out: bytes = b""  # the request whose reply was handed out last


class Delivery:
    """See the module's docstring.

    At most ``most`` bytes wait, and for each client ``most_of_client`` and excuses; 0: any number.
    One reply may wait in any case. ``excuse`` makes the frames of an error for a client's request.
    """

    def __init__(
        self,
        excuse: Callable[[bytes, bytes], Sequence[Any]],
        most: int = 0,
        most_of_client: int = 0,
    ) -> None:
        self._excuse = excuse
        self._totals = Totals()
        self._bounds = outbox_bounds.OutboxBounds(self._totals, most, most_of_client)
        self._clients: Dict[bytes, _Client] = {}
        self._absent: Dict[bytes, None] = {}
        self._blocked: Dict[bytes, None] = {}
        self._news: List[Waits] = []
        self.forgotten_excuses = 0  # ever; their clients hear nothing of these requests

    @property
    def waiting_bytes(self) -> int:
        """What all that waits takes."""
        return self._totals.size

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
            client.outbox.validate()
            assert client.outbox.excuses <= outbox_bounds.MAX_EXCUSES
            waiting = {one.request_id for one in client.outbox if not one.asks_again}
            assert waiting <= client.told <= waiting | {client.handed_out}
        outboxes = self._outboxes().values()
        totals = Totals(
            sum(len(outbox) - outbox.excuses for outbox in outboxes),
            sum(outbox.reply_bytes for outbox in outboxes),
            sum(outbox.excuses for outbox in outboxes),
        )
        assert self._totals == totals

    def handle(self, event: Event, now: float) -> List[Action]:
        """What follows from ``event``, at time ``now`` in seconds on any steady clock."""
        actions = self._handle(event, now)
        if self._bounds.are_exceeded:
            actions += self._make_room()
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
            client = self._clients[name] = _Client(Outbox(self._totals), now)
            self._absent[name] = None
        return client

    # -------------------------------------------------------------------------------- replies

    def _post(self, event: Post, now: float) -> List[Action]:
        client = self._client(event.client, now)
        if client.listeners and not client.outbox:
            client.handed_out = event.reply.request_id
            return [Send(event.client, event.reply)]
        if client.outbox.excuses_request(event.reply.request_id):
            return []  # the rest of a stream, or its error: the excuse stands for it
        self._note_waiting(event.client, event.reply)
        if client.is_stalled or not self._bounds.has_room(client.outbox, event.reply):
            client.outbox.put_excuse(event.reply)
            self._limit_excuses(event.client)
            return [Stalled(event.client, 1)]
        client.outbox.put(event.reply)
        if self._bounds.too_many_replies and not client.listeners:
            return [self._give_up(event.client)]  # there is no place to wait for it
        return []

    def _outboxes(self) -> Dict[bytes, Outbox]:
        return {name: client.outbox for name, client in self._clients.items()}

    def _make_room(self) -> List[Action]:
        """Keep the bounds of all again."""
        actions: List[Action] = []
        if self._bounds.too_many_replies:
            for name in self._bounds.excessive_replies(self._outboxes()):
                actions += self._throw_away(name)
        if self._bounds.too_many_excuses:
            for name, count in self._bounds.excessive_excuses(self._outboxes()):
                self._forget_excuses(name, count)
        return actions

    def _limit_excuses(self, name: bytes) -> None:
        excess = self._clients[name].outbox.excuses - outbox_bounds.MAX_EXCUSES
        if excess > 0:
            self._forget_excuses(name, excess)

    def _forget_excuses(self, name: bytes, count: int) -> None:
        """Throw away a client's oldest ones."""
        client = self._clients[name]
        for request_id in client.outbox.forget_excuses(count):
            self._note_over(name, request_id)
        self.forgotten_excuses += count
        if not client.outbox:  # then its next reply has its own time
            client.gives_up_at, client.is_stalled = None, False

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

    def _throw_away(self, name: bytes) -> List[Action]:
        """Let an excuse take the place of everything that waits for a client."""
        lost = self._clients[name].outbox.excuse_all()
        self._limit_excuses(name)
        return [Stalled(name, lost)] if lost else []

    def _block(self, event: Blocked, now: float) -> None:
        client = self._client(event.client, now)
        self._note_waiting(event.client, event.reply)
        client.outbox.put_back(event.reply)
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
        reply = client.outbox.take()
        if reply.is_excuse:
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
        lost = len(client.outbox)
        client.outbox.clear()
        return GoneAway(name, lost)
