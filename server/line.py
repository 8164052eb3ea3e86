"""Who is served next: rows that wait, by client and request.

Pure. Three rules, from the outside in:

- Clients share what is computed: the one that got least goes first, counted in tokens since it
  began to wait. One whose next request is small goes before others until it is ``lead`` tokens
  ahead of them. How many requests a client has makes no difference.
- Of a client's requests, the one that waits longest goes first. A request of more than
  ``small_rows`` rows steps back by ``aging`` seconds each time rows of it were taken, so that
  small ones pass it, none for longer than that.
- A client that wasn't served for ``aging`` seconds, because so many others go before it, goes
  first in one batch of ``TURNS``.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from bert_serving.server.batching import BatchLimits, Load, Row, best_counts
from bert_serving.server.queues import ByLength, InOrder, Queue

__all__ = ["LEAD_BATCHES", "TURNS", "Line"]

#: One batch in so many belongs to the client that waits longest, if that is too long.
TURNS = 4
#: How far small requests can bring their client ahead of others, in batches.
LEAD_BATCHES = 1.0
#: How many clients without open requests are known by what they got.
REMEMBERED = 1000
#: How many tokens of small requests are looked at for rows of like length, in batches.
WINDOW_BATCHES = 2
#: How many large requests are looked at.
LARGE_AT_A_TIME = 4
#: How often small and large requests may alternate in a batch.
TIERS = 3
#: A batch with this share of the budget is not worth filling up.
FULL = 0.95
#: Rows of large requests fill a batch that small ones begin up to this share of the budget only,
#: so that the small ones are soon computed.
FILL_SHARE = 0.5


@dataclass
class _Request:
    handle: int
    client: bytes
    small: bool
    waits_since: float
    rows: Queue


class _Client:
    """``served`` counts tokens, on a scale that all clients share. ``turn`` is what it stands in
    line by, tokens and since when it waits, and None for one that doesn't.
    """

    __slots__ = ("line", "open", "served", "since", "turn")

    def __init__(self) -> None:
        self.open = 0  # requests that have not ended
        self.served = 0.0
        self.since = 0.0  # when it began to wait, or was served last
        self.line: List[Tuple[float, int]] = []  # heap of (waits since, handle); some have ended
        self.turn: Optional[Tuple[float, float]] = None


class Line:
    """The rows that wait. See the module's docstring. ``limits`` of batches may change."""

    def __init__(
        self,
        limits: BatchLimits,
        small_rows: int,
        aging: float,
        lead_batches: float = LEAD_BATCHES,
    ) -> None:
        self.limits = limits
        self._small_rows = small_rows
        self._aging = aging
        self._lead = lead_batches * limits.tokens
        self._requests: Dict[int, _Request] = {}
        self._clients: Dict[bytes, _Client] = {}
        self._absent: Dict[bytes, _Client] = {}  # without open requests, the longest gone first
        self._waiting: Dict[bytes, _Client] = {}  # the longest waiting first
        self._turns: List[Tuple[Tuple[float, float], bytes]] = []  # heap; some have passed
        self._batches = 0
        self._least_served = 0.0  # of those that wait; it never falls
        self._rows = 0
        self.tokens = 0  # of the rows that wait

    def __len__(self) -> int:
        """How many rows wait."""
        return self._rows

    def rows(self) -> List[Row]:
        """The rows that wait, in no order."""
        return [row for request in self._requests.values() for row in request.rows.all()]

    def validate(self) -> None:
        """Assert what always holds; for tests, after every step."""
        assert self._rows == len(self.rows())
        assert self.tokens == sum(row.length for row in self.rows())
        open_requests = dict.fromkeys(self._clients, 0)
        waiting = set()
        for request in self._requests.values():
            open_requests[request.client] += 1
            if request.rows:
                waiting.add(request.client)
                line = self._clients[request.client].line
                entries = [handle for _, handle in line]
                assert entries.count(request.handle) == 1, "a request stands in line once"
        assert waiting == set(self._waiting), "a client stands in line if it has rows"
        for identity, client in self._clients.items():
            assert client.open == open_requests[identity] > 0
            turns = [turn for turn, name in self._turns if name == identity]
            assert (client.turn in turns) == (identity in waiting)
        since = [client.since for client in self._waiting.values()]
        assert since == sorted(since), "the client that waits longest is not the first"

    # --------------------------------------------------------------------------- come and go

    def open(self, handle: int, client: bytes, total_rows: int, now: float) -> None:
        """A request, whose rows are to come."""
        small = total_rows <= self._small_rows
        rows: Queue = InOrder() if small else ByLength()
        self._requests[handle] = _Request(handle, client, small, now, rows)
        if client not in self._clients:
            self._clients[client] = (
                self._absent.pop(client) if client in self._absent else _Client()
            )
        self._clients[client].open += 1

    def add(self, handle: int, rows: Sequence[Row], now: float) -> None:
        """Rows of an open request."""
        request = self._requests[handle]
        stands_in_line = bool(request.rows)
        before = request.rows.tokens
        request.rows.extend(rows)
        self._rows += len(rows)
        self.tokens += request.rows.tokens - before
        if rows and not stands_in_line:
            client = self._clients[request.client]
            heapq.heappush(client.line, (request.waits_since, handle))
            if request.client not in self._waiting:
                client.since = now
                client.served = max(client.served, self._least_served)
                self._waiting[request.client] = client
            self._give_turn(request.client, client)

    def close(self, handle: int) -> None:
        """A request has ended: rows of it that still wait are not wanted any more."""
        request = self._requests.pop(handle)
        client = self._clients[request.client]
        if request.rows:
            self._rows -= len(request.rows)
            self.tokens -= request.rows.tokens
            self._give_turn(request.client, client)
            if client.turn is None:
                del self._waiting[request.client]
        client.open -= 1
        if client.open == 0:
            self._absent[request.client] = self._clients.pop(request.client)
            if len(self._absent) > REMEMBERED:
                del self._absent[next(iter(self._absent))]

    # -------------------------------------------------------------------------------- batches

    def take(self, now: float, most: Optional[int] = None) -> List[Row]:
        """The rows of the next batch, by request and index; empty if none wait.

        It counts at most ``most`` if that is less than the limit.
        """
        if not self._waiting:
            return []
        budget = self.limits.tokens if most is None else min(most, self.limits.tokens)
        self._batches += 1
        least = min(client.served for client in self._waiting.values())
        self._least_served = max(self._least_served, least)
        load = Load()
        rows: List[Row] = []
        offers: List[_Request] = []
        first = self._overdue(now)
        for _ in range(TIERS):
            tier = self._tier(first)
            if not tier:
                break
            first = None
            offers += tier
            rows += self._fill(load, tier, budget, now)
            if load.rows >= self.limits.rows or load.tokens >= FULL * budget:
                break
        self._settle(offers)
        self._rows -= len(rows)
        self.tokens -= load.tokens
        rows.sort()  # by request and index, which no two have in common
        return rows

    def _tier(self, first: Optional[bytes]) -> List[_Request]:
        """Requests whose turn it is, all small or all large, with more than a batch's rows."""
        # Where padding costs nothing, there is nothing to be chosen.
        window = self.limits.tokens * (WINDOW_BATCHES if self.limits.padding_weight > 0 else 1)
        tier: List[_Request] = []
        tokens = 0
        while tokens < window and (not tier or tier[0].small or len(tier) < LARGE_AT_A_TIME):
            identity = first if first is not None and not tier else self._first()
            if identity is None:
                break
            client = self._clients[identity]
            request = self._requests[client.line[0][1]]
            if tier and request.small != tier[0].small:
                break
            heapq.heappop(client.line)
            client.turn = None
            tier.append(request)
            if request.small:
                # As if it got all of it, so that it has no more turns than others.
                tokens += request.rows.tokens
                client.served += request.rows.tokens
                self._give_turn(identity, client)
        return tier

    def _fill(self, load: Load, tier: List[_Request], most: float, now: float) -> List[Row]:
        """Take rows of a tier that go well with what is in the batch, up to a budget."""
        available: Dict[int, int] = {}
        for request in tier:
            request.rows.count(available)
        small = tier[0].small
        budget = most * (1.0 if small or not load.rows else FILL_SHARE)
        near = load.longest or tier[0].rows.first_length()
        wanted = best_counts(available, near, load, self.limits, budget)
        taken: List[Row] = []
        for request in tier:
            client = self._clients[request.client]
            before = request.rows.tokens
            rows = request.rows.take(wanted) if wanted else []
            client.served += -request.rows.tokens if small else before - request.rows.tokens
            if not rows:
                continue
            taken += rows
            load.rows += len(rows)
            load.tokens += before - request.rows.tokens
            if not small:
                request.waits_since = now + self._aging
            if client.since != now:
                client.since = now
                self._waiting[request.client] = self._waiting.pop(request.client)
        load.longest = max([load.longest] + [row[2] for row in taken])
        return taken

    def _settle(self, offers: List[_Request]) -> None:
        """Requests that have rows left stand in line again, and so do their clients."""
        for request in offers:
            if request.rows:
                entry = (request.waits_since, request.handle)
                heapq.heappush(self._clients[request.client].line, entry)
        for identity in dict.fromkeys(request.client for request in offers):
            client = self._clients[identity]
            self._give_turn(identity, client)
            if client.turn is None:
                del self._waiting[identity]

    # ------------------------------------------------------------------------------- in line

    def _give_turn(self, identity: bytes, client: _Client) -> None:
        """Let a client stand where it belongs now, if it has rows that wait."""
        head = self._head(client)
        if head is None:
            client.turn = None
            return
        place = client.served - self._lead if head.small else client.served
        turn = (place, client.since)
        if client.turn != turn:
            client.turn = turn
            heapq.heappush(self._turns, (turn, identity))
        if len(self._turns) > 64 + 4 * len(self._waiting):
            waiting = self._waiting.items()
            self._turns = [(one.turn, name) for name, one in waiting if one.turn is not None]
            heapq.heapify(self._turns)

    def _head(self, client: _Client) -> Optional[_Request]:
        while client.line:
            request = self._requests.get(client.line[0][1])
            if request is not None and request.rows:
                return request
            heapq.heappop(client.line)
        return None

    def _first(self) -> Optional[bytes]:
        """The client whose turn it is."""
        while self._turns:
            turn, identity = self._turns[0]
            client = self._waiting.get(identity)
            if client is not None and client.turn == turn:
                return identity
            heapq.heappop(self._turns)
        return None

    def _overdue(self, now: float) -> Optional[bytes]:
        """The client that waits longest, if for too long, and if it is time to ask for it."""
        if self._batches % TURNS:
            return None
        identity, client = next(iter(self._waiting.items()))
        return identity if now - client.since > self._aging else None
