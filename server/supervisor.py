"""Starts the processes of a service, replaces those that are lost, and stops them in order.

Workers and the HTTP process are replaced one by one. When the ventilator or the sink is lost, so
is what the other knew of the requests: both are started again, with the workers. Clients notice
that their connection was lost, and ask again.

:mod:`shutdown` has the order of stopping. At its end, the processes are told to stop, one kind
after the other, and killed if they don't; the directory of sockets is removed.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from typing import Callable, List, Optional

from bert_serving.server.bell import Bell
from bert_serving.server.children import Child
from bert_serving.server.errors import PipelineError, StartupError
from bert_serving.server.processes import Event, Processes
from bert_serving.server.recovery import Recovery
from bert_serving.server.reloading import Reload, Team
from bert_serving.server.replacement import MOST_RESTARTS, YOUNG, Restarts, Slot
from bert_serving.server.runtime import Upkeep, keep_vocabulary, make_directory
from bert_serving.server.spec import Endpoints, ServiceSpec
from bert_serving.server.stopping import Stopping

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

#: Seconds for a process to exit, and when it is to stop at once.
EXIT_TIMEOUT, SHORT_EXIT_TIMEOUT = 3.0, 0.5
#: Seconds in which a process's last report is read after it has exited.
LAST_WORD_TIMEOUT = 0.5
#: How often the processes are looked at.
WATCH_MS = 100
#: What is written to wake the supervisor up.
STOP, RELOAD = b"!", b"r"
#: In the direction of a request: each process sends its last words to the next.
ORDER_OF_ENDING = ("preparation", "http", "ventilator", "worker", "sink")


class Supervisor:
    """Runs one service in the calling thread; :meth:`stop` and :meth:`reload` may be called from
    any other. ``args`` are the flags that ``spec`` was made of, to make another one by.
    """

    def __init__(self, spec: ServiceSpec, args: argparse.Namespace) -> None:
        self._args = args
        self._team = Team.of(spec)  # that gets new requests
        self._pipeline = [Slot(role, role) for role in ("sink", "ventilator")]
        self._front = [] if spec.http is None else [Slot("http", "http")]
        self._restarts = Restarts()
        self._recovery: Optional[Recovery] = None  # until requests are answered again
        self._reload: Optional[Reload] = None
        self._reload_again = False
        self._stopping = Stopping(spec.drain_timeout)
        self._was_ready = False
        self._up_since: Optional[float] = None
        # Made here rather than in run(), for stop() may come before the thread has begun.
        self._bell = Bell()

    def stop(self, at_once: bool = False) -> None:
        """Ask for a stop; safe in signal handlers. A second call doesn't wait for requests."""
        self._bell.ring(STOP * (2 if at_once else 1))

    def reload(self) -> None:
        """Ask for the model to be loaded again; safe in signal handlers."""
        self._bell.ring(RELOAD)

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until asked to stop; ``on_ready`` is called once when all processes are ready.

        Raises StartupError if a process can't start, PipelineError if ventilator or sink die too
        often.
        """
        self._directory = make_directory()
        self._upkeep = Upkeep(self._directory)
        self._processes = Processes(Endpoints.inside(self._directory), self._bell.fd)
        try:
            self._team.spec = keep_vocabulary(self._team.spec, self._directory)
            self._fill_all()
            while not self._stopping.is_over(self._was_ready):
                self._step(on_ready)
        finally:
            self._end_all()
            self._processes.close()
            shutil.rmtree(self._directory)

    def close(self) -> None:
        """Free what stop() needs; only after run() has returned. Safe to call twice."""
        self._bell.close()

    # ------------------------------------------------------------------------------- serving

    def _teams(self) -> List[Team]:
        reload = self._reload
        return [self._team] if reload is None else [self._team, reload.team, reload.old]

    def _fill_all(self) -> None:
        """Start all processes that are due."""
        front = [] if self._stopping.asked else self._front
        self._fill(self._team.spec, self._pipeline + front + self._team.slots)
        if self._reload is not None and self._reload.is_switched:
            self._fill(self._reload.old.spec, self._reload.old.slots)

    def _fill(self, spec: ServiceSpec, slots: List[Slot]) -> None:
        now = time.monotonic()
        for slot in slots:
            if not slot.is_due(now):
                continue
            try:
                self._processes.start(spec, slot)
            except OSError as error:  # the system has no room for a process
                if not self._was_ready:
                    raise
                wait = slot.lose(None, now)
                logger.error("can't start %s: %s; again in %.1f s", slot.name, error, wait)

    def _step(self, on_ready: Callable[[], None]) -> None:
        asked, events = self._processes.wait(WATCH_MS)
        self._stopping.asked += asked.count(STOP)
        if RELOAD in asked:
            self._begin_reload()
        for child, event in events:
            self._hear(child, event)
        self._watch()
        if not self._stopping.is_finishing:
            if self._up_since is None and self._is_complete():
                self._come_up(on_ready)
            if self._stopping.asked and self._was_ready and self._has_pipeline():
                self._begin_to_stop()
        self._stopping.go_on(self._processes, time.monotonic())

    def _hear(self, child: Child, event: Event) -> None:
        name = event["event"]
        if name == "ready":
            self._note_ready(child)
        elif name == "failed":
            self._note_failed(child, event["message"])
        elif name == "terminate":
            logger.info("asked to stop by bert-serving-terminate")
            self._stopping.asked += 1
        elif name == "reload":
            logger.info("asked to load the model again by bert-serving-reload")
            self._begin_reload()
        elif name == "hung":
            self._kill_worker(event["worker"], event["reason"])
        self._stopping.reported(event, time.monotonic())
        if self._recovery is not None:
            self._recovery.reported(child, event)
        if self._reload is not None:
            self._reload.reported(child, event)
            self._note_reload()

    def _note_ready(self, child: Child) -> None:
        seconds = time.monotonic() - child.started
        if child.role == "worker" and child.slot is not None:
            workers = self._processes.of("worker")
            slots = next((team.slots for team in self._teams() if child.slot in team.slots), [])
            number = sum(worker.is_ready for worker in workers if worker.slot in slots)
            logger.info("worker %d of %d ready (%.2f s)", number, len(slots), seconds)
        else:
            logger.debug("%s ready (%.2f s)", child.name, seconds)
        if child.role == "http":
            self._brief(child)
        if child.role == "ventilator" and self._recovery is not None:
            lost = self._recovery.lost_requests
            self._processes.tell_one(child, "lost", requests=lost)

    def _brief(self, child: Child) -> None:
        """Tell an HTTP process what it couldn't be told before it was ready."""
        spec = self._team.spec
        if child.generation != spec.generation:
            self._processes.tell_one(child, "reload", spec=spec.to_json())
        if self._was_ready and self._up_since is None:
            self._processes.tell_one(child, "pause")

    def _note_failed(self, child: Child, message: str) -> None:
        if not self._was_ready:
            raise StartupError("%s can't start: %s" % (child.name, message))
        if child.role != "preparation":
            logger.error("%s failed: %s", child.name, message)

    def _kill_worker(self, identity: str, reason: str) -> None:
        for child in self._processes.of("worker"):
            if child.identity == identity:
                self._processes.kill(child, "hung and was killed: " + reason)

    def _is_complete(self) -> bool:
        """Whether requests can be answered; for the first time, all processes are waited for."""
        if not self._was_ready:
            return all(child.is_ready for child in self._processes.of())
        return self._has_pipeline() and any(one.is_ready for one in self._processes.of("worker"))

    def _has_pipeline(self) -> bool:
        """Whether there are a ventilator and a sink, so that requests get at least an error."""
        ready = [child.role for child in self._processes.of("ventilator", "sink") if child.is_ready]
        return len(ready) == len(self._pipeline)

    def _come_up(self, on_ready: Callable[[], None]) -> None:
        self._up_since = time.monotonic()
        self._recovery = None
        if not self._was_ready:
            self._was_ready = True
            on_ready()
            return
        logger.info("requests are answered again")
        self._processes.tell("http", "resume")
        if self._reload_again:
            self._begin_reload()

    # -------------------------------------------------------------------------------- losses

    def _watch(self) -> None:
        """Replace processes that died, or all of the pipeline."""
        now = time.monotonic()
        self._processes.kill_hung(now)
        self._upkeep.look(now)
        exited = self._processes.exited()
        for child in exited:
            if not self._was_ready:
                self._raise_last_word(child)
                raise StartupError(child.end + " while it started")
            self._processes.remove(child)
            if self._stopping.asked and child.role == "http":
                self._stopping.lost_http(now)
            elif self._reload is not None and self._reload.lost(child):
                continue
            elif child.slot is not None and child.slot not in self._pipeline:
                self._lose(child, now)
        lost = [child for child in exited if child.slot in self._pipeline]
        if lost:
            self._recover(lost, now)
        if self._recovery is not None and self._recovery.is_due(now):
            self._restart(self._recovery, now)
        self._fill_all()
        if self._reload is not None:
            self._reload.look(now)
            self._note_reload()

    def _raise_last_word(self, child: Child) -> None:
        """A process that failed says why before it exits; its report may be read after that."""
        deadline = time.monotonic() + LAST_WORD_TIMEOUT
        while time.monotonic() < deadline:
            for sender, event in self._processes.wait(WATCH_MS)[1]:
                if sender is child and event["event"] == "failed":
                    self._note_failed(child, event["message"])

    def _lose(self, child: Child, now: float) -> None:
        """A worker or the HTTP process is gone."""
        assert child.slot is not None
        wait = child.slot.lose(child.ready_at, now)
        logger.error("%s; it is replaced%s", child.end, " in %.1f s" % wait if wait else "")
        if child.role == "worker":
            self._processes.tell(
                "ventilator", "worker_lost", worker=child.identity, reason=child.end
            )

    def _recover(self, lost: List[Child], now: float) -> None:
        """Begin to start ventilator, sink and workers again.

        Raises PipelineError if that happens too often.
        """
        if self._recovery is not None and not self._recovery.is_restarted:
            for child in lost:
                self._recovery.lost(child)
            return
        reason = " and ".join(child.end for child in lost)
        if not self._restarts.may(self._up_since, now):
            raise PipelineError(
                "%s, after %d restarts in a row that didn't last for %g s; the service stops"
                % (reason, MOST_RESTARTS, YOUNG)
            )
        logger.error("%s; ventilator, sink and workers are started again", reason)
        earlier = [] if self._recovery is None else self._recovery.lost_requests
        self._up_since = None
        self._stopping.interrupt()
        self._processes.tell("http", "pause")
        if self._reload is not None:
            self._reload_again = self._reload_again or self._reload.is_pending
            self._reload.give_up("ventilator or sink were lost; it is tried again")
            self._note_reload()
        self._recovery = Recovery(self._processes, now)
        self._recovery.lost_requests += earlier

    def _restart(self, recovery: Recovery, now: float) -> None:
        recovery.is_restarted = True
        self._processes.kill_all(self._processes.of("ventilator", "worker", "sink"))
        for slot in self._pipeline + self._team.slots:
            if slot.restart_at is None:  # else it has a back-off that is its own
                slot.restart_at = now

    # --------------------------------------------------------------------------------- reload

    def _begin_reload(self) -> None:
        if not self._was_ready or self._stopping.asked:
            logger.warning("the model isn't loaded again: the service starts or stops")
        elif self._reload is not None or self._up_since is None:
            self._reload_again = True  # later; what is loaded now may be out of date
        else:
            self._reload_again = False
            self._reload = Reload(self._processes, self._args, self._team, self._directory)

    def _note_reload(self) -> None:
        """Look at what has become of it."""
        reload = self._reload
        assert reload is not None
        if reload.is_switched:
            self._team = reload.team
        if reload.is_over:
            self._reload = None
            if self._reload_again:
                self._begin_reload()

    # ------------------------------------------------------------------------------- stopping

    def _begin_to_stop(self) -> None:
        if self._reload is not None and self._reload.is_pending:
            self._reload.give_up("the service stops")
            self._note_reload()
        self._stopping.begin(self._processes, time.monotonic())

    def _end_all(self) -> None:
        patience = EXIT_TIMEOUT if self._stopping.asked < 2 else SHORT_EXIT_TIMEOUT
        for role in ORDER_OF_ENDING:
            for child in self._processes.end(self._processes.of(role), patience):
                logger.warning("%s didn't stop and was killed", child.name)
