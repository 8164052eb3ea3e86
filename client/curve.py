"""Keys for connections that are encrypted, and whose two ends know each other: CURVE.

A key is a Curve25519 key in Z85, 40 characters, as ZeroMQ writes it (https://rfc.zeromq.org/spec/32/).
Key files have the form of those of ``zmq.auth``; a client's may have the server's public key beside
its own two, so that it is all that a client needs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Union

import zmq

from bert_serving.client.protocol import MAX_IDENTITY_BYTES, check_identity, shorten

__all__ = [
    "KEY_LENGTH",
    "Keys",
    "as_client",
    "bound_identity",
    "check_supported",
    "is_bound",
    "parse_keys",
    "public_key_of",
    "read_keys",
]

KEY_LENGTH = 40
#: Much larger than any key file.
_MAX_FILE = 64 * 1024
_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\Z")
_LINE = re.compile(r"""\s*(public-key|secret-key|server-key)\s*=\s*["']?([^"'\s]*)["']?\s*\Z""")

Path = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Keys:
    """A client's own pair of keys, and the public one of the server that it will talk to."""

    public: str
    secret: str = field(repr=False)
    server: str


def check_supported() -> None:
    """Raise ValueError if ZeroMQ was built without CURVE."""
    if not zmq.has("curve"):
        raise ValueError(
            "keys need a ZeroMQ with CURVE, but the one here (libzmq %s) was built without it: "
            "pip install --force-reinstall --only-binary :all: pyzmq" % zmq.zmq_version()
        )


def read_keys(keys: Union[Path, Keys], server_key: Optional[Path] = None) -> Keys:
    """The keys of a client: those in the file ``keys``, which bert-serving-keygen has made.

    ``server_key`` is the server's public key or a file that has it; None: it is in ``keys``, too.
    Raises ValueError, which names the file and what is wrong with it.
    """
    check_supported()
    if isinstance(keys, Keys):
        return keys
    if not isinstance(keys, (str, os.PathLike)):
        raise TypeError("keys must be the path of a key file, but is %s" % type(keys).__name__)
    found = parse_keys(_read(keys), keys)
    if "secret-key" not in found or "public-key" not in found:
        raise ValueError(
            "the key file %s has no pair of keys: name the file that bert-serving-keygen calls "
            "*.key_secret" % os.fspath(keys)
        )
    server = found.get("server-key") if server_key is None else public_key_of(server_key)
    if server is None:
        raise ValueError(
            "the key file %s doesn't say which key the server has: name the server's public key "
            "as well, server_key=..., or its file server.key" % os.fspath(keys)
        )
    return Keys(found["public-key"], found["secret-key"], server)


def public_key_of(key: Path) -> str:
    """``key`` if it is one, or the public key in the file of that name. Raises ValueError."""
    if isinstance(key, str) and _Z85.match(key) and not os.path.exists(key):
        return key
    if not isinstance(key, (str, os.PathLike)):
        raise TypeError("server_key must be a key or a path, but is %s" % type(key).__name__)
    public = parse_keys(_read(key), key).get("public-key")
    if public is None:
        raise ValueError("the key file %s has no public key" % os.fspath(key))
    return public


def parse_keys(text: str, name: Path) -> Dict[str, str]:
    """The keys in a key file, by "public-key", "secret-key" and "server-key".

    Raises ValueError, which doesn't quote them.
    """
    found: Dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        kind, key = match.groups()
        if not _Z85.match(key):
            raise ValueError(
                "the %s in the key file %s is none: it must have %d characters of Z85, but has %d"
                % (kind, os.fspath(name), KEY_LENGTH, len(key))
            )
        found[kind] = key
    return found


def _read(path: Path) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_MAX_FILE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ValueError("can't read the key file %s: %s" % (os.fspath(path), reason)) from error


def as_client(socket: Any, keys: Optional[Keys]) -> None:
    """Let ``socket`` use ``keys`` for the connections that it makes from now on."""
    if keys is not None:
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode("ascii"))
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode("ascii"))
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server.encode("ascii"))


def bound_identity(public: str, identity: bytes) -> bytes:
    """The identity under which a client with this key calls itself ``identity``.

    A server with keys takes no other: so nobody can use an identity of another's key. Raises
    ValueError if it gets too long.
    """
    prefix = public.encode("ascii") + b":"
    if identity.startswith(prefix):
        return identity
    if len(prefix) + len(identity) > MAX_IDENTITY_BYTES:
        raise ValueError(
            "identity must have at most %d bytes where keys are used, but is %s"
            % (MAX_IDENTITY_BYTES - len(prefix), shorten(identity))
        )
    check_identity(prefix + identity)
    return prefix + identity


def is_bound(identity: bytes, public: str) -> bool:
    """Whether a client with this key may use ``identity``."""
    return bool(public) and identity.startswith(public.encode("ascii") + b":")
