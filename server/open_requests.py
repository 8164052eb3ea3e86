"""The requests that are accepted and not answered: found by handle or by name, and bounded.

Pure. Memory is what a service runs out of when more comes than it can compute: what is above the
bounds is refused at once, with a hint when to ask again.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Tuple

from bert_serving.client.protocol import ErrorKind
from bert_serving.server.intake import Accepted
from bert_serving.server.pooling import Pooling
from bert_serving.server.stats import Statistics

__all__ = ["OpenRequests", "Refusal"]

#: Seconds that an overloaded server asks to wait, at least and at most.
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 30.0


class Refusal(Exception):
    """A request isn't taken: ``kind`` is one of ErrorKind, ``retry_after`` are seconds."""

    def __init__(self, kind: str, message: str, retry_after: Optional[float] = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class OpenRequests:
    """At most ``max_rows`` rows, and ``max_bytes`` bytes of texts; 0: any number."""

    def __init__(self, statistics: Statistics, max_rows: int, max_bytes: int) -> None:
        self._statistics = statistics
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._by_handle: Dict[int, Accepted] = {}
        self._by_name: Dict[Tuple[bytes, int], int] = {}
        self.rows = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_handle)

    def __contains__(self, handle: object) -> bool:
        return handle in self._by_handle

    def get(self, handle: int) -> Optional[Accepted]:
        """The request of that handle, if it is open."""
        return self._by_handle.get(handle)

    def find(self, client: bytes, request_id: int) -> Optional[int]:
        """The handle of a client's request, if it is open."""
        return self._by_name.get((client, request_id))

    def of_protocol_1(self) -> List[Tuple[str, int]]:
        """Identities, as Latin-1, and ids of requests whose clients don't ask again."""
        requests = [accepted.request for accepted in self._by_handle.values()]
        return [
            (one.identity.decode("latin-1"), one.request_id)
            for one in requests
            if one.options is None
        ]

    def check(self, rows: int, nbytes: int, rows_per_second: float) -> None:
        """Raise Refusal if there is no place for a request, which has so many rows and bytes.

        ``rows_per_second`` is how fast the service computes.
        """
        for what, flag, size, taken, most in (
            ("texts", "-max_queue_rows", rows, self.rows, self._max_rows),
            ("bytes of texts", "-max_queue_mb", nbytes, self._bytes, self._max_bytes),
        ):
            if most and size > most:
                raise Refusal(
                    ErrorKind.BAD_REQUEST,
                    "the request has %d %s, but the server takes %d at a time: send smaller "
                    "requests, or start it with a larger %s" % (size, what, most, flag),
                )
            if most and taken + size > most:
                seconds = (self.rows + rows) / max(rows_per_second, 1.0)
                raise Refusal(
                    ErrorKind.OVERLOADED,
                    "the server is overloaded: %d of at most %d %s are waiting or being computed; "
                    "ask again later" % (taken, most, what),
                    round(min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT), 3),
                )

    def add(self, accepted: Accepted) -> None:
        """A request was accepted."""
        self._by_handle[accepted.handle] = accepted
        self._by_name[accepted.request.name] = accepted.handle
        self.rows += len(accepted.texts)
        self._bytes += len(accepted.request.payload)

    def pop(self, handle: int) -> Accepted:
        """A request, which must be open, has ended."""
        accepted = self._by_handle.pop(handle)
        name = accepted.request.name
        if self._by_name[name] == handle:  # a client may use a number again
            del self._by_name[name]
        self.rows -= len(accepted.texts)
        self._bytes -= len(accepted.request.payload)
        return accepted

    def note_sent(self, handles: Iterable[int], now: float) -> Dict[int, Pooling]:
        """Rows of these requests go to a worker; returns the poolings that aren't the server's
        own.
        """
        poolings = {}
        for handle in handles:
            accepted = self._by_handle[handle]  # rows of ended requests aren't computed
            if accepted.sent_at is None:
                accepted.sent_at = now
                self._statistics.count_stage("queue", now - accepted.accepted_at)
            if accepted.pooling is not None:
                poolings[handle] = accepted.pooling
        return poolings

    def note_completed(self, accepted: Accepted, now: float) -> None:
        """All of its rows are computed."""
        assert accepted.sent_at is not None
        self._statistics.count_rows_done(len(accepted.texts), now)
        self._statistics.count_stage("compute", now - accepted.sent_at)
        self._statistics.count_stage("total", now - accepted.accepted_at)
