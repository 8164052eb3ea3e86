"""What a worker holds, and when it should get more. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict

from bert_serving.server.batching import BatchLimits
from bert_serving.server.work import Batch

__all__ = ["AHEAD", "Holder"]

#: A worker gets its next batch when this share of the time of the one that it computes is left,
#: or so many seconds.
AHEAD = 0.2
LEAST_AHEAD = 0.003
#: Share of the newest batch in what is known of a worker's pace.
SMOOTHING = 0.2


@dataclass
class Holder:
    """The batches of a worker, in the order in which it got them, which it computes them in."""

    credits: int
    running: Dict[int, Batch] = field(default_factory=dict)
    since: float = 0.0  # when it began with the first of them
    pace: float = 0.0  # seconds per weighted token, smoothed; 0: not known yet

    def begin(self, batch: Batch, now: float) -> None:
        if not self.running:
            self.since = now
        self.credits -= 1
        self.running[batch.batch_id] = batch

    def finish(self, batch_id: int, limits: BatchLimits, now: float) -> Batch:
        """It computes batches in the order in which it got them."""
        batch = self.running.pop(batch_id)
        pace = (now - self.since) / batch.cost(limits)
        self.pace = pace if self.pace == 0 else self.pace + SMOOTHING * (pace - self.pace)
        self.since = now
        self.credits += 1
        return batch

    def ready_at(self, limits: BatchLimits, ahead: float) -> float:
        """From when on it should get its next batch."""
        if not self.running:
            return self.since
        seconds = self.pace * next(iter(self.running.values())).cost(limits)
        return self.since + max(0.0, seconds - max(ahead * seconds, LEAST_AHEAD))
