"""A supervisor whose processes end when the test says so."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Optional, Set

import zmq
from support import PATIENCE
from unit.server.support import Hub, receive

from bert_serving.server.arguments import get_args_parser
from bert_serving.server.children import Child
from bert_serving.server.preparation import prepare
from bert_serving.server.processes import Processes
from bert_serving.server.runtime import Upkeep
from bert_serving.server.spec import Endpoints, ServiceSpec
from bert_serving.server.supervisor import Supervisor

__all__ = ["FakeProcess", "Running", "Spawner"]


class FakeInput:
    closed = False

    def close(self) -> None:
        self.closed = True


class FakeProcess:
    """Ends when it is killed, and, unless it is ``stubborn``, when it is waited for."""

    def __init__(self) -> None:
        self.stdin = FakeInput()
        self.status: Optional[int] = None
        self.stubborn = False
        self.pid = os.getpid()

    def poll(self) -> Optional[int]:
        return self.status

    def wait(self, timeout: Optional[float] = None) -> Optional[int]:
        if self.status is None and not self.stubborn:
            self.status = 0
        if self.status is None:
            raise subprocess.TimeoutExpired("fake", timeout or 0.0)
        return self.status

    def kill(self) -> None:
        self.status = -9 if self.status is None else self.status

    def terminate(self) -> None:
        self.status = -15 if self.status is None else self.status


class Spawner:
    """In place of ``spawn``: starts nothing, and remembers what it was asked to."""

    def __init__(self) -> None:
        self.started: List[str] = []  # identities
        self.specs: Dict[str, ServiceSpec] = {}
        self.args: Any = None
        self.fails = False
        self.silent: Set[str] = set()
        self._pulses: Dict[str, int] = {}

    def __call__(
        self,
        role: str,
        name: str,
        spec: ServiceSpec,
        endpoints: Endpoints,
        number: int = 0,
        device: int = -1,
        args: Any = None,
    ) -> Child:
        if self.fails:
            raise OSError("no more processes")
        identity = "%s.%d" % (name, number)
        self.started.append(identity)
        self.specs[identity] = spec
        self.args = args or self.args
        process: Any = FakeProcess()
        pulse_fd, self._pulses[identity] = os.pipe()
        return Child(role, name, identity, process, pulse_fd, generation=spec.generation)

    def beat_all(self) -> None:
        """All processes show signs of life, but for the silent ones."""
        for identity in self._pulses:
            if identity not in self.silent:
                with suppress(BrokenPipeError):  # it has been given up
                    self.beat(identity)

    def beat(self, identity: str) -> None:
        """The process shows a sign of life."""
        os.write(self._pulses[identity], b"\0")

    def end_pulse(self, identity: str) -> None:
        """As the system does it when the process ends."""
        os.close(self._pulses.pop(identity))

    def close(self) -> None:
        for identity in list(self._pulses):
            self.end_pulse(identity)


class Running:
    """A supervisor as it is inside run(), and the processes' links to it."""

    def __init__(self, hub: Hub, spawner: Spawner, directory: str, *flags: str) -> None:
        args = get_args_parser().parse_args(["-engine", "echo", "-num_worker", "2", *flags])
        self.supervisor = Supervisor(prepare(args, ports_are_ours=True), args)
        self.endpoints = Endpoints.inside(directory)
        self.processes = Processes(self.endpoints, self.supervisor._bell.fd)
        self.supervisor._directory = directory
        self.supervisor._upkeep = Upkeep(directory)
        self.supervisor._processes = self.processes
        self.supervisor._fill_all()
        self.spawner = spawner
        self._links: Dict[str, zmq.Socket] = {}
        self._hub = hub
        self.was_ready = 0

    def close(self) -> None:
        self.processes.close()
        self.supervisor.close()

    def link(self, identity: str) -> zmq.Socket:
        if identity not in self._links:
            self._links[identity] = self._hub.socket(zmq.DEALER, identity.encode("ascii"))
            self._links[identity].connect(self.endpoints.control)
        return self._links[identity]

    def report(self, identity: str, event: str, **values: Any) -> None:
        self.link(identity).send(json.dumps(dict(values, event=event)).encode("utf-8"))

    def told(self, identity: str) -> Any:
        return json.loads(receive(self.link(identity))[-1].decode("utf-8"))

    def step(self) -> None:
        self.spawner.beat_all()
        self.supervisor._step(self._note_ready)

    def is_over(self) -> bool:
        """Whether run() would end the processes now."""
        return self.supervisor._stopping.is_over(self.supervisor._was_ready)

    def step_until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "stepped in vain"
            self.step()

    def child(self, identity: str) -> Optional[Child]:
        found = [child for child in self.processes.of() if child.identity == identity]
        return found[0] if found else None

    def process(self, identity: str) -> Any:
        child = self.child(identity)
        assert child is not None
        return child.process

    def is_ready(self, identity: str) -> bool:
        child = self.child(identity)
        return child is not None and child.is_ready

    def _note_ready(self) -> None:
        self.was_ready += 1

    def make_ready(self, *identities: str) -> None:
        """These processes report that they are ready, or all that there are."""
        names = list(identities) or [child.identity for child in self.processes.of()]
        for identity in names:
            self.report(identity, "ready")
        self.step_until(lambda: all(self.is_ready(identity) for identity in names))
