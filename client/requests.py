"""Which requests are under way, who asked, and the replies that nobody has taken yet.

Pure: no socket, no clock, no thread; the caller holds a lock. An asker is an :class:`Inbox`:
a blocking call has one for itself, all non-blocking calls of a client share one. A reply goes
to the inbox that its request was sent from, whoever receives it; one that belongs to no open
request is counted and dropped. What was sent is kept until it is answered, to be sent again when
the connection was lost meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import chain
from typing import Any, Deque, Dict, Iterator, List, NamedTuple, Optional, Set

from bert_serving.client.calls import Call
from bert_serving.client.errors import ModelChanged, ProtocolError
from bert_serving.client.parts import RowsToCome
from bert_serving.client.protocol import CANCEL, ErrorKind, ErrorReply, Request, VectorsReply

__all__ = ["Inbox", "RequestLedger", "Taken"]


class Taken(NamedTuple):
    """A reply, one of protocol's or the exception that the asker gets instead, and its call."""

    request_id: int
    reply: Any
    call: Call

    @property
    def is_last(self) -> bool:
        """Whether no more of this request follows, as do the other parts of a stream."""
        part = getattr(self.reply, "part", None)
        return part is None or part.is_last

    @property
    def is_empty(self) -> bool:
        """Whether it is a part without rows."""
        part = getattr(self.reply, "part", None)
        return part is not None and not part.rows


class Inbox:
    """What one asker has sent and not taken yet.

    ``outstanding`` are the ids without a whole reply, ``parts`` the parts of streams so far,
    ``arrived`` the whole replies, or last parts, by id, in the order in which they came;
    ``received`` is how many ever came, parts included. ``is_open``: more requests may follow from
    another thread, so that an empty inbox isn't finished.
    """

    __slots__ = ("outstanding", "parts", "arrived", "received", "is_open")

    def __init__(self, is_open: bool = False) -> None:
        self.outstanding: Set[int] = set()
        self.parts: Deque[Taken] = deque()
        self.arrived: Dict[int, Any] = {}
        self.received = 0
        self.is_open = is_open

    def __len__(self) -> int:
        return len(self.outstanding) + len(self.arrived)

    def note(self) -> None:
        """Something came."""
        self.received += 1

    @property
    def has_some(self) -> bool:
        """Whether there is something to take."""
        return bool(self.parts or self.arrived)


class _Entry:
    """A request that nobody has taken the reply of; ``deadline`` is by the caller's clock."""

    __slots__ = ("inbox", "call", "deadline", "rows", "was_repeated")

    def __init__(self, inbox: Inbox, call: Call, deadline: Optional[float]) -> None:
        self.inbox = inbox
        self.call = call
        self.deadline = deadline
        self.rows = RowsToCome(call.rows) if call.is_stream else None
        self.was_repeated = False  # since the last part came


class RequestLedger:
    """The requests of one client; ids count from 1 in the order of sending.

    ``incomplete`` are streams that ended and lack rows, since parts were lost with the connection:
    the caller sends them again.
    """

    def __init__(self, identity: bytes) -> None:
        self.last_id = 0
        self.dropped = 0
        self.incomplete: List[int] = []
        self._identity = identity
        self._entries: Dict[int, _Entry] = {}
        self._repeats: Dict[int, int] = {}  # ids of repeated requests to those of the first ones
        self._unwanted: List[Request] = []  # CANCEL for streams that ended before their last part

    @property
    def pending(self) -> Set[int]:
        """The ids of requests whose reply nobody has taken: those under way, those arrived."""
        return set(self._entries)

    # ------------------------------------------------------------------------------- sending

    def open(self, inbox: Inbox, call: Call, deadline: Optional[float] = None) -> Request:
        """A new request of ``inbox``."""
        self.last_id += 1
        self._entries[self.last_id] = _Entry(inbox, call, deadline)
        inbox.outstanding.add(self.last_id)
        return Request(self._identity, call.payload, self.last_id, call.rows, call.options)

    def cancel(self, request_id: int) -> None:
        """Take back a request that couldn't be sent."""
        self._entries.pop(request_id).inbox.outstanding.remove(request_id)

    def open_again(self, now: float) -> Iterator[Request]:
        """Everything under way, oldest first, as it is to be sent when a connection is new."""
        under_way = [
            request_id
            for request_id, entry in self._entries.items()
            if request_id in entry.inbox.outstanding
        ]
        self._repeats = {new: old for new, old in self._repeats.items() if old in self._entries}
        return self._again(under_way, now)

    def complete(self, now: float) -> Iterator[Request]:
        """What is to be sent because of what was delivered: streams that are ``incomplete``, again,
        and CANCEL for those whose other parts aren't wanted.
        """
        if not (self.incomplete or self._unwanted):
            return iter(())
        incomplete, self.incomplete = self.incomplete, []
        unwanted, self._unwanted = self._unwanted, []
        return chain(unwanted, self._again(incomplete, now))

    def _again(self, request_ids: List[int], now: float) -> Iterator[Request]:
        for request_id in request_ids:
            entry = self._entries[request_id]
            entry.was_repeated = True
            options = entry.call.options
            if entry.deadline is not None and entry.deadline <= now:
                message = "the time for the request passed before the server could be reached again"
                self.deliver(request_id, ErrorReply(request_id, ErrorKind.DEADLINE, message))
                continue
            if options is not None:
                options = replace(options, again=True)
                if entry.deadline is not None and options.timeout is not None:
                    options = replace(options, timeout=min(options.timeout, entry.deadline - now))
            else:
                # A 1.10 server that still has the first one would make one answer of halves of
                # both, with zeros in place of the other halves.
                self.last_id += 1
                self._repeats[self.last_id] = request_id
                request_id = self.last_id
            yield Request(self._identity, entry.call.payload, request_id, entry.call.rows, options)

    # ----------------------------------------------------------------------------- receiving

    def deliver(self, request_id: int, reply: Any) -> bool:
        """Put ``reply`` into the inbox that waits for it; False: none does, it is dropped."""
        request_id = self._repeats.pop(request_id, request_id)
        entry = self._entries.get(request_id)
        if entry is None or request_id not in entry.inbox.outstanding:
            self.dropped += 1
            return False
        if entry.rows is not None and isinstance(reply, VectorsReply) and reply.part is not None:
            try:
                reply = entry.rows.fresh(reply)
            except (ProtocolError, ModelChanged) as error:
                if not reply.part.is_last:
                    self._unwanted += self._cancels([request_id])
                reply = error
            else:
                return self._deliver_part(request_id, entry, reply)
        self._finish(request_id, entry.inbox, reply)
        return True

    def _deliver_part(self, request_id: int, entry: _Entry, reply: VectorsReply) -> bool:
        assert entry.rows is not None
        assert reply.part is not None
        if reply.part.is_last:
            if not entry.rows.missing:
                self._finish(request_id, entry.inbox, reply)
                return True
            if not entry.was_repeated:
                text = "the server's stream ended, but %d of its rows didn't come"
                self._finish(request_id, entry.inbox, ProtocolError(text % entry.rows.missing))
                return True
            entry.was_repeated = False
            self.incomplete.append(request_id)
            reply = replace(reply, part=reply.part._replace(is_last=False))
        if not len(reply.array):
            self.dropped += 1
            return False
        entry.inbox.parts.append(Taken(request_id, reply, entry.call))
        entry.inbox.note()
        return True

    def _finish(self, request_id: int, inbox: Inbox, reply: Any) -> None:
        inbox.outstanding.remove(request_id)
        inbox.arrived[request_id] = reply
        inbox.note()

    # -------------------------------------------------------------------------------- taking

    def take(self, inbox: Inbox) -> Taken:
        """What came first; the inbox must have something."""
        if inbox.parts:
            return inbox.parts.popleft()
        return self.take_id(inbox, next(iter(inbox.arrived)))

    def take_id(self, inbox: Inbox, request_id: int) -> Taken:
        """The reply to ``request_id``, which must have arrived."""
        reply = inbox.arrived.pop(request_id)
        return Taken(request_id, reply, self._entries.pop(request_id).call)

    def take_all(self, inbox: Inbox) -> List[Taken]:
        """All replies that are there, in the order in which they came."""
        return [self.take_id(inbox, request_id) for request_id in list(inbox.arrived)]

    def forget(self, inbox: Inbox) -> List[Request]:
        """Nobody waits for ``inbox`` any more: what comes late is dropped.

        What is to be sent so that the server doesn't compute it: CANCEL for what it may have, if it
        is of protocol 2.
        """
        cancelled = self._cancels(sorted(inbox.outstanding))
        for request_id in [*inbox.outstanding, *inbox.arrived]:
            del self._entries[request_id]
        inbox.outstanding.clear()
        inbox.arrived.clear()
        inbox.parts.clear()
        self.incomplete = [one for one in self.incomplete if one in self._entries]
        return cancelled

    def _cancels(self, request_ids: List[int]) -> List[Request]:
        """CANCEL for those that a server of protocol 2 may have."""
        return [
            Request(self._identity, CANCEL, request_id)
            for request_id in request_ids
            if self._entries[request_id].call.options is not None
        ]

    def hand_over(self, inbox: Inbox, heir: Inbox) -> None:
        """Everything in ``inbox``, under way or arrived, is ``heir``'s from now on."""
        for request_id in [*inbox.outstanding, *inbox.arrived]:
            self._entries[request_id].inbox = heir
        heir.outstanding |= inbox.outstanding
        heir.arrived.update(inbox.arrived)
        heir.received += len(inbox.arrived)
        inbox.outstanding.clear()
        inbox.arrived.clear()
