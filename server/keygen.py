"""The command bert-serving-keygen: keys for -curve, in files like those of ``zmq.auth``.

::

    DIR/server.key_secret      the server's pair; never leaves its machine
    DIR/server.key             its public key, for clients that make their own keys
    DIR/clients/NAME.key       the public keys of the clients that are let in
    DIR/NAME.key_secret        a client's pair and the server's public key: all that it needs
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import List, Optional, Tuple

import zmq

from bert_serving.client.curve import check_supported, public_key_of
from bert_serving.client.version import __version__
from bert_serving.graph_opt.flags import add_flag
from bert_serving.server.curve import CLIENTS, KEY_FILE

__all__ = ["make_client_keys", "make_server_keys", "main"]

SECRET_FILE = ".key_secret"
SERVER = "server"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\Z")


def make_server_keys(folder: str) -> List[str]:
    """Make the folder of -curve, with the server's keys and no client's; the files' paths.

    Raises OSError, FileExistsError if it has keys already: nothing is ever overwritten.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    public, secret = _new_pair()
    private_path = os.path.join(folder, SERVER + SECRET_FILE)
    public_path = os.path.join(folder, SERVER + KEY_FILE)
    _check_absent(private_path, public_path)
    _write(private_path, 0o600, "the server's keys; keep them secret", public, secret)
    _write(public_path, 0o644, "the server's public key; clients need it", public)
    os.makedirs(os.path.join(folder, CLIENTS), mode=0o700, exist_ok=True)
    return [private_path, public_path]


def make_client_keys(folder: str, name: str, server_key: Optional[str] = None) -> List[str]:
    """Make a client's keys; the files' paths.

    Where the folder is a server's, the client is let in at once; elsewhere its public key, which
    then lies beside its pair, has to be put into the folder ``clients`` of the server's.
    ``server_key`` is the server's public key, or a file with it; None: the one in the folder, if it
    is there. Raises OSError, FileExistsError if there are keys of that name, and ValueError.
    """
    if not _NAME.match(name) or name == SERVER:
        raise ValueError(
            "a client's name must be of letters, digits, _, ., @ and -, and not %r, but is %r"
            % (SERVER, name)
        )
    os.makedirs(folder, mode=0o700, exist_ok=True)
    own = os.path.join(folder, SERVER + KEY_FILE)
    if server_key is None and os.path.exists(own):
        server_key = own
    server = None if server_key is None else public_key_of(server_key)
    clients = os.path.join(folder, CLIENTS)
    private_path = os.path.join(folder, name + SECRET_FILE)
    public_path = os.path.join(clients if os.path.isdir(clients) else folder, name + KEY_FILE)
    _check_absent(private_path, public_path)
    public, secret = _new_pair()
    _write(
        private_path,
        0o600,
        "keys of the client %s; keep them secret" % name,
        public,
        secret,
        server,
    )
    _write(public_path, 0o644, "public key of the client %s; the server needs it" % name, public)
    return [private_path, public_path]


def _new_pair() -> Tuple[str, str]:
    check_supported()
    public, secret = zmq.curve_keypair()
    return public.decode("ascii"), secret.decode("ascii")


def _check_absent(*paths: str) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(17, "is there already, and keys are never overwritten", path)


def _write(
    path: str,
    mode: int,
    what: str,
    public: str,
    secret: Optional[str] = None,
    server: Optional[str] = None,
) -> None:
    keys = [("public-key", public), ("secret-key", secret), ("server-key", server)]
    lines = ['    %s = "%s"' % (name, key) for name, key in keys if key is not None]
    text = "# bert-serving-keygen: %s.\n\nmetadata\ncurve\n%s\n" % (what, "\n".join(lines))
    # With its mode from the first moment on, and never through a link that somebody laid there.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def get_keygen_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-keygen``."""
    parser = argparse.ArgumentParser(
        prog="bert-serving-keygen",
        description="Make the server's keys in DIR, for bert-serving-start -curve DIR, or with "
        "--client those of a client. Never overwrites.",
    )
    parser.add_argument("folder", metavar="DIR", help="made if it isn't there")
    add_flag(
        parser,
        "client",
        metavar="NAME",
        help="make keys for a client; in the server's DIR it is let in at once, elsewhere put "
        "NAME.key into the folder clients of the server's",
    )
    add_flag(
        parser,
        "server_key",
        metavar="KEY",
        help="with --client: the server's public key or a file with it, unless DIR has server.key",
    )
    add_flag(parser, "version", action="version", version="%(prog)s " + __version__)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    """Run bert-serving-keygen; returns the exit status: 0, or 2 if the keys can't be made."""
    parser = get_keygen_parser()
    args = parser.parse_args(argv)
    if args.server_key is not None and args.client is None:
        parser.error("--server_key belongs to --client")
    try:
        if args.client is None:
            paths = make_server_keys(args.folder)
        else:
            paths = make_client_keys(args.folder, args.client, args.server_key)
    except OSError as error:
        print("error: %s: %s" % (error.filename, error.strerror), file=sys.stderr)
        return 2
    except ValueError as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    for path in paths:
        print("wrote %s" % path)
    return 0
