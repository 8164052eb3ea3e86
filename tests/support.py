"""What several tests need: servers on free ports, raw sockets, commands."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import psutil
import zmq

from bert_serving.benchmarks import startup
from bert_serving.client import BertClient
from bert_serving.client.curve import Keys, as_client, bound_identity
from bert_serving.server import BertServer
from bert_serving.server.helper import get_args_parser

#: Seconds after which something that should happen at once counts as failed.
PATIENCE = 20


#: Ports that these tests were given.
_given: Set[int] = set()


def free_ports() -> Tuple[int, int]:
    """Two ports that nobody listens on. None is given twice: the system may offer one again before
    whom it was given to has bound it.
    """
    while True:
        port, other = startup.free_ports()
        if _given.isdisjoint((port, other)):
            _given.update((port, other))
            return port, other


def port_flags() -> List[str]:
    port, port_out = free_ports()
    return ["-port", str(port), "-port_out", str(port_out)]


@contextmanager
def running(*flags: str) -> Iterator[BertServer]:
    """A server with these flags on free ports."""
    args = get_args_parser().parse_args(port_flags() + list(flags))
    with BertServer(args) as server:
        yield server


def http_flags() -> List[str]:
    return ["-http_port", str(free_ports()[0])]


def url_of(server: BertServer) -> str:
    """Where a server that was started with ``http_flags()`` serves HTTP."""
    assert server.spec.http is not None
    return "http://127.0.0.1:%d" % server.spec.http.port


def client_of(server: BertServer, **options: Any) -> BertClient:
    return BertClient(port=server.spec.port, port_out=server.spec.port_out, **options)


class RawClient:
    """A client's two sockets, for frames that no client would send."""

    def __init__(
        self,
        server: BertServer,
        identity: Optional[bytes] = None,
        keys: Optional[Keys] = None,
        receive_at_most: int = 1000,
    ) -> None:
        """``receive_at_most``: messages that are read before somebody asks for them."""
        self.identity = identity or uuid.uuid4().hex.encode("ascii")
        if keys is not None and identity is None:
            self.identity = bound_identity(keys.public, self.identity)
        self._context = zmq.Context()
        self._context.setsockopt(zmq.LINGER, 0)
        self.sender = self._context.socket(zmq.PUSH)
        as_client(self.sender, keys)
        self.sender.connect("tcp://127.0.0.1:%d" % server.spec.port)
        self.receiver = self._context.socket(zmq.SUB)
        as_client(self.receiver, keys)
        self.receiver.setsockopt(zmq.RCVHWM, receive_at_most)
        self.receiver.setsockopt(zmq.SUBSCRIBE, self.identity)
        self.receiver.connect("tcp://127.0.0.1:%d" % server.spec.port_out)

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: Any) -> None:
        self.sender.close()
        self.receiver.close()
        self._context.term()

    def send(self, *frames: bytes) -> None:
        self.sender.send_multipart(frames)

    def receive(self, seconds: float = PATIENCE) -> List[bytes]:
        assert self.receiver.poll(seconds * 1000), "no reply"
        return self.receiver.recv_multipart()


def command(name: str) -> List[str]:
    """The words that run one of the project's commands."""
    code = "import sys; from bert_serving.server.cli import %s; sys.exit(%s())" % (name, name)
    return [sys.executable, "-c", code]


def environment(**changes: str) -> Dict[str, str]:
    """This process's environment with changes."""
    return dict(os.environ, **changes)


def run_start(*flags: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """bert-serving-start with flags that keep it from starting."""
    return subprocess.run(
        command("start") + list(flags),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**changes),
    )


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Poll a condition that no event announces, such as the end of another process's child."""
    deadline = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited in vain for " + what
        tick.wait(0.02)


class Started:
    """bert-serving-start as a process of its own."""

    def __init__(self, *flags: str, before: Optional[Callable[[], None]] = None) -> None:
        self.port, self.port_out = free_ports()
        ports = ["-port", str(self.port), "-port_out", str(self.port_out)]
        self.process = subprocess.Popen(
            command("start") + ports + list(flags),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            preexec_fn=before,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "client.encode" in line:
                break
        self.children = psutil.Process(self.process.pid).children()

    def client(self, **options: Any) -> BertClient:
        return BertClient(port=self.port, port_out=self.port_out, **options)

    def finish(self) -> str:
        """Wait for the end; what it said on standard error."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        psutil.wait_procs(self.children, timeout=PATIENCE)
        assert not [child for child in self.children if child.is_running()]
        return errors


@contextmanager
def started(*flags: str, before: Optional[Callable[[], None]] = None) -> Iterator[Started]:
    service = Started(*flags, before=before)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
        service.finish()


def children_of(pid: int, *names: str) -> List[psutil.Process]:
    """A service's processes of these names, or all."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            words = child.cmdline()
        except psutil.Error:  # it has just ended
            continue
        if "bert_serving.server.process" in words and (not names or words[-1] in names):
            found.append(child)
    return found


def wait_until_whole(server: BertServer) -> None:
    """Returns when all processes are there and ready."""
    supervisor = server._supervisor
    roles = ["sink", "ventilator"] + ["worker"] * server.spec.num_worker
    roles += ["http"] if server.spec.http is not None else []

    def is_whole() -> bool:
        children = supervisor._processes.of()
        is_up = supervisor._up_since is not None
        return is_up and sorted(c.role for c in children if c.is_ready) == sorted(roles)

    wait_for(is_whole, "all processes")
