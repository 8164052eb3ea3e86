"""The generations that the ventilator has at a time: the one that new requests belong to, those
before it whose requests haven't ended, and one that is being loaded.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional

import zmq

from bert_serving.server import work
from bert_serving.server.generation import Generation, vocabulary_of
from bert_serving.server.scheduler import Scheduler
from bert_serving.server.spec import ServiceSpec

__all__ = ["Generations"]


class Generations:
    """``poller`` wakes up for what their tokenizers have; ``current`` is that of new requests."""

    def __init__(self, spec: ServiceSpec, vocabulary: Dict[str, int], poller: zmq.Poller) -> None:
        self._poller = poller
        self._all: List[Generation] = []
        self._add(Generation(spec, vocabulary))
        self.current = self._all[0]

    def __iter__(self) -> Iterator[Generation]:
        return iter(self._all)

    def _add(self, generation: Generation) -> None:
        self._all.append(generation)
        self._poller.register(generation.intake.wake_up_fd, zmq.POLLIN)

    def _keep(self, generations: List[Generation]) -> None:
        for generation in self._all:
            if generation not in generations:
                self._poller.unregister(generation.intake.wake_up_fd)
                generation.close()
        self._all = generations

    @property
    def schedulers(self) -> List[Scheduler]:
        return [generation.scheduler for generation in self._all]

    def of(self, number: int) -> Optional[Generation]:
        """That of a number; None if it is given up."""
        return next((one for one in self._all if one.number == number), None)

    def ready(self, events: Dict[Any, int]) -> List[Generation]:
        """Those whose tokenizers have something; ``events`` is what the poller returned."""
        return [one for one in self._all if one.intake.wake_up_fd in events]

    def load(self, spec: ServiceSpec) -> None:
        """Get ready for requests to another model, whose workers come soon.

        Raises an exception of graph_opt or OSError.
        """
        self._add(Generation(spec, vocabulary_of(spec)))

    def unload(self) -> None:
        """That model isn't wanted after all."""
        self._keep([one for one in self._all if one.number <= self.current.number])

    def switch(self) -> None:
        """New requests belong to the newest one from now on."""
        self.current = self._all[-1]

    def end(self) -> bool:
        """Let those before the current one go whose requests have ended; whether there were any."""
        over = [
            one
            for one in self._all
            if one.number < self.current.number and not one.scheduler.open_requests
        ]
        if over:
            self._keep([one for one in self._all if one not in over])
        return bool(over)

    def handle(self, event: work.Event, now: float) -> Iterator[List[work.Action]]:
        """Tell all of an event: handles and workers are known to one scheduler only. What each one
        wants done is to be done before the next is told.
        """
        for one in list(self._all):
            yield one.scheduler.handle(event, now)

    def wake_at(self) -> Optional[float]:
        """When there is something to do though nothing has come; None: never."""
        times = [scheduler.wake_at() for scheduler in self.schedulers]
        return min((time for time in times if time is not None), default=None)

    def close(self) -> None:
        for generation in self._all:
            generation.close()
