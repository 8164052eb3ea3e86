"""The requests that aren't computed: whose they are, what they lack, and until when. Pure."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Set, Tuple

from bert_serving.server.work import Opened

__all__ = ["Entry", "Ledger"]

#: Deadlines of ended requests that are kept in any case, so that they aren't sorted out each time.
SLACK = 64


@dataclass
class Entry:
    """An open request."""

    client: bytes
    total: int
    remaining: int  # rows that are neither computed nor given up
    partial: bool  # it goes on without rows that are given up
    failed: int = 0  # rows that are given up


class Ledger:
    """Open requests by handle, client and deadline."""

    def __init__(self) -> None:
        self._entries: Dict[int, Entry] = {}
        self._clients: Dict[bytes, Set[int]] = {}
        self._deadlines: List[Tuple[float, int]] = []  # heap; may name ended requests

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, handle: object) -> bool:
        return handle in self._entries

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __getitem__(self, handle: int) -> Entry:
        return self._entries[handle]

    def get(self, handle: int) -> Optional[Entry]:
        """The request of that handle, if it is open."""
        return self._entries.get(handle)

    def open(self, event: Opened) -> None:
        """A request was accepted."""
        handle, total = event.handle, event.total_rows
        assert handle not in self._entries, "handles are given out once"
        self._entries[handle] = Entry(event.client, total, total, event.partial)
        self._clients.setdefault(event.client, set()).add(handle)
        if event.deadline is not None:
            heapq.heappush(self._deadlines, (event.deadline, handle))

    def end(self, handle: int) -> None:
        """A request, which is open, has ended."""
        client = self._entries.pop(handle).client
        handles = self._clients[client]
        handles.remove(handle)
        if not handles:
            del self._clients[client]
        self._tidy()

    def _tidy(self) -> None:
        """Most requests end long before their deadline, which may be an hour away: what is left of
        them must not be more than what is open.
        """
        if len(self._deadlines) > SLACK + 2 * len(self._entries):
            self._deadlines = [one for one in self._deadlines if one[1] in self._entries]
            heapq.heapify(self._deadlines)

    def of(self, client: bytes) -> List[int]:
        """The open requests of a client."""
        return sorted(self._clients.get(client, ()))

    def expired(self, now: float) -> List[int]:
        """Requests whose deadline has passed, each told once; some may have ended."""
        if not self._deadlines:
            return []
        handles = []
        while self._deadlines and self._deadlines[0][0] <= now:
            handles.append(heapq.heappop(self._deadlines)[1])
        return handles

    def validate(self) -> None:
        """Assert what always holds; for tests, after every step."""
        for handle, entry in self._entries.items():
            assert handle in self._clients[entry.client]
            assert 0 < entry.remaining <= entry.total - entry.failed
        assert sum(map(len, self._clients.values())) == len(self._entries)
        assert len(self._deadlines) <= SLACK + 2 * len(self._entries)
