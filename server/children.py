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

from bert_serving.server.spec import Endpoints, ServiceSpec

__all__ = ["Child", "describe_exit", "end", "spawn"]


@dataclass
class Child:
    """A process with a role: "ventilator", "sink", "worker" or "http"."""

    role: str
    name: str  # as people read it: worker-0
    identity: str  # as its sockets are called: worker-0.1, the second of that name
    process: "subprocess.Popen[bytes]"
    started: float = field(default_factory=time.monotonic)
    is_ready: bool = False

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
    generation: int = 0,
    device: int = -1,
) -> Child:
    """Start a process; it reports to the supervisor's control socket when it is ready."""
    identity = "%s.%d" % (name, generation)
    order: Dict[str, Any] = {
        "role": role,
        "name": name,
        "identity": identity,
        "device": device,
        "endpoints": asdict(endpoints),
        "spec": spec.for_role(role).to_json(),
    }
    process = subprocess.Popen(
        # The name is for people who look at the list of processes.
        [sys.executable, "-m", "bert_serving.server.process", name],
        stdin=subprocess.PIPE,
        # In a session of its own, or Ctrl-C in the terminal would reach it before its orders do.
        start_new_session=True,
        env=dict(os.environ, TOKENIZERS_PARALLELISM="false"),
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it died at once; whoever watches it sees that
        process.stdin.write(json.dumps(order).encode("utf-8") + b"\n")
        process.stdin.flush()
    return Child(role, name, identity, process)


def end(children: List[Child], patience: float) -> List[Child]:
    """Wait ``patience`` seconds for the children to exit; kill and return those that don't."""
    deadline = time.monotonic() + patience
    stubborn = []
    for child in children:
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
