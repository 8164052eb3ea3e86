"""CURVE on the server's two public ports: who is let in, and as whom.

ZeroMQ asks a socket of the same context about every new connection (ZAP,
https://rfc.zeromq.org/spec/27/). The answer names the client's public key as its user id, which
ZeroMQ then attaches to everything that comes from that connection; an identity has to begin with
it. So ventilator and sink, which are processes of their own, need to tell each other nothing.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Dict, FrozenSet, Optional, Tuple

import zmq
from zmq.utils import z85

from bert_serving.client.curve import is_bound, parse_keys
from bert_serving.server.logs import Complaints
from bert_serving.server.spec import CurveSpec

__all__ = ["CLIENTS", "Admissions", "ClientKeys", "Gate", "peer_key"]

logger = logging.getLogger(__name__)

#: The folder of the clients' public keys, in that of -curve.
CLIENTS = "clients"
KEY_FILE = ".key"
#: ZeroMQ's own name for the socket that it asks.
ZAP = "inproc://zeromq.zap.01"
#: Any name: with one, ZeroMQ lets nobody in while nobody answers.
DOMAIN = b"bert-serving"
#: Much larger than any public key's file.
MAX_FILE = 64 * 1024
#: Questions answered before other sockets get their turn; for each, the folder is looked at.
BURST = 20


#: What shows whether a file has changed; None of one that can't be looked at.
_State = Optional[Tuple[int, int, int]]


class ClientKeys:
    """The public keys in a folder, as they are at the moment: files are read again when changed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files: Dict[str, Tuple[_State, Optional[str]]] = {}
        self._complaints = Complaints(logger)

    def read(self) -> FrozenSet[str]:
        """All of them. A file that is none is logged, once, and lets nobody in."""
        try:
            found = self._look()
        except OSError as error:
            self._complaints.warn(
                "can't read the clients' keys in %s: %s" % (self._folder, error.strerror)
            )
            return frozenset()
        before, self._files = self._files, {}
        for path, state in found.items():
            known = before.get(path)
            if known is None or known[0] != state:
                known = (state, _public_key(path, state))
            self._files[path] = known
        return frozenset(key for _, key in self._files.values() if key is not None)

    def _look(self) -> Dict[str, _State]:
        """The files that count. Raises OSError if the folder can't be read."""
        found: Dict[str, _State] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # Hidden ones are a program's own: ".#alice.key" is a link to nowhere, by which an
                # editor says that it has alice.key open.
                if entry.name.startswith(".") or not entry.name.endswith(KEY_FILE):
                    continue
                try:
                    status = entry.stat()
                except OSError:  # taken away since it was found, or a link to nowhere
                    found[entry.path] = None
                else:
                    found[entry.path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found


def _public_key(path: str, state: _State) -> Optional[str]:
    if state is None:
        logger.warning("nobody is let in by %s: it is gone, or a link to what is", path)
        return None
    try:
        with open(path, encoding="utf-8") as file:
            key = parse_keys(file.read(MAX_FILE), path).get("public-key")
    except (OSError, ValueError) as error:
        logger.warning("nobody is let in by %s: %s", path, error)
        return None
    if key is None:
        logger.warning("nobody is let in by %s: it has no public key", path)
    return key


class Gate:
    """Answers ZeroMQ's questions. To be made before the sockets that it guards are bound.

    ``socket`` is to be polled; when it is readable, :meth:`answer`.
    """

    def __init__(self, context: zmq.Context, spec: CurveSpec) -> None:
        self._spec = spec
        self._keys = ClientKeys(spec.clients)
        self._complaints = Complaints(logger)
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP)

    def guard(self, socket: zmq.Socket) -> None:
        """Let only clients with a known key connect to ``socket``; before it is bound."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._spec.secret.encode("ascii"))
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def answer(self) -> None:
        """Answer the questions that are there, up to :data:`BURST`: some never stop connecting.

        While there are more, ``socket`` stays readable.
        """
        for _ in range(BURST):
            if not self.socket.poll(0):
                return
            self._answer_one(self.socket.recv_multipart())

    def _answer_one(self, question: Any) -> None:
        _, request_id, _, address, _, mechanism, *credentials = question
        key = ""
        if mechanism == b"CURVE" and len(credentials) == 1:
            key = z85.encode(credentials[0]).decode("ascii")
        is_known = bool(key) and (key == self._spec.own_public or key in self._keys.read())
        peer = address.decode("ascii", "replace")
        if is_known:
            logger.debug("let %s in, with the key %s", peer, key)
            answer = [b"200", b"OK", key.encode("ascii"), b""]
        else:
            self._complaints.warn("kept %s out: its key is none of the clients'" % peer)
            logger.debug("the key of %s was %s", peer, key or "none")
            answer = [b"400", b"unknown key", b"", b""]
        self.socket.send_multipart([b"1.0", request_id] + answer)

    def close(self) -> None:
        self.socket.close()


def peer_key(frame: zmq.Frame) -> Optional[str]:
    """The public key of the connection that ``frame`` came from; None if it has none.

    What ZeroMQ makes up itself, an unsubscription when a connection is lost, has none either.
    """
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return None


class Admissions:
    """Which subscriptions and unsubscriptions are believed, where identities belong to keys. Pure.

    When a connection is lost, ZeroMQ tells of its subscriptions without saying whose they were.
    As many for an identity as were refused are ignored, so that nobody whose subscription to
    another's identity was refused can have that one counted as gone.
    """

    def __init__(self) -> None:
        self._refused: Dict[bytes, int] = {}

    def admits(self, is_subscription: bool, identity: bytes, key: Optional[str]) -> bool:
        """Whether to act on it; ``key`` is :func:`peer_key`'s."""
        if key is not None:
            if is_bound(identity, key):
                return True
            # One that is taken back counts on: from another connection, it would be a way to have
            # the loss of this one believed.
            if is_subscription:
                self._refused[identity] = self._refused.get(identity, 0) + 1
            return False
        if is_subscription:
            return False
        count = self._refused.pop(identity, 0)
        if count > 1:
            self._refused[identity] = count - 1
        return count == 0
