"""The requests that are accepted and not answered: found by handle or by name, and bounded.

Pure. Memory is what a service runs out of when more comes than it can compute: what is above the
bounds is refused at once, with a hint when to ask again. One client may take a share of each bound,
so that there is place for others when it asks for everything, and a user that a client names the
same share of what the client may take: a front end is one client of many users.
"""

from __future__ import annotations

import math
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from bert_serving.client.protocol import ErrorKind, Request
from bert_serving.server.intake import Accepted
from bert_serving.server.pooling import Pooling
from bert_serving.server.sizes import Size
from bert_serving.server.stats import Statistics

__all__ = ["OpenRequests", "Refusal"]

#: Seconds that an overloaded server asks to wait, at least and at most.
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 30.0
NOTHING = (0, 0, 0)
#: What the numbers of a Size count, and the flag that bounds them.
BOUNDED = (
    ("texts", "-max_queue_rows"),
    ("bytes of memory for texts", "-max_queue_mb"),
    ("bytes of memory for its result", "-max_reply_mb"),
)
#: The last one's number.
REPLY = 2


class Refusal(Exception):
    """A request isn't taken: ``kind`` is one of ErrorKind, ``retry_after`` are seconds."""

    def __init__(self, kind: str, message: str, retry_after: Optional[float] = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class _Lack(NamedTuple):
    """Why there is no place; ``rows`` have to be computed before there is some."""

    message: str
    is_for_ever: bool = False
    rows: int = 0


class OpenRequests:
    """At most ``most`` of all clients, 0 being any number, ``share`` of that of one client, and
    ``share`` of a client's of one of its users.
    """

    def __init__(self, statistics: Statistics, most: Size, share: float = 1.0) -> None:
        self._statistics = statistics
        self._most = tuple(one or math.inf for one in most)
        self._most_of_client = tuple(max(1.0, one * share) for one in self._most)
        self._most_of_user = tuple(max(1.0, one * share) for one in self._most_of_client)
        self._by_handle: Dict[int, Tuple[Accepted, Size]] = {}
        self._by_name: Dict[Tuple[bytes, int], int] = {}
        self._taken = [0, 0, 0]  # as in Size
        self._taken_by: Dict[bytes, List[int]] = {}
        self._taken_by_user: Dict[Tuple[bytes, str], List[int]] = {}
        self._waiting: Dict[bytes, Set[int]] = {}  # see note_waiting

    def __len__(self) -> int:
        return len(self._by_handle)

    def __contains__(self, handle: object) -> bool:
        return handle in self._by_handle

    @property
    def taken(self) -> Size:
        """What all open requests take."""
        return Size(*self._taken)

    def taken_by(self, client: bytes) -> Size:
        """What those of a client take."""
        return Size(*self._taken_by.get(client, NOTHING))

    def taken_by_user(self, client: bytes, user: str) -> Size:
        """What those take that a client sent for a user."""
        return Size(*self._taken_by_user.get((client, user), NOTHING))

    def get(self, handle: int) -> Optional[Accepted]:
        """The request of that handle, if it is open."""
        found = self._by_handle.get(handle)
        return None if found is None else found[0]

    def find(self, client: bytes, request_id: int) -> Optional[int]:
        """The handle of a client's request, if it is open."""
        return self._by_name.get((client, request_id))

    def of_client(self, client: bytes) -> List[int]:
        """The handles of all its requests."""
        if client not in self._taken_by:
            return []
        found = self._by_handle.items()
        return [handle for handle, (one, _) in found if one.request.identity == client]

    def of_protocol_1(self) -> List[Tuple[str, int]]:
        """Identities, as Latin-1, and ids of requests whose clients don't ask again: of open ones,
        and of those whose replies wait for their clients.
        """
        requests = [accepted.request for accepted, _ in self._by_handle.values()]
        names = {one.name for one in requests if one.options is None}
        names.update((name, number) for name, ids in self._waiting.items() for number in ids)
        return [(name.decode("latin-1"), number) for name, number in sorted(names)]

    def note_waiting(self, client: bytes, request_id: int, is_over: bool) -> None:
        """A reply waits in the sink for a client that doesn't ask again, or is sent."""
        ids = self._waiting.setdefault(client, set())
        if is_over:
            ids.discard(request_id)
        else:
            ids.add(request_id)
        if not ids:
            del self._waiting[client]

    def forget_waiting(self, client: bytes) -> None:
        """The sink has thrown away what waited for a client."""
        self._waiting.pop(client, None)

    def check(self, request: Request, size: Size, rows_per_second: float) -> None:
        """Raise Refusal if there is no place for a request.

        ``rows_per_second`` is how fast the service computes.
        """
        taken, own = self._taken, self._taken_by.get(request.identity, NOTHING)
        most, most_of_client = self._most, self._most_of_client
        # Written out, since every request comes here twice.
        if (
            taken[0] + size[0] > most[0]
            or taken[1] + size[1] > most[1]
            or taken[2] + size[2] > most[2]
            or own[0] + size[0] > most_of_client[0]
            or own[1] + size[1] > most_of_client[1]
            or own[2] + size[2] > most_of_client[2]
        ):
            raise self._refusal(request, size, max(rows_per_second, 1.0))
        user = _user_of(request)
        if user is not None:
            own, most = self._taken_by_user.get(user, NOTHING), self._most_of_user
            if any(one + more > bound for one, more, bound in zip(own, size, most)):
                raise self._refusal(request, size, max(rows_per_second, 1.0))

    def _refusal(self, request: Request, size: Size, rate: float) -> Refusal:
        """Why there is no place: the narrowest bound that keeps the request out."""
        for number, more in enumerate(size):
            lack = self._lack(request, number, more)
            if lack is not None:
                return _refusal_for(lack, size.rows, rate)
        raise AssertionError("it isn't above any bound")

    def _lack(
        self, request: Request, number: int, wanted: int, counted: int = 0
    ) -> Optional[_Lack]:
        """What keeps a request from having ``wanted`` of what BOUNDED names at ``number``, if it
        has ``counted`` of it already.
        """
        what, flag = BOUNDED[number]
        own = self._taken_by.get(request.identity, NOTHING)
        parties: List[Tuple[str, Sequence[int], Sequence[float]]]
        parties = [("client", own, self._most_of_client)]
        user = _user_of(request)
        if user is not None:
            own = self._taken_by_user.get(user, NOTHING)
            parties.insert(0, ("user", own, self._most_of_user))
        for party, taken, most in parties:
            if wanted > most[number]:
                return _Lack(
                    "the request has %d %s, but the server takes %d of one %s at a time: send "
                    "smaller requests, or start it with a larger %s or -max_client_share"
                    % (wanted, what, most[number], party, flag),
                    is_for_ever=True,
                )
            others = taken[number] - counted
            if others + wanted > most[number]:
                message = "this %s's own requests have %d of at most %d %s that one %s may have"
                return _overload(message % (party, others, most[number], what, party), taken[0])
        others = self._taken[number] - counted
        if others + wanted > self._most[number]:
            message = "%d of at most %d %s are waiting or being computed"
            return _overload(message % (others, self._most[number], what), self._taken[0])
        return None

    def add(self, accepted: Accepted, size: Size) -> None:
        """A request was accepted."""
        self._by_handle[accepted.handle] = accepted, size
        self._by_name[accepted.request.name] = accepted.handle
        self._count(accepted.request, *size)

    def grow(self, handle: int, reply: int, rows_per_second: float) -> None:
        """The reply of an open request takes ``reply`` at least, perhaps more than it was taken
        for. Raise Refusal if there is no place for that: it has to end then.
        """
        accepted, size = self._by_handle[handle]
        if reply <= size.reply:
            return
        lack = self._lack(accepted.request, REPLY, reply, size.reply)
        if lack is not None:
            # Its own rows are among those that wait.
            raise _refusal_for(lack, 0, max(rows_per_second, 1.0))
        self._by_handle[handle] = accepted, size._replace(reply=reply)
        self._count(accepted.request, 0, 0, reply - size.reply)

    def settle(self, handle: int, memory: int, reply: int, rows_per_second: float) -> None:
        """It is known what an open request takes. That may be more memory than it was taken for;
        then others have to wait. Raise Refusal as :meth:`grow` does.
        """
        self.grow(handle, reply, rows_per_second)
        accepted, size = self._by_handle[handle]
        self._by_handle[handle] = accepted, Size(size.rows, memory, reply)
        self._count(accepted.request, 0, memory - size.memory, reply - size.reply)

    def pop(self, handle: int) -> Accepted:
        """A request, which must be open, has ended."""
        accepted, size = self._by_handle.pop(handle)
        name = accepted.request.name
        if self._by_name[name] == handle:  # a client may use a number again
            del self._by_name[name]
        self._count(accepted.request, -size[0], -size[1], -size[2])
        return accepted

    def _count(self, request: Request, rows: int, memory: int, reply: int) -> None:
        client, user = request.identity, _user_of(request)
        counts = [self._taken, self._taken_by.setdefault(client, [0, 0, 0])]
        if user is not None:
            counts.append(self._taken_by_user.setdefault(user, [0, 0, 0]))
        for taken in counts:
            taken[0] += rows
            taken[1] += memory
            taken[2] += reply
        # Every request has rows, so who has none has nothing open.
        if not counts[1][0]:
            del self._taken_by[client]
        if user is not None and not counts[2][0]:
            del self._taken_by_user[user]

    def note_sent(self, handles: Iterable[int], now: float) -> Dict[int, Pooling]:
        """Rows of these requests go to a worker; returns the poolings that aren't the server's
        own.
        """
        poolings = {}
        for handle in handles:
            accepted, _ = self._by_handle[handle]  # rows of ended requests aren't computed
            if accepted.sent_at is None:
                accepted.sent_at = now
                self._statistics.count_stage("queue", now - accepted.accepted_at)
            if accepted.pooling is not None:
                poolings[handle] = accepted.pooling
        return poolings

    def note_completed(self, accepted: Accepted, now: float) -> None:
        """All of its rows are computed."""
        assert accepted.sent_at is not None
        self._statistics.count_rows_done(accepted.rows, now)
        self._statistics.count_stage("compute", now - accepted.sent_at)
        self._statistics.count_stage("total", now - accepted.accepted_at)


def _refusal_for(lack: _Lack, rows: int, rate: float) -> Refusal:
    """For a request of so many rows beside those that wait."""
    if lack.is_for_ever:
        return Refusal(ErrorKind.BAD_REQUEST, lack.message)
    seconds = min(max((lack.rows + rows) / rate, SHORTEST_WAIT), LONGEST_WAIT)
    return Refusal(ErrorKind.OVERLOADED, lack.message, round(seconds, 3))


def _overload(reason: str, rows: int) -> _Lack:
    return _Lack("the server is overloaded: %s; ask again later" % reason, rows=rows)


def _user_of(request: Request) -> Optional[Tuple[bytes, str]]:
    """For whom a client asks, if it says so."""
    options = request.options
    if options is None or not options.user:
        return None
    return request.identity, options.user
