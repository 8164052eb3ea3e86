"""The processes of a service and the supervisor's connections with them.

It starts them, tells them commands, hears what they report, finds those that died or hang, and ends
them. What follows from that is the supervisor's to decide.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

import zmq

from bert_serving.server.children import Child, end, is_held_up, processor_seconds, spawn
from bert_serving.server.heartbeats import SHORT_SILENCE, SILENCE, Heartbeats
from bert_serving.server.replacement import Slot
from bert_serving.server.spec import Endpoints, ServiceSpec

__all__ = ["Event", "Processes"]

#: What a process reported: an object with its name under "event".
Event = Dict[str, Any]

#: No request is answered while one of these hangs.
ESSENTIAL = ("ventilator", "sink")


class Processes:
    """``wake_up_fd`` is a pipe for whoever wants the supervisor to do something."""

    def __init__(self, endpoints: Endpoints, wake_up_fd: int) -> None:
        self._endpoints = endpoints
        self._wake_up_fd = wake_up_fd
        self._children: Dict[str, Child] = {}
        self._pulses: Dict[int, Child] = {}
        self._numbers: "Counter[str]" = Counter()  # of processes that a name had so far
        self._heartbeats = Heartbeats(self._processor_seconds, self._is_held_up)
        self._context = zmq.Context()
        self._control = self._context.socket(zmq.ROUTER)
        self._control.setsockopt(zmq.LINGER, 0)
        self._poller = zmq.Poller()
        self._poller.register(self._control, zmq.POLLIN)
        self._poller.register(wake_up_fd, zmq.POLLIN)
        self._control.bind(endpoints.control)

    def close(self) -> None:
        """Safe to call when processes are left; they end by themselves."""
        for child in self.of():
            self.remove(child)
        self._control.close()
        self._context.term()

    def of(self, *roles: str) -> List[Child]:
        """The processes of these roles, or all."""
        return [child for child in self._children.values() if not roles or child.role in roles]

    def start(self, spec: ServiceSpec, slot: Slot, args: Optional[Dict[str, Any]] = None) -> Child:
        """Start a process in a slot; ``args`` are what a preparation begins with.

        Raises OSError.
        """
        number = self._numbers[slot.name]
        self._numbers[slot.name] += 1
        child = spawn(slot.role, slot.name, spec, self._endpoints, number, slot.device, args)
        slot.fill()
        child.slot = slot
        self._children[child.identity] = child
        self._pulses[child.pulse_fd] = child
        self._poller.register(child.pulse_fd, zmq.POLLIN)
        silence = SHORT_SILENCE if child.role in ESSENTIAL else SILENCE
        self._heartbeats.expect(child.identity, child.started, silence)
        return child

    def wait(self, timeout_ms: float) -> Tuple[bytes, List[Tuple[Child, Event]]]:
        """Wait for something to happen; returns what came by ``wake_up_fd``, and who reported what.

        Returns early, with nothing, when a process ends.
        """
        ready = dict(self._poller.poll(max(0, int(timeout_ms))))
        asked = os.read(self._wake_up_fd, 16) if self._wake_up_fd in ready else b""
        events = []
        while self._control in ready and self._control.poll(0):
            identity, payload = self._control.recv_multipart()
            child = self._children.get(identity.decode("ascii"))
            if child is not None:  # else it is a last word of one that was given up
                events.append((child, json.loads(payload)))
        for fd in [fd for fd in ready if fd in self._pulses]:
            self._take_pulse(fd)
        for child, event in events:
            if event["event"] == "ready":
                child.ready_at = time.monotonic()
                self._heartbeats.ready(child.identity)
        return asked, events

    def _take_pulse(self, fd: int) -> None:
        child = self._pulses[fd]
        if os.read(fd, 4096):
            self._heartbeats.heard(child.identity, time.monotonic())
        else:
            self._close_pulse(child)

    def _close_pulse(self, child: Child) -> None:
        if child.pulse_fd >= 0:
            del self._pulses[child.pulse_fd]
            self._poller.unregister(child.pulse_fd)
            os.close(child.pulse_fd)
            child.pulse_fd = -1  # the number may soon be another's

    def kill(self, child: Child, verdict: str) -> None:
        """End a process by force; ``verdict`` says of it why."""
        if child.verdict is None:
            child.verdict = verdict
            child.process.kill()

    def kill_hung(self, now: float) -> None:
        """Look for processes that show no sign of life, and end them."""
        for identity, seconds in self._heartbeats.hung(now):
            verdict = "showed no sign of life for %.1f s and was killed" % seconds
            self.kill(self._children[identity], verdict)

    def exited(self) -> List[Child]:
        """The processes that have ended and not been removed."""
        return [child for child in self.of() if child.process.poll() is not None]

    def remove(self, child: Child) -> None:
        """Forget a process: what it reports from now on is nobody's."""
        del self._children[child.identity]
        self._heartbeats.forget(child.identity)
        self._close_pulse(child)
        child.close_input()

    def tell(self, role: str, command: str, **values: Any) -> None:
        """Give a command to the processes of a role."""
        for child in self.of(role):
            self.tell_one(child, command, **values)

    def tell_one(self, child: Child, command: str, **values: Any) -> None:
        if child.process.poll() is None:
            payload = json.dumps(dict(values, command=command)).encode("utf-8")
            self._control.send_multipart([child.identity.encode("ascii"), payload])

    def end(self, children: List[Child], patience: float) -> List[Child]:
        """Tell processes to stop and remove them; kills and returns those that take longer."""
        for child in children:
            self.tell_one(child, "stop")
            if child.role == "preparation" and child.verdict is None:
                child.process.terminate()  # it is busy; it cleans up
        stubborn = end(children, patience)
        for child in children:
            self.remove(child)
        return stubborn

    def kill_all(self, children: List[Child]) -> None:
        """End processes by force and remove them."""
        for child in children:
            child.process.kill()
        for child in children:
            child.process.wait()
            self.remove(child)

    def _processor_seconds(self, identity: str) -> Optional[float]:
        return processor_seconds(self._children[identity].process.pid)

    def _is_held_up(self, identity: str) -> bool:
        return is_held_up(self._children[identity].process.pid)
