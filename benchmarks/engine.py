"""``-engine_only``: what the bare engine can do, and how much of that the service leaves.

The bare engine runs in this process, with as many threads as all workers together, on batches of
equal lengths that are ready made. Its graph is optimized as the service's is, but takes padded
batches: there is no padding, and so none of the work of leaving it out. Its best batch size is
looked for. Then engine and service take turns, so that a machine that gets slower meanwhile slows
down both.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from bert_serving.benchmarks.closed import ClosedLoad, closed_loop
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.progress import Progress
from bert_serving.benchmarks.results import Cell, Figure, Outcome, Series, Table
from bert_serving.benchmarks.service import Subject, own_server, prepared
from bert_serving.server.engines import Engine, Features, create
from bert_serving.server.model_flags import AUTO

__all__ = ["Efficiency", "Shape", "fastest", "run", "seconds_each"]

LENGTHS = (32,)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
CLIENTS = 4
#: How long a shape is measured while the best is looked for, and engine and service in each round.
SCAN_SECONDS, ROUND_SECONDS = 0.7, 3.0
LEAST_RUNS = 3
WARM_UP = 1


@dataclass(frozen=True)
class Shape:
    """A batch of ``rows`` sequences of ``length`` tokens, and how fast the bare engine is."""

    length: int
    rows: int
    tokens_per_second: float


@dataclass(frozen=True)
class Efficiency:
    """Tokens per second of engine and service at one length, round by round.

    ``ratio`` is the median of service / engine over the rounds.
    """

    length: int
    rows: int
    engine: Tuple[float, ...]
    service: Tuple[float, ...]
    failed: int

    @property
    def ratio(self) -> float:
        return statistics.median(ours / bare for ours, bare in zip(self.service, self.engine))


def run(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Measure engine and service. Raises BenchmarkError."""
    lengths = args.lengths or LENGTHS
    if args.connect is not None:
        raise BenchmarkError("-engine_only measures a server that it starts: leave out -connect")
    if args.workload is not None:
        raise BenchmarkError("-engine_only takes texts of equal -lengths: leave out -workload")
    # The model's own limit, unless a length is named: else Google's layout would stop at 25.
    changes = {"max_seq_len": None} if args.max_seq_len is AUTO else {}
    with own_server(args, **changes) as subject:
        assert subject.spec is not None
        if max(lengths) > subject.longest or min(lengths) < 3:
            raise BenchmarkError(
                "-lengths can be from 3 to %d tokens with this model and -max_seq_len, but are %s"
                % (subject.longest, " ".join(map(str, lengths)))
            )
        bare = prepared(args, packed=False, **changes).engine
        spec = replace(bare, threads=bare.threads * args.num_worker)
        engine = create(spec.name)
        engine.load(spec, subject.spec.devices[0])
        try:
            shapes: List[Shape] = []
            found: List[Efficiency] = []
            for length in lengths:
                shapes += scan(engine, subject, length, args, progress)
                best = fastest(shapes, length)
                found.append(compare(engine, subject, best, args, progress))
        finally:
            engine.close()
    return _outcome(shapes, found, subject, spec.threads)


def scan(
    engine: Engine, subject: Subject, length: int, args: argparse.Namespace, progress: Progress
) -> List[Shape]:
    """The bare engine's speed at each batch size."""
    sizes = args.batch_sizes or BATCH_SIZES
    shapes = []
    with progress.steps(len(sizes), "engine, %d tokens" % length) as begin:
        for rows in sizes:
            begin("%d rows" % rows)
            features = batch_of(subject, length, rows, args.seed)
            each = seconds_each(lambda batch=features: engine.encode(batch), SCAN_SECONDS)  # type: ignore[misc]
            shapes.append(Shape(length, rows, rows * length / each))
    return shapes


def fastest(shapes: Sequence[Shape], length: int) -> Shape:
    """The shape of this length with most tokens per second."""
    return max(
        (shape for shape in shapes if shape.length == length),
        key=lambda shape: shape.tokens_per_second,
    )


def compare(
    engine: Engine, subject: Subject, best: Shape, args: argparse.Namespace, progress: Progress
) -> Efficiency:
    """Engine and service in turn."""
    clients = args.num_client or CLIENTS
    rows = args.client_batch_size or enough_rows(subject, best.length, clients, args.num_worker)
    workload = subject.workload("fixed:%d" % best.length, args.client_vocab_file)
    batches = [workload.batches(1, rows, args.seed, client) for client in range(clients)]
    expected = rows * best.length * clients / best.tokens_per_second
    repeats = WARM_UP + max(LEAST_RUNS, math.ceil(ROUND_SECONDS / expected))
    load = ClosedLoad(clients, repeats, WARM_UP, args.timeout, args.client_processes)
    features = batch_of(subject, best.length, best.rows, args.seed)
    bare, ours, failed = [], [], 0
    with progress.steps(args.rounds, "engine and service") as begin:
        for number in range(args.rounds):
            begin("%d tokens, round %d" % (best.length, number + 1))
            each = seconds_each(lambda: engine.encode(features), ROUND_SECONDS)
            bare.append(best.rows * best.length / each)
            result = closed_loop(subject.target, batches, load)
            ours.append(result.tokens_per_second)
            failed += result.latency.failed
    return Efficiency(best.length, best.rows, tuple(bare), tuple(ours), failed)


def enough_rows(subject: Subject, length: int, clients: int, workers: int) -> int:
    """Rows of a request so that each worker always has batches to come."""
    assert subject.spec is not None
    return math.ceil(4 * subject.spec.token_budget * workers / (clients * length))


def batch_of(subject: Subject, length: int, rows: int, seed: int) -> Features:
    """Texts of equal length as the workers hand them to an engine."""
    texts = subject.workload("fixed:%d" % length).batches(1, rows, seed)[0].texts
    encoded = subject.tokenizer.encode(texts, is_tokenized=False)
    lengths = np.array([one.features.shape[1] for one in encoded], np.int32)
    return Features(np.concatenate([one.features for one in encoded], axis=1), lengths)


def seconds_each(
    work: Callable[[], Any], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The median duration of ``work``, run once to warm up and then for about ``seconds``."""
    work()
    durations: List[float] = []
    while len(durations) < LEAST_RUNS or math.fsum(durations) < seconds:
        began = clock()
        work()
        durations.append(clock() - began)
    return statistics.median(durations)


def _outcome(
    shapes: Sequence[Shape], found: Sequence[Efficiency], subject: Subject, threads: int
) -> Outcome:
    scanned = Table(
        "Bare engine, batches of equal length",
        ("length", "rows", "tokens/s", "rows/s"),
        [
            (one.length, one.rows, one.tokens_per_second, one.tokens_per_second / one.length)
            for one in shapes
        ],
    )
    rows: List[List[Cell]] = [
        [
            one.length,
            one.rows,
            statistics.median(one.engine),
            statistics.median(one.service),
            one.ratio,
            one.failed,
        ]
        for one in found
    ]
    columns = ("length", "best rows", "engine tokens/s", "service tokens/s", "service / engine")
    compared = Table("Service and bare engine, in turn", columns + ("failed",), rows)
    x = [float(one.length) for one in found]
    figures = [_scan_figure(shapes)]
    if len(found) > 1:
        series = [
            Series("bare engine, best batch", x, [statistics.median(one.engine) for one in found]),
            Series("service", x, [statistics.median(one.service) for one in found]),
        ]
        figures.append(
            Figure(
                "throughput-length",
                "Throughput by sequence length",
                "sequence length (tokens)",
                "tokens per second",
                series,
                log_x=True,
            )
        )
    data: Dict[str, Any] = {
        "server": subject.config,
        "engine_threads": threads,
        "shapes": [asdict(shape) for shape in shapes],
        "efficiency": [dict(asdict(one), ratio=one.ratio) for one in found],
    }
    notes = ["the bare engine ran with %d threads" % threads]
    failed = any(one.failed for one in found)
    return Outcome("engine-only", data, (compared, scanned), figures, notes, failed)


def _scan_figure(shapes: Sequence[Shape]) -> Figure:
    series = []
    for length in sorted({shape.length for shape in shapes}):
        ours = sorted((one.rows, one.tokens_per_second) for one in shapes if one.length == length)
        x, y = [float(rows) for rows, _ in ours], [speed for _, speed in ours]
        series.append(Series("%d tokens" % length, x, y))
    return Figure(
        "engine-batch-size",
        "Bare engine by batch size",
        "rows of a batch",
        "tokens per second",
        series,
        log_x=True,
    )
