"""The flags: those of 1.10 with their meaning and default, and the few that are new.

Every flag of several words is also understood with two dashes and hyphens: ``-num_worker`` and
``--num-worker`` are the same.
"""

from __future__ import annotations

import argparse

from bert_serving.client.version import __version__
from bert_serving.graph_opt.flags import add_flag, positive
from bert_serving.server.device_flags import add_device_flags
from bert_serving.server.flags import port
from bert_serving.server.model_flags import add_model_flags, add_sequence_flags
from bert_serving.server.security_flags import add_security_flags, add_shutdown_flags
from bert_serving.server.service_flags import add_service_flags

__all__ = ["get_args_parser", "get_reload_parser", "get_shutdown_parser"]


def get_args_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-start``."""
    parser = argparse.ArgumentParser(
        prog="bert-serving-start",
        description="Serve sentence and token embeddings of a BERT model.",
    )
    add_model_flags(parser)
    add_sequence_flags(parser)
    add_service_flags(parser)
    add_device_flags(parser)
    add_security_flags(parser)
    add_flag(parser, "verbose", action="store_true", help="log every request and batch")
    add_flag(parser, "version", action="version", version="%(prog)s " + __version__)
    return parser


def get_shutdown_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-terminate``."""
    return _asking_parser(
        "bert-serving-terminate", "Stop the server that listens on a port of this machine."
    )


def get_reload_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-reload``."""
    return _asking_parser(
        "bert-serving-reload",
        "Have the server that listens on a port of this machine load its model again, from where "
        "it was told to at its start. It goes on serving meanwhile.",
    )


def _asking_parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name, description=description)
    add_flag(
        parser,
        "ip",
        default="localhost",
        metavar="ADDRESS",
        help="address that the server listens on (default: %(default)s)",
    )
    add_flag(
        parser,
        "port",
        "port_in",
        "port_data",
        type=port,
        required=True,
        metavar="PORT",
        help="the server's port for requests",
    )
    add_flag(
        parser,
        "timeout",
        type=positive,
        default=5000,
        metavar="MS",
        help="milliseconds to wait for the server (default: %(default)s)",
    )
    add_shutdown_flags(parser)
    add_flag(parser, "version", action="version", version="%(prog)s " + __version__)
    return parser
