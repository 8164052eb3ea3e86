"""Which requests are under way, who asked, and the replies that nobody has taken yet.

Pure: no socket, no clock, no thread; the caller holds a lock. An asker is an :class:`Inbox`:
a blocking call has one for itself, all non-blocking calls of a client share one. A reply goes
to the inbox that its request was sent from, whoever receives it; one that belongs to no open
request is counted and dropped.
"""

from __future__ import annotations

from typing import Any, Dict, List, Set, Tuple

__all__ = ["Inbox", "RequestLedger"]


class Inbox:
    """What one asker has sent and not taken yet.

    ``outstanding`` are the ids without a reply, ``arrived`` the replies by id, in the order in
    which they came, ``received`` how many ever came. ``is_open``: more requests may follow from
    another thread, so that an empty inbox isn't finished.
    """

    __slots__ = ("outstanding", "arrived", "received", "is_open")

    def __init__(self, is_open: bool = False) -> None:
        self.outstanding: Set[int] = set()
        self.arrived: Dict[int, Any] = {}
        self.received = 0
        self.is_open = is_open

    def __len__(self) -> int:
        return len(self.outstanding) + len(self.arrived)


class RequestLedger:
    """The requests of one client; ids count from 1 in the order of sending."""

    def __init__(self) -> None:
        self.last_id = 0
        self.dropped = 0
        self._inbox_of: Dict[int, Inbox] = {}

    @property
    def pending(self) -> Set[int]:
        """The ids of requests whose reply nobody has taken: those under way, those arrived."""
        return set(self._inbox_of)

    def open(self, inbox: Inbox) -> int:
        """The id of a new request of ``inbox``."""
        self.last_id += 1
        self._inbox_of[self.last_id] = inbox
        inbox.outstanding.add(self.last_id)
        return self.last_id

    def cancel(self, request_id: int) -> None:
        """Take back a request that couldn't be sent."""
        self._inbox_of.pop(request_id).outstanding.remove(request_id)

    def deliver(self, request_id: int, reply: Any) -> bool:
        """Put ``reply`` into the inbox that waits for it; False: none does, it is dropped."""
        inbox = self._inbox_of.get(request_id)
        if inbox is None or request_id not in inbox.outstanding:
            self.dropped += 1
            return False
        inbox.outstanding.remove(request_id)
        inbox.arrived[request_id] = reply
        inbox.received += 1
        return True

    def take(self, inbox: Inbox) -> Tuple[int, Any]:
        """The id and the reply that came first; the inbox must have one."""
        return self.take_id(inbox, next(iter(inbox.arrived)))

    def take_id(self, inbox: Inbox, request_id: int) -> Tuple[int, Any]:
        """The reply to ``request_id``, which must have arrived."""
        reply = inbox.arrived.pop(request_id)
        del self._inbox_of[request_id]
        return request_id, reply

    def take_all(self, inbox: Inbox) -> List[Tuple[int, Any]]:
        """All replies that are there, in the order in which they came."""
        return [self.take_id(inbox, request_id) for request_id in list(inbox.arrived)]

    def forget(self, inbox: Inbox) -> None:
        """Nobody waits for ``inbox`` any more: what comes late is dropped."""
        for request_id in [*inbox.outstanding, *inbox.arrived]:
            del self._inbox_of[request_id]
        inbox.outstanding.clear()
        inbox.arrived.clear()

    def hand_over(self, inbox: Inbox, heir: Inbox) -> None:
        """Everything in ``inbox``, under way or arrived, is ``heir``'s from now on."""
        for request_id in [*inbox.outstanding, *inbox.arrived]:
            self._inbox_of[request_id] = heir
        heir.outstanding |= inbox.outstanding
        heir.arrived.update(inbox.arrived)
        heir.received += len(inbox.arrived)
        inbox.outstanding.clear()
        inbox.arrived.clear()
