"""What a worker holds, and when it should get more. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, NamedTuple, Optional, Set

from bert_serving.server.batching import BatchLimits
from bert_serving.server.work import Batch

__all__ = ["AHEAD", "NEVER", "Holder", "Opening"]

#: A worker gets its next batch when this share of the time of one that it computes is left, or so
#: many seconds.
AHEAD = 0.2
LEAST_AHEAD = 0.003
#: Share of the newest batch in what is known of a worker's pace.
SMOOTHING = 0.2
#: A batch that took so many times as long as its like counts no more than that, and one that took
#: so many times less shows that what was known came from one that took long: some do for reasons of
#: their own, such as a graph that is made first.
OUTLIER = 4.0
#: A batch takes too long if it takes so many times as long as its like.
MUCH_TOO_LONG = 20.0
#: A worker that failed so often in a row is itself to blame: one poisonous row of 256 makes it fail
#: five times at most.
MOST_FAILURES = 10
NEVER = float("inf")


class Opening(NamedTuple):
    """A place for a worker's next batch: from when on, whether nothing else is computed beside it,
    and of how many tokens it should have its share.
    """

    at: float
    alone: bool = False
    shares: int = 1


@dataclass
class Holder:
    """The batches of a worker, in the order in which it got them, which it begins them in.

    It computes ``streams`` of them at a time, and those may end in any order; but one that is
    ``alone`` is begun when all before it have ended, and those behind it when it has. Streams with
    fewer than ``split_tokens`` tokens each are slower than all threads with one batch.
    """

    credits: int
    streams: int = 1
    split_tokens: int = 0
    running: Dict[int, Batch] = field(default_factory=dict)
    alone: Set[int] = field(default_factory=set)
    began: Dict[int, float] = field(default_factory=dict)  # when, of those that it computes
    since: float = 0.0  # when the last one ended
    pace: float = 0.0  # seconds per weighted token of a stream, smoothed; 0: not known yet
    failures: int = 0  # batches that failed in a row
    is_unfit: bool = False  # was found to hang or to fail always, and has computed nothing since
    has_suspect: bool = False  # holds a batch that is suspect, and no other

    def begin(self, batch: Batch, alone: bool, now: float) -> None:
        """It gets a batch."""
        assert not self.has_suspect, "a batch beside one that is suspect"
        assert not (batch.suspect and self.running), "a suspect beside other batches"
        self.credits -= 1
        self.has_suspect = batch.suspect
        self.running[batch.batch_id] = batch
        if alone:
            self.alone.add(batch.batch_id)
        self._start(now)

    def finish(
        self, batch_id: int, limits: BatchLimits, now: float, has_failed: bool = False
    ) -> Batch:
        """A batch has ended; those that waited for that take its place."""
        batch = self.running.pop(batch_id)
        # Begun in order, and each end is told before what took its place can end.
        pace = (now - self.began.pop(batch_id)) / batch.cost(limits)
        if batch_id in self.alone:
            self.alone.remove(batch_id)
            pace *= self.streams
        self._note_pace(pace)
        self.failures = self.failures + 1 if has_failed else 0
        self.is_unfit = self.is_unfit and has_failed
        self.has_suspect = False
        self.since = now
        self.credits += 1
        self._start(now)
        return batch

    def unfitness(self, limits: BatchLimits, timeout: float, now: float) -> Optional[str]:
        """Why it should be replaced, told once: it computes a batch for much longer than its like
        and than ``timeout`` seconds, 0 being any, or it fails always. None if it shouldn't.
        """
        if self.is_unfit:
            return None
        reason = None
        if self.failures >= MOST_FAILURES:
            reason = "%d batches in a row failed there" % self.failures
        elif timeout:
            for batch_id, began in self.began.items():
                usual = self.pace * self.running[batch_id].cost(limits)
                if now - began > max(timeout, MUCH_TOO_LONG * usual):
                    reason = "it has computed a batch for %.0f s" % (now - began)
        self.is_unfit = reason is not None
        return reason

    @property
    def is_kept(self) -> bool:
        """Whether it gets no batch beside those that it holds."""
        return self.is_unfit or self.has_suspect

    def _note_pace(self, pace: float) -> None:
        if not self.pace:
            self.pace = pace
        known = min(self.pace, OUTLIER * pace)
        self.pace = known + SMOOTHING * (min(pace, OUTLIER * known) - known)

    def _start(self, now: float) -> None:
        """Begin what waits, as far as there is place."""
        for batch_id in self.running:
            if batch_id in self.began:
                continue
            is_blocked = self.began and (batch_id in self.alone or self._is_alone)
            if is_blocked or len(self.began) == self.streams:
                return
            self.began[batch_id] = now

    @property
    def _is_alone(self) -> bool:
        """Whether what it computes leaves no place beside it."""
        return any(batch_id in self.alone for batch_id in self.began)

    def opening(self, limits: BatchLimits, ahead: float, tokens: int) -> Opening:
        """The place for its next batch if so many tokens wait."""
        if self.is_kept:
            return Opening(NEVER)
        shares = self.streams if not self.split_tokens else tokens // self.split_tokens
        shares = max(1, min(self.streams, shares))
        is_alone = shares == 1 < self.streams
        if not self.running:
            return Opening(self.since, is_alone, shares)
        waiting = [batch_id for batch_id in self.running if batch_id not in self.began]
        if any(batch_id in self.alone for batch_id in waiting):
            return Opening(NEVER)  # too early to tell
        times = sorted(self._nearly_done(batch_id, limits, ahead) for batch_id in self.began)
        if self._is_alone:  # all streams are free then
            if waiting and tokens < self.split_tokens:
                return Opening(NEVER)
            free = self.streams - len(waiting)
            return Opening(times[0], is_alone and not waiting, max(1, min(shares, free)))
        if len(self.began) < self.streams and tokens >= self.split_tokens:
            return Opening(self.since)
        # Those that wait take the places of the first that end.
        place = min(len(waiting), len(times) - 1)
        return Opening(times[place], is_alone and len(times) == 1 and not waiting)

    def _nearly_done(self, batch_id: int, limits: BatchLimits, ahead: float) -> float:
        """When a batch that it computes will be so, but for the time ahead."""
        seconds = self.pace * self.running[batch_id].cost(limits)
        if batch_id in self.alone:
            seconds /= self.streams
        return self.began[batch_id] + max(0.0, seconds - max(ahead * seconds, LEAST_AHEAD))
