"""The workers: which of them gets the next batch, which should be replaced, whether there is any.

Pure. A batch that is suspect (:mod:`retries`) goes to a worker that holds nothing, which gets
nothing else until that batch has ended. While suspects wait, as many workers get no other batches,
so that they become free soon.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from bert_serving.server.batching import BatchLimits
from bert_serving.server.holding import NEVER, Holder, Opening
from bert_serving.server.work import Batch, Unfit

__all__ = ["GRACE", "Crew"]

#: Seconds without any worker after which requests fail. A replacement begins half a second after
#: its predecessor's end, and loads its model; one whose predecessors died young may take longer.
GRACE = 10.0


class Crew:
    """The workers that have joined. ``timeout``: seconds that a batch may take at least."""

    def __init__(self, ahead: float, split_tokens: int, timeout: float) -> None:
        self._ahead = ahead
        self._split_tokens = split_tokens
        self._timeout = timeout
        self._holders: Dict[bytes, Holder] = {}
        self._absent_since: Optional[float] = None  # None also while the first may still come
        self._last_words = ""

    def __getitem__(self, worker: bytes) -> Holder:
        return self._holders[worker]

    def holders(self) -> List[Holder]:
        """What each worker holds."""
        return list(self._holders.values())

    def running(self) -> Dict[bytes, int]:
        """How many batches each worker holds."""
        return {name: len(holder.running) for name, holder in self._holders.items()}

    def join(self, worker: bytes, credits: int, streams: int) -> None:
        """A worker, that isn't there, has come."""
        self._holders[worker] = Holder(credits, streams, self._split_tokens)
        self._absent_since = None

    def lose(self, worker: bytes, reason: str, now: float) -> Optional[Holder]:
        """A worker is gone; returns what it held, None if it isn't known.

        One that isn't may have died before it could join: after the pipeline was started again,
        that can be all there is to hear of workers.
        """
        holder = self._holders.pop(worker, None)
        if not self._holders:
            self._last_words = reason
            if self._absent_since is None:
                self._absent_since = now
        return holder

    def finish(
        self,
        worker: bytes,
        batch_id: int,
        limits: BatchLimits,
        now: float,
        has_failed: bool = False,
    ) -> Optional[Batch]:
        """A worker has ended a batch; None if it was given up before its answer came."""
        holder = self._holders.get(worker)
        if holder is None or batch_id not in holder.running:
            return None
        return holder.finish(batch_id, limits, now, has_failed)

    def idle(self) -> Optional[bytes]:
        """A worker for a batch that is suspect."""
        for name, holder in self._holders.items():
            if holder.credits > 0 and not holder.running and not holder.is_unfit:
                return name
        return None

    def opening(
        self, limits: BatchLimits, tokens: int, suspects: int, now: float
    ) -> Tuple[Optional[bytes], Opening]:
        """The place for the next batch: of workers with one, that of the one with most credits.

        So many tokens wait, and so many groups that are suspect.
        """
        best, found, most = None, Opening(NEVER), 0
        kept = self._kept_free(suspects)
        for name, holder in self._holders.items():
            if holder.credits > most and name not in kept:
                opening = holder.opening(limits, self._ahead, tokens)
                if opening.at <= now:
                    best, found, most = name, opening, holder.credits
        return best, found

    def wake_at(self, limits: BatchLimits, tokens: int, suspects: int) -> Optional[float]:
        """When there is such a place if nothing happens before; None if that can't be told."""
        kept = self._kept_free(suspects)
        times = [
            holder.opening(limits, self._ahead, tokens).at
            for name, holder in self._holders.items()
            if holder.credits and name not in kept
        ]
        first = min(times, default=NEVER)
        return None if first == NEVER else first

    def unfit(self, limits: BatchLimits, now: float) -> List[Unfit]:
        """Workers that should be replaced, each of them once."""
        found = []
        for name, holder in self._holders.items():
            reason = holder.unfitness(limits, self._timeout, now)
            if reason is not None:
                found.append(Unfit(name, reason))
        return found

    def absence(self, now: float) -> Optional[str]:
        """Why there has been no worker for too long; None if there is one, or may be soon."""
        if self._absent_since is None or now < self._absent_since + GRACE:
            return None
        return "no worker is running: %s, and its replacement isn't ready yet" % self._last_words

    def _kept_free(self, suspects: int) -> List[bytes]:
        """Workers that get no batches beside suspects: those that will be free first."""
        if not suspects:
            return []
        able = [
            (len(holder.running), name)
            for name, holder in self._holders.items()
            if (holder.credits or holder.running) and not holder.is_kept
        ]
        return [name for _, name in sorted(able)[:suspects]]
