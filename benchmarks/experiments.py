"""1.10's experiments: one flag is varied, the speed of closed-loop clients is measured.

A server is started for every value of a server's flag, and one for all values of a client's.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from bert_serving.benchmarks.arguments import EXPERIMENTS, chosen
from bert_serving.benchmarks.closed import ClosedLoad, ClosedResult, closed_loop
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.latency import distribution
from bert_serving.benchmarks.progress import Progress
from bert_serving.benchmarks.results import (
    LATENCY_COLUMNS,
    Cell,
    Figure,
    Outcome,
    Series,
    Table,
    latency_cells,
)
from bert_serving.benchmarks.service import (
    ModelLimits,
    Subject,
    connected,
    model_limits,
    own_server,
)
from bert_serving.server.model_flags import AUTO

__all__ = ["Point", "plan", "run", "run_point"]

#: These are the clients' flags; the others are the server's, which takes a new one to vary.
OF_CLIENTS = ("client_batch_size", "num_client")
#: 1.10's defaults of what is held still.
CLIENT_BATCH_SIZE, NUM_CLIENT, MAX_SEQ_LEN = 4096, 1, 25
WARM_UP = 2
#: Requests that a client takes in turn. They are as many as differ, not as are sent.
DIFFERENT = 4


@dataclass(frozen=True)
class Point:
    """One value of an experiment: its ``result``, or the ``error`` that kept it from having one."""

    value: int
    result: Optional[ClosedResult]
    error: Optional[str] = None


def plan(
    args: argparse.Namespace, limits: Optional[ModelLimits], is_connected: bool
) -> Dict[str, List[int]]:
    """The experiments to run, and their values.

    Those that are named with values; if none is, all with 1.10's values, as far as the model goes,
    without those that are named with no value. Raises BenchmarkError.
    """
    named = {name: getattr(args, "test_" + name) for name in EXPERIMENTS}
    chosen_ones = {name: list(values) for name, values in named.items() if values}
    if not chosen_ones:
        chosen_ones = {
            name: _within(name, values, limits)
            for name, values in EXPERIMENTS.items()
            if named[name] is None and (name in OF_CLIENTS or not is_connected)
        }
    for name in chosen_ones:
        if is_connected and name not in OF_CLIENTS:
            raise BenchmarkError(
                "-test_%s needs servers with different flags, but -connect names one that runs; "
                "only -test_client_batch_size and -test_num_client go with it" % name
            )
        if name != "pooling_layer" and min(chosen_ones[name]) < 1:
            raise BenchmarkError("-test_%s takes numbers from 1 on" % name)
    return chosen_ones


def _within(name: str, values: Sequence[int], limits: Optional[ModelLimits]) -> List[int]:
    if limits is not None and name == "max_seq_len":
        return [value for value in values if value <= limits.positions]
    if limits is not None and name == "pooling_layer":
        return [value for value in values if -value <= limits.layers]
    return list(values)


def run(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Run the experiments. Raises BenchmarkError if the first server can't be used at all."""
    if args.num_repeat <= WARM_UP:
        raise BenchmarkError(
            "-num_repeat must be more than %d, for the first %d requests don't count, but is %d"
            % (WARM_UP, WARM_UP, args.num_repeat)
        )
    limits = None if args.connect else model_limits(args)
    experiments = plan(args, limits, args.connect is not None)
    found: Dict[str, List[Point]] = {}
    config: Dict[str, Any] = {}
    for name, values in experiments.items():
        points = found[name] = []
        with progress.steps(len(values), name) as begin, ExitStack() as stack:
            server: Optional[Subject] = None
            for value in values:
                begin(str(value))
                try:
                    if name not in OF_CLIENTS:
                        with _server(args, name, value) as subject:
                            config = subject.config
                            points.append(run_point(args, subject, name, value))
                        continue
                    server = server or stack.enter_context(_server(args))
                    config = server.config
                    points.append(run_point(args, server, name, value))
                except BenchmarkError as error:
                    points.append(Point(value, None, str(error)))
    return _outcome(found, config)


@contextmanager
def _server(args: argparse.Namespace, name: str = "", value: int = 0) -> Iterator[Subject]:
    if args.connect is not None:
        yield connected(args.connect, args)
        return
    changes: Dict[str, Any] = {}
    if args.max_seq_len is AUTO:
        changes["max_seq_len"] = MAX_SEQ_LEN
    if name:
        changes[name] = [value] if name == "pooling_layer" else value
    with own_server(args, **changes) as subject:
        yield subject


def run_point(args: argparse.Namespace, subject: Subject, name: str, value: int) -> Point:
    """Measure a server with a clients' flag replaced, if ``name`` is one. Raises BenchmarkError."""
    rows = chosen(args, "client_batch_size", CLIENT_BATCH_SIZE)
    clients = args.num_client or NUM_CLIENT
    if name == "client_batch_size":
        rows = value
    elif name == "num_client":
        clients = value
    text = args.workload or "fixed:%d" % subject.longest
    workload = subject.workload(text, args.client_vocab_file)
    batches = [workload.batches(DIFFERENT, rows, args.seed, client) for client in range(clients)]
    load = ClosedLoad(clients, args.num_repeat, WARM_UP, args.timeout, args.client_processes)
    result = closed_loop(subject.target, batches, load)
    if result.latency.failed == result.latency.requests:
        return Point(value, result, "every request failed: %s" % ", ".join(result.errors))
    return Point(value, result)


def _outcome(found: Dict[str, List[Point]], config: Dict[str, Any]) -> Outcome:
    notes = [
        "%s = %d: %s" % (name, point.value, point.error)
        for name, points in found.items()
        for point in points
        if point.error
    ]
    tables = [_table(name, points) for name, points in found.items()]
    figures = [
        figure
        for name, points in found.items()
        if any(point.result for point in points)
        for figure in _figures(name, points)
    ]
    data = {
        "server": config,
        "experiments": {name: [_plain(one) for one in points] for name, points in found.items()},
    }
    return Outcome("experiments", data, tables, figures, notes, failed=bool(notes))


def _plain(point: Point) -> Dict[str, Any]:
    """For JSON: the distribution of the latencies instead of every one."""
    plain = asdict(point)
    if point.result is not None:
        del plain["result"]["latencies"]
        plain["result"]["latency_distribution"] = distribution(
            point.result.latencies, point.result.latency.failed
        )
    return plain


def _table(name: str, points: Sequence[Point]) -> Table:
    columns = (name, "rows/s", "tokens/s", "rows/s of a client") + LATENCY_COLUMNS
    rows: List[List[Cell]] = []
    for point in points:
        result = point.result
        cells: List[Cell] = [point.value]
        if result is None:
            cells += [None] * (len(columns) - 1)
        else:
            cells += [result.rows_per_second, result.tokens_per_second]
            cells += [result.client_rows_per_second] + latency_cells(result.latency)
        rows.append(cells)
    return Table("Speed by " + name, columns, rows)


#: File name, title and label of the x axis.
DRAWN: Dict[str, Tuple[str, str, str]] = {
    "client_batch_size": ("throughput-request-size", "Throughput by size of request", "texts"),
    "max_batch_size": ("throughput-batch-size", "Throughput by -max_batch_size", "rows"),
    "max_seq_len": ("throughput-length", "Throughput by sequence length", "-max_seq_len (tokens)"),
    "num_client": ("throughput-clients", "Throughput by number of clients", "clients at a time"),
    "pooling_layer": ("throughput-layer", "Throughput by pooled layer", "-pooling_layer"),
}


def _figures(name: str, points: Sequence[Point]) -> List[Figure]:
    measured = sorted(
        ((point.value, point.result) for point in points if point.result is not None),
        key=lambda pair: pair[0],
    )
    file, title, x_label = DRAWN[name]
    x = [float(value) for value, _ in measured]
    y = [result.rows_per_second for _, result in measured]
    log = name != "pooling_layer" and min(x) > 0
    figures = [Figure(file, title, x_label, "texts per second", [Series("", x, y)], log_x=log)]
    if name == "num_client":
        series = [
            Series("%d client%s" % (value, "s" if value != 1 else ""), *_milliseconds(result))
            for value, result in measured
            if result.latencies
        ]
        figures.append(
            Figure(
                "latency-clients",
                "Latency by number of clients",
                "latency (ms)",
                "share of requests",
                series,
                kind="distribution",
                log_x=True,
            )
        )
    return figures


def _milliseconds(result: ClosedResult) -> Tuple[List[float], List[float]]:
    pairs = distribution(result.latencies, result.latency.failed)
    return [seconds * 1000 for seconds, _ in pairs], [share for _, share in pairs]
