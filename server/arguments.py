"""The flags: those of 1.10 with their meaning and default, and the few that are new.

Every flag of several words is also understood with two dashes and hyphens: ``-num_worker`` and
``--num-worker`` are the same.
"""

from __future__ import annotations

import argparse
from typing import Any

from bert_serving.client.version import __version__
from bert_serving.graph_opt.flags import add_flag, positive
from bert_serving.server.flags import count, fraction, port
from bert_serving.server.model_flags import AUTO, add_model_flags, add_sequence_flags
from bert_serving.server.security_flags import add_security_flags, add_shutdown_flags

__all__ = ["get_args_parser", "get_reload_parser", "get_shutdown_parser"]


ENGINES = ("auto", "onnxruntime", "tensorflow", "echo")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def get_args_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-start``."""
    parser = argparse.ArgumentParser(
        prog="bert-serving-start",
        description="Serve sentence and token embeddings of a BERT model.",
    )
    add_model_flags(parser)
    add_sequence_flags(parser)
    _add_serving_flags(parser)
    add_security_flags(parser)
    add_flag(parser, "verbose", action="store_true", help="log every request and batch")
    add_flag(parser, "version", action="version", version="%(prog)s " + __version__)
    return parser


def _add_serving_flags(parser: argparse.ArgumentParser) -> None:
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
    _add_device_flags(parser.add_argument_group("devices", "what computes"))


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
        help="share of each of these that one client may take (default: %(default)s)",
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


def _add_device_flags(group: Any) -> None:
    add_flag(
        group,
        "engine",
        choices=ENGINES,
        default="auto",
        metavar="ENGINE",
        help="%s; auto is ONNX Runtime where it is installed, else TensorFlow; echo computes no "
        "model, for testing (default: %%(default)s)" % ", ".join(ENGINES),
    )
    add_flag(
        group,
        "precision",
        choices=PRECISIONS,
        default=AUTO,
        metavar="PRECISION",
        help="%s: in what the weights are kept and, on GPUs, computed with; int8 also computes in "
        "integers with ONNX Runtime on CPUs (default: fp32)" % ", ".join(PRECISIONS),
    )
    add_flag(group, "cpu", action="store_true", help="compute on the CPU also if there is a GPU")
    add_flag(
        group,
        "device_map",
        type=count,
        nargs="+",
        default=[],
        metavar="GPU",
        help="GPUs to use, by number from 0; workers take them in turn",
    )
    add_flag(
        group,
        "gpu_memory_fraction",
        type=fraction,
        default=0.5,
        metavar="SHARE",
        help="share of a GPU's memory that a worker may take (default: %(default)s)",
    )
    add_flag(
        group,
        "xla",
        action="store_true",
        help="compile the graph by XLA (TensorFlow only), anew for each shape of a batch",
    )
    add_flag(group, "fp16", action="store_true", help="the same as -precision fp16")


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
