"""The flags of ``bert-serving-benchmark``: the server's, those of 1.10's benchmark, new ones."""

from __future__ import annotations

import argparse
from typing import Any, Optional

from bert_serving.benchmarks.flags import address, number, size, workload
from bert_serving.graph_opt.flags import add_flag, positive
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.flags import count

__all__ = ["EXPERIMENTS", "PRESETS", "get_benchmark_parser"]

#: 1.10's experiments, by the flag that varies, with 1.10's values.
EXPERIMENTS = {
    "client_batch_size": [1, 16, 256, 4096],
    "max_batch_size": [8, 32, 128, 512],
    "max_seq_len": [32, 64, 128, 256],
    "num_client": [1, 4, 16, 64],
    "pooling_layer": [-layer for layer in range(1, 13)],
}
#: Loads that others published figures of: flags that hold unless they are named.
PRESETS = {"article": {"max_seq_len": 30, "workload": "uniform:6-30", "client_batch_size": 1}}


def get_benchmark_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-benchmark``.

    ``port`` and ``port_out`` are None unless named: free ones are taken then.
    """
    parser = get_args_parser()
    parser.prog = "bert-serving-benchmark"
    parser.description = (
        "Measure a server: 1.10's experiments, or what -load, -engine_only or -memory say. It is "
        "started here with the server's flags, unless -connect names one."
    )
    parser.set_defaults(port=None, port_out=None)
    _add_modes(parser.add_argument_group("what to measure").add_mutually_exclusive_group())
    _add_experiments(
        parser.add_argument_group("experiments", "1.10's, and closed loops in general")
    )
    _add_load(parser.add_argument_group("load", "with -load: independent users"))
    _add_bare(parser.add_argument_group("engine and memory", "with -engine_only or -memory"))
    general = parser.add_argument_group("benchmark", "requests, and what becomes of results")
    _add_target(general)
    _add_requests(general)
    _add_output(general)
    return parser


def _add_modes(group: Any) -> None:
    add_flag(
        group,
        "load",
        action="store_true",
        help="requests come at random times, whether or not earlier ones are answered; latency "
        "counts from when each was due",
    )
    add_flag(
        group,
        "engine_only",
        action="store_true",
        help="compare the service with its bare engine on ideal batches",
    )
    add_flag(
        group,
        "memory",
        action="store_true",
        help="measure a worker's peak memory for sequence lengths and batch sizes",
    )


def _add_experiments(group: Any) -> None:
    for name, values in EXPERIMENTS.items():
        add_flag(
            group,
            "test_" + name,
            type=int,
            nargs="*",
            metavar="N",
            help="vary -%s; with no value: leave this experiment out (default: %s)"
            % (name, " ".join(map(str, values))),
        )
    add_flag(
        group,
        "num_client",
        type=positive,
        metavar="N",
        help="clients that send at the same time (default: 1; 100 with -load, 4 with -engine_only)",
    )
    add_flag(
        group,
        "num_repeat",
        type=int,
        default=10,
        metavar="N",
        help="requests of each client, more than 2, for the first 2 don't count "
        "(default: %(default)s)",
    )
    add_flag(
        group,
        "client_processes",
        type=positive,
        default=1,
        metavar="N",
        help="processes that the clients are spread over (default: %(default)s)",
    )


def _add_load(group: Any) -> None:
    add_flag(group, "rate", type=number, metavar="R", help="requests a second on average")
    add_flag(
        group,
        "p99",
        type=number,
        metavar="MS",
        help="search the highest rate whose 99th percentile of latency is at most this",
    )
    add_flag(
        group,
        "mean",
        type=number,
        metavar="MS",
        help="search the highest rate whose mean latency is at most this",
    )
    add_flag(
        group,
        "resolution",
        type=number,
        default=0.05,
        metavar="SHARE",
        help="the search ends when the next rate that fails is at most this much higher "
        "(default: %(default)s)",
    )
    add_flag(
        group,
        "preset",
        choices=sorted(PRESETS),
        metavar="NAME",
        help="article: -load with -max_seq_len 30, texts of 6 to 30 tokens, one a request; without "
        "-rate, the highest rate whose mean latency is at most 400 ms",
    )
    add_flag(
        group,
        "seconds",
        type=number,
        default=20.0,
        metavar="S",
        help="length of a run, warm-up included (default: %(default)s)",
    )
    add_flag(
        group,
        "warm_up",
        type=number,
        default=2.0,
        metavar="S",
        help="requests that are due so early don't count (default: %(default)s)",
    )


def _add_bare(group: Any) -> None:
    add_flag(
        group,
        "lengths",
        type=positive,
        nargs="+",
        metavar="N",
        help="sequence lengths in tokens (default: 32; 32 64 128 256 512 with -memory)",
    )
    add_flag(
        group,
        "batch_sizes",
        type=positive,
        nargs="+",
        metavar="ROWS",
        help="rows of a batch (default: 1 2 4 8 16 32 64 128; 1 16 64 256 with -memory)",
    )
    add_flag(
        group,
        "rounds",
        type=positive,
        default=5,
        metavar="N",
        help="measurements of engine and service, in turn (default: %(default)s)",
    )
    add_flag(
        group,
        "memory_limit",
        type=size,
        metavar="BYTES",
        help="what all workers together may take, e.g. 6G (default: this machine's memory)",
    )


def _add_target(group: Any) -> None:
    add_flag(
        group,
        "connect",
        type=address,
        metavar="HOST:PORT[:PORT_OUT]",
        help="measure the server that runs there, this project's or one of 1.10; PORT_OUT is "
        "PORT + 1 unless named",
    )
    add_flag(group, "keys", metavar="FILE", help="a client's key file, for a server with -curve")
    add_flag(
        group,
        "server_key",
        metavar="KEY",
        help="that server's public key, or a file with it, if it isn't in that of -keys",
    )


def _add_requests(group: Any) -> None:
    add_flag(
        group,
        "workload",
        type=workload,
        metavar="TEXTS",
        help="fixed:LENGTH, uniform:LOW-HIGH, lognormal:MEAN (tokens, [CLS] and [SEP] included) or "
        "file:PATH, a text a line (default: lognormal:20 with -load, else as long as -max_seq_len)",
    )
    add_flag(
        group,
        "client_batch_size",
        type=positive,
        metavar="ROWS",
        help="texts of a request (default: 4096; 1 with -load, what keeps the workers busy "
        "with -engine_only)",
    )
    add_flag(
        group,
        "client_vocab_file",
        default="",
        metavar="FILE",
        help="a text whose words the requests consist of, as far as they are one token each "
        "(default: the model's vocabulary)",
    )
    add_flag(
        group,
        "wait_till_ready",
        type=positive,
        default=30,
        metavar="S",
        help="seconds to wait for a server's first answer (default: %(default)s)",
    )
    add_flag(
        group,
        "timeout",
        type=number,
        default=60.0,
        metavar="S",
        help="seconds after which an answer counts as lost (default: %(default)s)",
    )
    add_flag(group, "seed", type=count, default=0, metavar="N", help="of all that is random (0)")


def _add_output(group: Any) -> None:
    group.add_argument(
        "-o", "--output", metavar="DIR", help="write results.json, results.md and plots there"
    )
    add_flag(group, "no_plots", action="store_true", help="draw nothing (needs no matplotlib)")
    add_flag(group, "no_progress", action="store_true", help="show no bars (needs no tqdm)")


def chosen(args: argparse.Namespace, name: str, default: Any) -> Any:
    """The flag's value, that of the preset if it isn't named, or else ``default``."""
    value: Optional[Any] = getattr(args, name)
    if value is not None:
        return value
    return PRESETS.get(args.preset, {}).get(name, default)
