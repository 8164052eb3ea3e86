"""From the flags of security to what the processes are told.

Files are read here, once; only the clients' public keys are looked at again, at each handshake.
"""

from __future__ import annotations

import argparse
import os
import ssl
from typing import Any, Dict, List, Optional

import zmq

from bert_serving.client.curve import check_supported, parse_keys
from bert_serving.server.addresses import is_loopback
from bert_serving.server.curve import CLIENTS
from bert_serving.server.errors import StartupError
from bert_serving.server.secret_files import admin_token, api_keys, read_text, warn_if_open
from bert_serving.server.spec import CurveSpec, SecuritySpec

__all__ = ["SERVER_SECRET", "exposure_remarks", "http_security", "plan_security"]

#: The server's pair of keys in the folder of -curve.
SERVER_SECRET = "server.key_secret"


def plan_security(args: argparse.Namespace) -> SecuritySpec:
    """Who may do what over ZeroMQ. Raises StartupError."""
    return SecuritySpec(
        max_message=args.max_message_mb * 1_000_000,
        admin_token=admin_token(args.admin_token_file),
        curve=None if args.curve is None else _plan_curve(args.curve),
    )


def _plan_curve(folder: str) -> CurveSpec:
    path, clients = os.path.join(folder, SERVER_SECRET), os.path.join(folder, CLIENTS)
    try:
        check_supported()
        found = parse_keys(read_text(path, "the server's keys"), path)
    except ValueError as error:
        raise StartupError("-curve %s: %s" % (folder, error)) from error
    warn_if_open(path)
    if "public-key" not in found or "secret-key" not in found:
        raise StartupError(
            "-curve %s: %s has no pair of keys; bert-serving-keygen makes one" % (folder, path)
        )
    if not os.path.isdir(clients):
        raise StartupError(
            "-curve %s: there is no folder %s, so no client could connect; put the clients' public "
            "keys there" % (folder, clients)
        )
    own_public, own_secret = zmq.curve_keypair()
    return CurveSpec(
        os.path.abspath(clients),
        found["public-key"],
        found["secret-key"],
        own_public.decode("ascii"),
        own_secret.decode("ascii"),
    )


def exposure_remarks(args: argparse.Namespace) -> List[str]:
    """What to tell a user who opens the service to others than this machine without a lock."""
    if args.host == "localhost" or is_loopback(args.host):
        return []
    remarks = []
    if args.curve is None:
        remarks.append(
            "whoever can connect to %s may use the service and read along, since -curve isn't "
            "named; see docs/security.md" % args.host
        )
    if args.http_port is not None and args.http_api_key_file is None:
        remarks.append(
            "whoever can connect to %s may use HTTP, since -http_api_key_file isn't named"
            % args.host
        )
    return remarks


def http_security(args: argparse.Namespace) -> Dict[str, Any]:
    """HttpSpec's fields of that. Raises StartupError."""
    keys = () if args.http_api_key_file is None else api_keys(args.http_api_key_file)
    cert: Optional[str] = args.http_tls_cert
    key: Optional[str] = args.http_tls_key
    if (cert is None) != (key is None):
        raise StartupError("-http_tls_cert and -http_tls_key belong together: name both or none")
    if cert is not None and key is not None:
        cert, key = os.path.abspath(cert), os.path.abspath(key)
        read_text(cert, "-http_tls_cert")
        read_text(key, "-http_tls_key")
        warn_if_open(key)
        try:
            # With no password given, OpenSSL would ask for one on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        except ssl.SSLError as error:
            raise StartupError(
                "-http_tls_cert %s and -http_tls_key %s are no certificate and its private key "
                "without a password, in PEM: %s" % (cert, key, error)
            ) from error
    return {"api_keys": keys, "tls_cert": cert, "tls_key": key}
