"""Putting another model in the place of the one that serves, without losing a request.

1. A process of its own finds the model again, by the same flags, and makes its graph ready.
2. The ventilator gets ready for requests to it.
3. New workers load it, while the old ones go on.
4. When all of them are ready, new requests go to the new model; the old workers finish what was
   accepted before, and end.

Whatever fails before the fourth step is logged and ends the reload, and the old model goes on.
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import List, Optional

from bert_serving.server.children import Child
from bert_serving.server.errors import StartupError
from bert_serving.server.preparing import encode_args
from bert_serving.server.processes import Event, Processes
from bert_serving.server.replacement import Slot
from bert_serving.server.runtime import keep_vocabulary
from bert_serving.server.spec import ServiceSpec

__all__ = ["Reload", "Team"]

logger = logging.getLogger(__name__)

#: Seconds for a worker to end that isn't needed any more.
EXIT_TIMEOUT = 3.0


@dataclass
class Team:
    """The workers of one model."""

    spec: ServiceSpec
    slots: List[Slot]

    @classmethod
    def of(cls, spec: ServiceSpec) -> "Team":
        slots = [Slot("worker", "worker-%d" % n, gpu) for n, gpu in enumerate(spec.devices)]
        return cls(spec, slots)


class _Step(Enum):
    PREPARING, ASKING, LOADING, FINISHING, ENDING, OVER = range(6)


class Reload:
    """See the module's docstring."""

    def __init__(
        self, processes: Processes, args: argparse.Namespace, old: Team, directory: str
    ) -> None:
        logger.info("loading the model again")
        self._processes = processes
        self.old = old
        self.team = old  # the new one, once there is one
        self._directory = directory
        self._began = time.monotonic()
        self._step = _Step.PREPARING
        self._preparation: Optional[Child] = None
        try:
            slot = Slot("preparation", "reload")
            self._preparation = processes.start(old.spec, slot, encode_args(args))
            self._preparation.slot = None  # nobody replaces it
        except OSError as error:  # the system has no room for a process
            self.give_up(str(error))
        self._deadline = 0.0  # of old workers that are told to end

    @property
    def is_pending(self) -> bool:
        """Whether it can still be given up."""
        return self._step in (_Step.PREPARING, _Step.ASKING, _Step.LOADING)

    @property
    def is_switched(self) -> bool:
        """Whether the old workers finish what they have, and new requests go to the new ones."""
        return self._step is _Step.FINISHING

    @property
    def is_over(self) -> bool:
        return self._step is _Step.OVER

    def reported(self, child: Child, event: Event) -> None:
        """A process has reported an event."""
        name = event["event"]
        if self._step is _Step.PREPARING and child is self._preparation:
            if name == "prepared":
                self._ask(ServiceSpec.from_json(event["spec"]))
            elif name == "failed":
                child.verdict = "failed"  # it is about to end
                self.give_up(event["message"])
        elif self._step is _Step.ASKING and child.role == "ventilator":
            if name == "loaded":
                self._load()
            elif name == "load_failed":
                self.give_up(event["message"])
        elif self._step is _Step.LOADING and child.slot in self.team.slots:
            if name == "failed":
                self.give_up("%s can't load it: %s" % (child.name, event["message"]))
            elif all(worker.is_ready for worker in self._workers(self.team)):
                self._switch()
        elif self._step is _Step.FINISHING and name == "generation_over":
            self._end_old()

    def lost(self, child: Child) -> bool:
        """A process has died; returns whether that concerns this reload alone."""
        if child is self._preparation:
            self._preparation = None
            if self._step is _Step.PREPARING:
                self.give_up(child.end)
            return True
        if self._step is _Step.LOADING and child.slot in self.team.slots:
            self.give_up(child.end + " while it loaded the model")
            return True
        return self._step is _Step.ENDING and child.slot in self.old.slots

    def look(self, now: float) -> None:
        """Time has passed."""
        if self._step is not _Step.ENDING:
            return
        workers = self._workers(self.old)
        if not workers:
            self._step = _Step.OVER
        elif now > self._deadline:
            for worker in workers:
                self._processes.kill(worker, "didn't stop and was killed")

    def give_up(self, reason: str) -> None:
        """Leave the model as it is, if it isn't switched yet."""
        if self.is_pending:
            logger.error("the model stays as it was: %s", reason)
            self._processes.tell("ventilator", "unload")
            self._dismiss_preparation()
            if self.team is not self.old:
                for worker in self._workers(self.team):
                    worker.slot = None  # so that nobody replaces it
                    self._processes.kill(worker, "isn't needed")
        self._step = _Step.OVER

    def _workers(self, team: Team) -> List[Child]:
        return [child for child in self._processes.of("worker") if child.slot in team.slots]

    def _dismiss_preparation(self) -> None:
        if self._preparation is not None and self._preparation.verdict is None:
            self._preparation.verdict = "isn't needed"
            self._preparation.process.terminate()

    def _ask(self, spec: ServiceSpec) -> None:
        self._dismiss_preparation()
        old = self.old.spec
        # Keys stay those of the start: the ports are the same, and so is who guards them.
        spec = replace(spec, generation=old.generation + 1, security=old.security)
        try:
            spec = keep_vocabulary(spec, self._directory)
        except StartupError as error:
            self.give_up(str(error))
            return
        self.team = Team.of(spec)
        self._step = _Step.ASKING
        self._processes.tell("ventilator", "load", spec=spec.to_json())

    def _load(self) -> None:
        self._step = _Step.LOADING
        try:
            for slot in self.team.slots:
                self._processes.start(self.team.spec, slot)
        except OSError as error:  # the system has no room for a process
            self.give_up(str(error))

    def _switch(self) -> None:
        self._step = _Step.FINISHING
        spec = self.team.spec
        self._processes.tell("ventilator", "switch")
        self._processes.tell("http", "reload", spec=spec.to_json())
        logger.info(
            "new requests go to %s, generation %d, vectors of %d dimensions (%.2f s)",
            spec.model,
            spec.generation,
            spec.engine.dimension,
            time.monotonic() - self._began,
        )

    def _end_old(self) -> None:
        self._step = _Step.ENDING
        self._deadline = time.monotonic() + EXIT_TIMEOUT
        for worker in self._workers(self.old):
            self._processes.tell_one(worker, "stop")
        logger.info("the old workers have finished")
