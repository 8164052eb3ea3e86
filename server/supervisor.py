"""Starts the processes of a service, watches them, and stops them in order.

The order of stopping, so that every request that was accepted is answered:

1. the HTTP process, if there is one, says that it isn't ready any more, takes no new connections
   and finishes the requests that it has;
2. the ventilator takes no new requests and finishes those it has, or answers them with an error
   when the time for it is over;
3. the sink sends the last reply;
4. the processes are told to stop, one kind after the other, and killed if they don't;
5. the sockets' directory is removed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

import zmq

from bert_serving.server.children import Child, describe_exit, end, spawn
from bert_serving.server.errors import PipelineError, StartupError
from bert_serving.server.spec import Endpoints, ServiceSpec

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

#: Seconds for the requests that are under way when the service is to stop.
DRAIN_TIMEOUT = 5.0
#: Seconds for the sink's last replies, and for a process to exit.
FLUSH_TIMEOUT = 3.0
EXIT_TIMEOUT = 3.0
#: Seconds in which a process's last report is read after it has exited.
LAST_WORD_TIMEOUT = 0.5
#: How often the processes are looked at.
WATCH_MS = 100
#: Processes that are replaced when they die; nothing can go on without the others.
REPLACED = ("worker", "http")
#: Seconds before a lost process is replaced: doubled each time it dies young, up to the longest.
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.5, 30.0
#: One that lived so many seconds starts again at the first.
HEALTHY_AFTER = 60.0
#: The longest path of a Unix socket, of which zmq wants one byte.
MAX_SOCKET_PATH = 106


@dataclass
class _Slot:
    """A place for a process that is replaced when it dies."""

    role: str
    name: str
    device: int = -1
    generation: int = 0
    back_off: float = FIRST_BACK_OFF
    restart_at: Optional[float] = None


class Supervisor:
    """Runs one service in the calling thread; :meth:`stop` may be called from any other."""

    def __init__(self, spec: ServiceSpec) -> None:
        self._spec = spec
        self._children: Dict[str, Child] = {}
        slots = [_Slot("worker", "worker-%d" % n, gpu) for n, gpu in enumerate(spec.devices)]
        if spec.http is not None:
            slots.append(_Slot("http", "http"))
        self._slots = {slot.name: slot for slot in slots}
        self._is_ready = False
        # Made here rather than in run(), for stop() may come before the thread has begun.
        self._wake_up_fd, self._stop_fd = os.pipe()
        # Reentrant, for a signal handler may interrupt stop() itself.
        self._stop_lock = threading.RLock()
        self._is_closed = False
        self._stops_asked = 0

    def stop(self, at_once: bool = False) -> None:
        """Ask for a stop; safe in signal handlers. A second call doesn't wait for requests."""
        with self._stop_lock:
            if not self._is_closed:
                os.write(self._stop_fd, b"!!" if at_once else b"!")

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until asked to stop; ``on_ready`` is called once when all processes are ready.

        Raises StartupError if a process can't start, PipelineError if ventilator or sink die.
        """
        directory = _socket_directory()
        context = zmq.Context()
        control = context.socket(zmq.ROUTER)
        control.setsockopt(zmq.LINGER, 0)
        self._poller = zmq.Poller()
        self._poller.register(control, zmq.POLLIN)
        self._poller.register(self._wake_up_fd, zmq.POLLIN)
        self._control = control
        try:
            self._endpoints = Endpoints.inside(directory)
            control.bind(self._endpoints.control)
            self._start_all()
            while not self._stops_asked:
                self._step(on_ready)
            self._drain()
        finally:
            self._end_all()
            control.close()
            context.term()
            shutil.rmtree(directory)

    def close(self) -> None:
        """Free what stop() needs; only after run() has returned. Safe to call twice."""
        with self._stop_lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._wake_up_fd)
                os.close(self._stop_fd)

    # ------------------------------------------------------------------------------- serving

    def _start_all(self) -> None:
        for role in ("sink", "ventilator"):
            self._add(spawn(role, role, self._spec, self._endpoints))
        for slot in self._slots.values():
            self._fill(slot)

    def _add(self, child: Child) -> None:
        self._children[child.identity] = child

    def _fill(self, slot: _Slot) -> None:
        slot.restart_at = None
        generation, device = slot.generation, slot.device
        self._add(spawn(slot.role, slot.name, self._spec, self._endpoints, generation, device))

    def _step(self, on_ready: Callable[[], None]) -> None:
        for child, event in self._wait(WATCH_MS):
            if event["event"] == "ready":
                self._note_ready(child)
            elif event["event"] == "failed":
                self._note_failed(child, event["message"])
            elif event["event"] == "terminate":
                logger.info("asked to stop by bert-serving-terminate")
                self._stops_asked += 1
        if not self._stops_asked:
            self._watch()
        ready = [child.is_ready for child in self._children.values()]
        if not self._is_ready and all(ready):
            self._is_ready = True
            on_ready()

    def _wait(self, timeout_ms: float) -> List[Any]:
        """Wait for events: pairs of the child and what it reported."""
        ready = dict(self._poller.poll(max(0, int(timeout_ms))))
        if self._wake_up_fd in ready:
            self._stops_asked += len(os.read(self._wake_up_fd, 16))
        events = []
        while self._control in ready and self._control.poll(0):
            identity, payload = self._control.recv_multipart()
            child = self._children.get(identity.decode("ascii"))
            if child is not None:
                events.append((child, json.loads(payload)))
        return events

    def _note_ready(self, child: Child) -> None:
        child.is_ready = True
        seconds = time.monotonic() - child.started
        if child.role == "worker":
            number = sum(c.is_ready and c.role == "worker" for c in self._children.values())
            logger.info("worker %d of %d ready (%.2f s)", number, self._spec.num_worker, seconds)
        else:
            logger.debug("%s ready (%.2f s)", child.name, seconds)

    def _note_failed(self, child: Child, message: str) -> None:
        if not self._is_ready:
            raise StartupError("%s can't start: %s" % (child.name, message))
        logger.error("%s failed: %s", child.name, message)

    def _watch(self) -> None:
        """Replace processes that died, or stop if it is one that nothing can go on without."""
        now = time.monotonic()
        for identity, child in list(self._children.items()):
            status = child.process.poll()
            if status is None:
                continue
            reason = "%s %s" % (child.name, describe_exit(status))
            if not self._is_ready:
                self._raise_last_word(child)
                raise StartupError(reason + " while it started")
            if child.role not in REPLACED:
                raise PipelineError(reason + "; the service stops")
            del self._children[identity]
            self._lose(child, reason, now)
        for slot in self._slots.values():
            if slot.restart_at is not None and slot.restart_at <= now:
                self._fill(slot)

    def _raise_last_word(self, child: Child) -> None:
        """A process that failed says why before it exits; its report may be read after that."""
        deadline = time.monotonic() + LAST_WORD_TIMEOUT
        while time.monotonic() < deadline:
            for sender, event in self._wait(WATCH_MS):
                if sender is child and event["event"] == "failed":
                    self._note_failed(child, event["message"])

    def _lose(self, child: Child, reason: str, now: float) -> None:
        slot = self._slots[child.name]
        lived = now - child.started
        slot.back_off = FIRST_BACK_OFF if lived > HEALTHY_AFTER else slot.back_off
        slot.generation += 1
        slot.restart_at = now + slot.back_off
        logger.error("%s; it is replaced in %.1f s", reason, slot.back_off)
        slot.back_off = min(slot.back_off * 2, LONGEST_BACK_OFF)
        child.close_input()
        if child.role == "worker":
            self._tell("ventilator", "worker_lost", worker=child.identity, reason=reason)

    # ------------------------------------------------------------------------------ stopping

    def _tell(self, role: str, command: str, **values: Any) -> None:
        payload = json.dumps(dict(values, command=command)).encode("utf-8")
        for child in self._children.values():
            if child.role == role and child.process.poll() is None:
                self._control.send_multipart([child.identity.encode("ascii"), payload])

    def _drain(self) -> None:
        """Steps 1 to 3 of the module's docstring, unless a second stop is asked for."""
        if not self._is_ready or self._stops_asked > 1:
            return
        logger.info("stopping: finishing what was accepted")
        if any(child.role == "http" and child.is_ready for child in self._children.values()):
            self._tell("http", "drain")
            drained = self._await("http_drained", DRAIN_TIMEOUT, "http")
            if drained is None and self._stops_asked < 2:
                logger.warning("some HTTP requests were not answered in time")
        self._tell("ventilator", "drain", timeout=DRAIN_TIMEOUT)
        drained = self._await("drained", DRAIN_TIMEOUT + FLUSH_TIMEOUT)
        if drained is None:
            return
        self._tell("sink", "flush", accepted=drained["accepted"])
        if self._await("flushed", FLUSH_TIMEOUT) is None and self._stops_asked < 2:
            logger.warning("some replies were not fetched in time")

    def _await(self, name: str, seconds: float, needed: str = "") -> Optional[Dict[str, Any]]:
        """The event of that name; None if it doesn't come in time or isn't waited for, which it
        isn't without ventilator and sink, and the role that is ``needed`` beside them.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._stops_asked < 2:
            if any(
                (child.role not in REPLACED or child.role == needed)
                and child.process.poll() is not None
                for child in self._children.values()
            ):
                return None
            for _, event in self._wait(min(WATCH_MS, (deadline - time.monotonic()) * 1000)):
                if event["event"] == name:
                    found: Dict[str, Any] = event
                    return found
        return None

    def _end_all(self) -> None:
        """Step 4, in the direction of a request: each process sends its last words to the next."""
        patience = EXIT_TIMEOUT if self._stops_asked < 2 else 0.5
        for role in ("http", "ventilator", "worker", "sink"):
            self._tell(role, "stop")
            children = [child for child in self._children.values() if child.role == role]
            for child in end(children, patience):
                logger.warning("%s didn't stop and was killed", child.name)


def _socket_directory() -> str:
    """A new directory for sockets that only this user may enter.

    Raises StartupError if its path is too long for one.
    """
    parent = os.environ.get("ZEROMQ_SOCK_TMP_DIR")
    if parent is not None and not os.path.isdir(parent):
        raise StartupError("ZEROMQ_SOCK_TMP_DIR names %s, which is no directory" % parent)
    directory = tempfile.mkdtemp(prefix="bert-serving-", dir=parent)
    if len(os.path.join(directory, "control")) > MAX_SOCKET_PATH:
        os.rmdir(directory)
        raise StartupError(
            "the path %s is too long for sockets in it; set ZEROMQ_SOCK_TMP_DIR to a directory "
            "with a short path" % directory
        )
    return directory
