"""What waits for one client, in order, and how much waits for all. Pure.

An excuse stands for replies that were thrown away, one for those of a request. It takes a few
bytes, for its frames are made when it is sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Deque, Iterator, List, Set

from bert_serving.server.frame_parts import own_memory
from bert_serving.server.replies import Reply

__all__ = ["EXCUSE_BYTES", "Outbox", "Totals"]

#: What an excuse takes.
EXCUSE_BYTES = 256


@dataclass
class Totals:
    """What waits in all outboxes."""

    replies: int = 0
    reply_bytes: int = 0
    excuses: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self.reply_bytes + self.excuses * EXCUSE_BYTES


class Outbox:
    """Replies and excuses, counted in ``totals``, too."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._waiting: Deque[Reply] = deque()
        self._excused: Set[bytes] = set()  # requests with an excuse here
        self.reply_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Reply]:
        return iter(self._waiting)

    @property
    def excuses(self) -> int:
        """How many."""
        return len(self._excused)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.reply_bytes + len(self._excused) * EXCUSE_BYTES

    def excuses_request(self, request_id: bytes) -> bool:
        """Whether an excuse for this request waits here."""
        return request_id in self._excused

    def put(self, reply: Reply) -> None:
        """A reply waits, as the last."""
        self._waiting.append(_kept(reply))
        self._count(1, reply.size)

    def put_back(self, reply: Reply) -> None:
        """A reply or an excuse waits, as the first."""
        if reply.is_excuse:
            self._excused.add(reply.request_id)
            self._totals.excuses += 1
            self._waiting.appendleft(_excuse_for(reply))
        else:
            self._waiting.appendleft(_kept(reply))
            self._count(1, reply.size)

    def put_excuse(self, reply: Reply) -> None:
        """An excuse for this reply waits, as the last, unless there is one for its request."""
        if reply.request_id not in self._excused:
            self._excused.add(reply.request_id)
            self._totals.excuses += 1
            self._waiting.append(_excuse_for(reply))

    def take(self) -> Reply:
        """The first, which is no longer here."""
        reply = self._waiting.popleft()
        if reply.is_excuse:
            self._forget(reply)
        else:
            self._count(-1, -reply.size)
        return reply

    def excuse_all(self) -> int:
        """Let excuses take the place of all replies; returns of how many."""
        waiting, lost = list(self._waiting), len(self._waiting) - len(self._excused)
        self.clear()
        for reply in waiting:
            self.put_excuse(reply)
        return lost

    def forget_excuses(self, count: int) -> List[bytes]:
        """Throw away so many of the oldest excuses; returns whose they are."""
        forgotten: List[bytes] = []
        before: List[Reply] = []
        while len(forgotten) < count:
            reply = self._waiting.popleft()
            if reply.is_excuse:
                self._forget(reply)
                forgotten.append(reply.request_id)
            else:
                before.append(reply)
        self._waiting.extendleft(reversed(before))
        return forgotten

    def clear(self) -> None:
        """Throw everything away."""
        self._count(len(self._excused) - len(self._waiting), -self.reply_bytes)
        self._totals.excuses -= len(self._excused)
        self._waiting.clear()
        self._excused.clear()

    def validate(self) -> None:
        """Assert what always holds; for tests, after every step."""
        excuses = [reply.request_id for reply in self._waiting if reply.is_excuse]
        assert self._excused == set(excuses)
        assert len(self._excused) == len(excuses)
        assert self.size == sum(reply.size for reply in self._waiting)

    def _count(self, replies: int, size: int) -> None:
        self.reply_bytes += size
        self._totals.replies += replies
        self._totals.reply_bytes += size

    def _forget(self, excuse: Reply) -> None:
        self._excused.remove(excuse.request_id)
        self._totals.excuses -= 1


def _kept(reply: Reply) -> Reply:
    """The reply as it waits: with memory of its own, so that its size is what it takes."""
    return reply._replace(frames=[own_memory(frame) for frame in reply.frames])


def _excuse_for(reply: Reply) -> Reply:
    return reply._replace(frames=(), size=EXCUSE_BYTES, is_excuse=True)
