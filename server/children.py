"""Processes that the supervisor starts, watches and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

from bert_serving.server.replacement import Slot
from bert_serving.server.spec import Endpoints, ServiceSpec

__all__ = ["Child", "describe_exit", "end", "is_held_up", "processor_seconds", "spawn"]


@dataclass
class Child:
    """A process with a role: "ventilator", "sink", "worker" or "http"."""

    role: str
    name: str  # as people read it: worker-0
    identity: str  # as its sockets are called: worker-0.1, the second of that name
    process: "subprocess.Popen[bytes]"
    #: Where its signs of life can be read; the end of the file is its own.
    pulse_fd: int = -1
    slot: Optional[Slot] = None  # where it is replaced
    generation: int = 1  # of the model that it was started with
    started: float = field(default_factory=time.monotonic)
    ready_at: Optional[float] = None
    #: Why it was killed, if it was.
    verdict: Optional[str] = None

    @property
    def is_ready(self) -> bool:
        return self.ready_at is not None

    @property
    def end(self) -> str:
        """What became of the process, in words."""
        if self.verdict is not None:
            return "%s %s" % (self.name, self.verdict)
        return "%s %s" % (self.name, describe_exit(self.process.poll()))

    def close_input(self) -> None:
        """Tell the process that its supervisor is gone, which it takes as its own end."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # what a process that died at once didn't read
            self.process.stdin.close()


def spawn(
    role: str,
    name: str,
    spec: ServiceSpec,
    endpoints: Endpoints,
    number: int = 0,
    device: int = -1,
    args: Optional[Dict[str, Any]] = None,
) -> Child:
    """Start a process, the ``number``-th of its name; it reports to the supervisor's control socket
    when it is ready.
    """
    identity = "%s.%d" % (name, number)
    pulse_fd, beat_fd = os.pipe()
    os.set_blocking(beat_fd, False)
    order: Dict[str, Any] = {
        "role": role,
        "name": name,
        "identity": identity,
        "device": device,
        "args": args,
        "beat_fd": beat_fd,
        "endpoints": asdict(endpoints),
        "spec": spec.for_role(role).to_json(),
    }
    try:
        process = subprocess.Popen(
            # The name is for people who look at the list of processes.
            [sys.executable, "-m", "bert_serving.server.process", name],
            stdin=subprocess.PIPE,
            # A session of its own, or Ctrl-C in the terminal would reach it before its orders do.
            start_new_session=True,
            env=dict(os.environ, TOKENIZERS_PARALLELISM="false"),
            pass_fds=(beat_fd,),
        )
    except OSError:
        os.close(pulse_fd)
        raise
    finally:
        os.close(beat_fd)
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it died at once; whoever watches it sees that
        process.stdin.write(json.dumps(order).encode("utf-8") + b"\n")
        process.stdin.flush()
    return Child(role, name, identity, process, pulse_fd, generation=spec.generation)


def end(children: List[Child], patience: float) -> List[Child]:
    """Wait ``patience`` seconds for the children to exit; kill and return those that don't.

    Those that are ready have been told to. A process whose input ends has lost its supervisor and
    says no more, so theirs isn't closed: they could notice that before they hear what they were
    told. Of the others nobody knows whether they can hear yet.
    """
    deadline = time.monotonic() + patience
    stubborn = []
    for child in children:
        if not child.is_ready:
            child.close_input()
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            stubborn.append(child)
            child.process.kill()
            child.process.wait()
    return stubborn


def describe_exit(status: Optional[int]) -> str:
    """A process's exit status in words."""
    if status is None:
        return "is running"
    if status < 0:
        try:
            return "was ended by signal %s" % signal.Signals(-status).name
        except ValueError:
            return "was ended by signal %d" % -status
    return "exited with status %d" % status


def processor_seconds(pid: int) -> Optional[float]:
    """The processor time that a process has spent; None where the system doesn't tell."""
    try:
        fields = _stat("/proc/%d/stat" % pid)
    except OSError:
        return None
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def is_held_up(pid: int) -> bool:
    """Whether one of a process's threads waits for a processor, or for a disk; False where the
    system doesn't tell.
    """
    try:
        threads = os.listdir("/proc/%d/task" % pid)
        return any(_stat("/proc/%d/task/%s/stat" % (pid, one))[0] in b"RD" for one in threads)
    except OSError:  # they come and go
        return False


def _stat(path: str) -> List[bytes]:
    """What the system says of a process or thread: proc(5), from its state on. Raises OSError."""
    with open(path, "rb") as file:
        # Behind the name, in parentheses, which may contain anything.
        return file.read().rpartition(b")")[2].split()
