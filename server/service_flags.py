"""The flags that say how the service runs: where it listens, and how much it takes at a time."""

from __future__ import annotations

import argparse
from typing import Any

from bert_serving.graph_opt.flags import add_flag, positive
from bert_serving.server.flags import count, fraction, port
from bert_serving.server.model_flags import AUTO

__all__ = ["add_service_flags"]


def add_service_flags(parser: argparse.ArgumentParser) -> None:
    """How the service runs."""
    group = parser.add_argument_group("service", "how the service runs")
    add_flag(
        group,
        "host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 opens the service to the network "
        "(default: %(default)s)",
    )
    add_flag(
        group,
        "port",
        "port_in",
        "port_data",
        type=port,
        default=5555,
        metavar="PORT",
        help="port for requests (default: %(default)s)",
    )
    add_flag(
        group,
        "port_out",
        "port_result",
        type=port,
        default=5556,
        metavar="PORT",
        help="port for results (default: %(default)s)",
    )
    _add_http_flags(group)
    _add_batch_flags(group)


def _add_http_flags(group: Any) -> None:
    add_flag(group, "http_port", type=port, metavar="PORT", help="port for HTTP requests")
    add_flag(
        group,
        "http_max_connect",
        type=positive,
        default=10,
        metavar="N",
        help="most HTTP requests at a time (default: %(default)s)",
    )
    add_flag(
        group,
        "http_max_body",
        type=positive,
        default=32,
        metavar="MB",
        help="largest body of an HTTP request, decompressed, in units of 2**20 bytes "
        "(default: %(default)s)",
    )
    add_flag(
        group,
        "http_max_rows",
        type=positive,
        default=4096,
        metavar="ROWS",
        help="most texts in an HTTP request (default: %(default)s)",
    )
    add_flag(
        group,
        "http_timeout",
        type=positive,
        default=60,
        metavar="SECONDS",
        help="most seconds that an HTTP request may take (default: %(default)s)",
    )
    add_flag(
        group,
        "cors",
        default="*",
        metavar="ORIGIN",
        help="Access-Control-Allow-Origin of HTTP replies (default: %(default)s)",
    )


def _add_batch_flags(group: Any) -> None:
    add_flag(
        group,
        "num_worker",
        type=positive,
        default=1,
        metavar="N",
        help="worker processes, each with the whole model (default: %(default)s)",
    )
    add_flag(
        group,
        "max_batch_size",
        type=positive,
        default=256,
        metavar="ROWS",
        help="most texts computed in one batch (default: %(default)s)",
    )
    add_flag(
        group,
        "priority_batch_size",
        type=count,
        default=16,
        metavar="ROWS",
        help="requests of up to so many texts pass larger ones (default: %(default)s)",
    )
    _add_queue_flags(group)
    add_flag(
        group,
        "prefetch_size",
        type=count,
        default=AUTO,
        metavar="N",
        help="batches that a worker holds ready beside each that it computes (default: 1)",
    )
    add_flag(
        group,
        "worker_timeout",
        type=count,
        default=60,
        metavar="SECONDS",
        help="a worker that takes longer for a batch, and much longer than usual, is replaced. "
        "0: never (default: %(default)s)",
    )
    _add_stop_flags(group)


def _add_queue_flags(group: Any) -> None:
    add_flag(
        group,
        "max_queue_rows",
        type=count,
        default=1_000_000,
        metavar="ROWS",
        help="texts that may wait or be computed at a time; requests beyond that are answered with "
        "the error OVERLOADED. 0: any number (default: %(default)s)",
    )
    add_flag(
        group,
        "max_queue_mb",
        type=count,
        default=1024,
        metavar="MB",
        help="megabytes of memory that these may take, likewise (default: %(default)s)",
    )
    add_flag(
        group,
        "max_reply_mb",
        type=count,
        default=2048,
        metavar="MB",
        help="megabytes of replies that may be incomplete at a time, likewise, and as many of "
        "those that wait for their clients to read (default: %(default)s)",
    )
    add_flag(
        group,
        "max_client_share",
        type=fraction,
        default=0.5,
        metavar="SHARE",
        help="share of each of these that one client may take, and of that, each of its users "
        "(default: %(default)s)",
    )
    add_flag(
        group,
        "request_timeout",
        type=count,
        default=3600,
        metavar="SECONDS",
        help="after so long a request that names no time of its own is answered with an error. "
        "0: never (default: %(default)s)",
    )


def _add_stop_flags(group: Any) -> None:
    add_flag(
        group,
        "drain_timeout",
        type=count,
        default=30,
        metavar="SECONDS",
        help="seconds that a server which is to stop has for what it accepted; what is left is "
        "answered with the error SHUTTING_DOWN (default: %(default)s)",
    )
