"""The flags that say who may use the service, and how much may come at once."""

from __future__ import annotations

import argparse

from bert_serving.graph_opt.flags import add_flag, positive

__all__ = ["UNTOLD_FLAGS", "add_security_flags", "add_shutdown_flags"]

#: Flags whose values SHOW_CONFIG doesn't tell: where secrets lie is nobody's business.
UNTOLD_FLAGS = frozenset(
    ("admin_token_file", "curve", "http_api_key_file", "http_tls_cert", "http_tls_key")
)


def add_security_flags(parser: argparse.ArgumentParser) -> None:
    """See docs/security.md."""
    group = parser.add_argument_group("security", "who may use the service")
    add_flag(
        group,
        "curve",
        metavar="DIR",
        help="encrypt, and serve over ZeroMQ only clients whose public keys are in DIR/clients; "
        "bert-serving-keygen makes DIR",
    )
    add_flag(
        group,
        "max_message_mb",
        type=positive,
        default=256,
        metavar="MB",
        help="megabytes of texts that a ZeroMQ request may have; the connection of a larger one is "
        "cut before it is read (default: %(default)s)",
    )
    add_flag(
        group,
        "admin_token_file",
        metavar="FILE",
        help="a file with the token by which other machines may stop the server; or set "
        "BERT_SERVING_ADMIN_TOKEN",
    )
    add_flag(
        group,
        "http_api_key_file",
        metavar="FILE",
        help="a file with one key a line, one of which every HTTP request must show: "
        "Authorization: Bearer KEY",
    )
    add_flag(
        group,
        "http_tls_cert",
        metavar="FILE",
        help="serve HTTPS with the certificate in this file (PEM), with those between it and a "
        "root behind it",
    )
    add_flag(
        group, "http_tls_key", metavar="FILE", help="the private key of that certificate (PEM)"
    )


def add_shutdown_flags(parser: argparse.ArgumentParser) -> None:
    """Those of a command to a server."""
    add_flag(
        parser,
        "admin_token_file",
        metavar="FILE",
        help="a file with the server's admin token, to stop it from another machine; or set "
        "BERT_SERVING_ADMIN_TOKEN",
    )
    add_flag(
        parser,
        "keys",
        metavar="FILE",
        help="a client's key file, for a server that was started with -curve",
    )
    add_flag(
        parser,
        "server_key",
        metavar="KEY",
        help="the server's public key, or a file with it, if it isn't in that of -keys",
    )
