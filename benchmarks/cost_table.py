"""Measures how long an engine takes for batches of many shapes, for :mod:`simulator` to use.

``python -m bert_serving.benchmarks.cost_table -model_dir DIR --name NAME -o FILE`` takes the
server's flags, prepares the service as they say, and runs its engine in this process. A file that
is there gets one table more, or a newer one of the same name.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from bert_serving.benchmarks.arguments import get_benchmark_parser
from bert_serving.benchmarks.costs import CostTable, Sample, fit, read_tables, relative_errors
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.machine import describe_machine
from bert_serving.benchmarks.progress import Progress, bars_wanted
from bert_serving.benchmarks.service import prepared
from bert_serving.benchmarks.workloads import Lengths
from bert_serving.graph_opt.files import atomic_write
from bert_serving.server.engines import Features, create

__all__ = ["measure", "save", "shapes"]

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
LENGTHS = (8, 20, 32, 64, 128)
MIXES = 2
MOST_TOKENS = 4096
#: The machine may be busy with something else: the best of so many runs, in turns, is taken.
ROUNDS = 5


def shapes(seed: int, longest: int) -> List[np.ndarray]:
    """Lengths of each batch's rows, int64 [rows]: equal ones, mixed ones, one long among short.

    None is above ``longest``, no batch has more than MOST_TOKENS with padding.
    """
    random = np.random.RandomState(seed)
    mixed = Lengths("lognormal", mean=20.0)
    found = [np.full(rows, length) for rows in ROWS for length in LENGTHS]
    found += [mixed.draw(rows, random, longest) for rows in ROWS[2:] for _ in range(MIXES)]
    found += [np.append(np.full(rows - 1, 12), 100) for rows in ROWS[2:6]]
    return [
        lengths
        for lengths in found
        if lengths.max() <= longest and len(lengths) * lengths.max() <= MOST_TOKENS
    ]


def measure(
    run: Callable[[np.ndarray], object],
    batches: Sequence[np.ndarray],
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> List[Sample]:
    """The best duration of ``run(lengths)`` for each of ``batches``, all of them in turn."""
    best = [float("inf")] * len(batches)
    with progress.steps(ROUNDS, "measuring") as begin:
        for number in range(ROUNDS):
            begin("round %d" % (number + 1))
            for i, lengths in enumerate(batches):
                began = clock()
                run(lengths)
                best[i] = min(best[i], clock() - began)
    return [
        Sample(len(lengths), int(lengths.sum()), int(lengths.max()), seconds)
        for lengths, seconds in zip(batches, best)
    ]


def save(table: CostTable, path: Path) -> None:
    """Add a table to a file, or replace the one of its name. Raises BenchmarkError."""
    tables = read_tables(path) if path.exists() else {}
    tables[table.name] = table
    entries = [json.dumps(one.as_json()) for one in tables.values()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, "[\n%s\n]\n" % ",\n".join(entries))
    except OSError as error:
        raise BenchmarkError("can't write %s: %s" % (path, error.strerror or error)) from error


def _measure_engine(args: argparse.Namespace, progress: Progress) -> Tuple[List[Sample], int, int]:
    """The samples, how many batches were computed at a time, and of how many tokens at least they
    are then.
    """
    spec = prepared(args)
    streams = 1 if args.alone else spec.engine.streams
    split_tokens = 0 if args.alone else spec.engine.split_tokens
    engine = create(spec.engine.name)
    engine.load(spec.engine, spec.devices[0])
    pool = ThreadPoolExecutor(streams)

    def run(lengths: np.ndarray) -> None:
        features = Features(np.ones((3, int(lengths.sum())), np.int32), lengths)
        batches = [pool.submit(engine.encode, features, streams == 1) for _ in range(streams)]
        for batch in batches:
            batch.result()

    try:
        with pool:
            samples = measure(run, shapes(args.seed, spec.tokenizer.max_length), progress)
            return samples, streams, split_tokens
    finally:
        engine.close()


def main(argv: Optional[List[str]] = None) -> int:
    """Measure a table; returns the exit status."""
    parser = get_benchmark_parser()
    parser.prog = "bert_serving.benchmarks.cost_table"
    parser.description = "Measure how long an engine takes for batches of many shapes."
    parser.add_argument("--name", required=True, help="what the table is called")
    parser.add_argument("--packed", action="store_true", help="the graph computes no padding")
    parser.add_argument(
        "--alone", action="store_true", help="one batch at a time, though the server takes several"
    )
    args = parser.parse_args(argv)
    try:
        if args.output is None:
            raise BenchmarkError("name the file to write by -o")
        machine = describe_machine()  # before anything runs, for the load average's sake
        progress = Progress(bars_wanted() and not args.no_progress)
        samples, *streams = _measure_engine(args, progress)
        table = CostTable(args.name, args.packed, machine, samples, *streams)
        save(table, Path(args.output))
    except BenchmarkError as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    model = fit(table)
    errors = np.abs(relative_errors(model, table))
    print(
        "seconds = a + b tokens + c padded + d rows longest² + e excess: %s" % (model.coefficients,)
    )
    print("relative error: median %.3f, highest %.3f" % (np.median(errors), errors.max()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
