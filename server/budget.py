"""How large batches may be, after the device ran out of memory.

Pure. The budget is halved when a batch that it allowed was too large, and doubled again after a
while, up to what it was at the start: what took the memory may have been another program. If it
wasn't, that costs one batch that fails, of which nothing is lost, every ``GROW_AFTER`` seconds.
"""

from __future__ import annotations

from dataclasses import replace

from bert_serving.server.batching import BatchLimits
from bert_serving.server.work import Batch

__all__ = ["GROW_AFTER", "Budget"]

#: Seconds after which a larger budget is tried.
GROW_AFTER = 600.0


class Budget:
    """``limits`` are the present ones."""

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self._most = limits.tokens
        self._changed_at = 0.0

    def shrink(self, batch: Batch, now: float) -> bool:
        """There was too little memory for a batch; returns whether the limits have changed.

        They don't if they have been halved since it was put together, or if it was small: a batch
        of half the budget fits no better for a smaller budget.
        """
        limits = self.limits
        counts = limits.weighted(len(batch.rows), batch.tokens, batch.longest)
        tokens = max(limits.tokens // 2, batch.longest)
        if tokens >= limits.tokens or not limits.tokens / 2 < counts <= limits.tokens:
            return False
        self.limits = replace(limits, tokens=tokens)
        self._changed_at = now
        return True

    def grow(self, now: float) -> bool:
        """Time has passed; returns whether the limits have changed."""
        if self.limits.tokens == self._most or now < self._changed_at + GROW_AFTER:
            return False
        self.limits = replace(self.limits, tokens=min(2 * self.limits.tokens, self._most))
        self._changed_at = now
        return True
