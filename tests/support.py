"""What several tests need: servers on free ports, raw sockets, commands."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional

import zmq

from bert_serving.benchmarks.startup import free_ports
from bert_serving.client import BertClient
from bert_serving.client.curve import Keys, as_client, bound_identity
from bert_serving.server import BertServer
from bert_serving.server.helper import get_args_parser

#: Seconds after which something that should happen at once counts as failed.
PATIENCE = 20


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
