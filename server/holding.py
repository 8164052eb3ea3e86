"""What a worker holds, and when it should get more. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict

from bert_serving.server.batching import BatchLimits
from bert_serving.server.work import Batch

__all__ = ["AHEAD", "Holder"]

#: A worker gets its next batch when this share of the time of one that it computes is left, or so
#: many seconds.
AHEAD = 0.2
LEAST_AHEAD = 0.003
#: Share of the newest batch in what is known of a worker's pace.
SMOOTHING = 0.2


@dataclass
class Holder:
    """The batches of a worker, in the order in which it got them, which it begins them in.

    It computes ``streams`` of them at a time, and those may end in any order.
    """

    credits: int
    streams: int = 1
    running: Dict[int, Batch] = field(default_factory=dict)
    began: Dict[int, float] = field(default_factory=dict)  # when, of those that it computes
    since: float = 0.0  # when the last one ended
    pace: float = 0.0  # seconds per weighted token, smoothed; 0: not known yet

    def begin(self, batch: Batch, now: float) -> None:
        self.credits -= 1
        self.running[batch.batch_id] = batch
        if len(self.began) < self.streams:
            self.began[batch.batch_id] = now

    def finish(self, batch_id: int, limits: BatchLimits, now: float) -> Batch:
        """A batch has ended; one that waited takes its place."""
        batch = self.running.pop(batch_id)
        # Begun in order, and each end is told before what took its place can end.
        pace = (now - self.began.pop(batch_id)) / batch.cost(limits)
        self.pace = pace if self.pace == 0 else self.pace + SMOOTHING * (pace - self.pace)
        self.since = now
        self.credits += 1
        waiting = next((one for one in self.running if one not in self.began), None)
        if waiting is not None and len(self.began) < self.streams:
            self.began[waiting] = now
        return batch

    def ready_at(self, limits: BatchLimits, ahead: float) -> float:
        """From when on it should get its next batch."""
        if len(self.began) < self.streams:
            return self.since
        times = []
        for batch_id, began in self.began.items():
            seconds = self.pace * self.running[batch_id].cost(limits)
            times.append(began + max(0.0, seconds - max(ahead * seconds, LEAST_AHEAD)))
        # Those that wait take the places of the first that end.
        waiting = len(self.running) - len(self.began)
        return sorted(times)[min(waiting, len(times) - 1)]
