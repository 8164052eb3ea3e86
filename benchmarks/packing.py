"""What padding costs: ways to compute the same rows, in padded and in packed batches.

``python -m bert_serving.benchmarks.packing -model_dir DIR -cpu`` takes the server's flags and
prints tokens per second, padding not counted, for each way and each distribution of lengths. All
ways take turns in the bare engine, one batch at a time.
"""

from __future__ import annotations

import sys
import time
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from bert_serving.benchmarks.arguments import get_benchmark_parser
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.results import Cell, Table
from bert_serving.benchmarks.service import prepared
from bert_serving.benchmarks.simulator import markdown
from bert_serving.benchmarks.workloads import parse_lengths
from bert_serving.server.engines import Engine, Features, create

__all__ = ["WAYS", "main", "speeds"]

ROWS, ROUNDS = 64, 5
WORKLOADS = ("lognormal:21", "uniform:6-32", "fixed:32")
Batches = List[np.ndarray]


def one_batch(lengths: np.ndarray) -> Batches:
    """All rows as they come."""
    return [lengths]


def in_parts(count: int) -> Callable[[np.ndarray], Batches]:
    """Sorted by length, in parts of equal size."""
    return lambda lengths: np.array_split(np.sort(lengths), count)


def by_length(lengths: np.ndarray) -> Batches:
    """A batch for each length."""
    return [lengths[lengths == length] for length in np.unique(lengths)]


#: Whether batches are packed, and how rows are put into them.
WAYS = {
    "padded, one batch": (False, one_batch),
    "padded, sorted, 4 batches": (False, in_parts(4)),
    "padded, a batch for each length": (False, by_length),
    "packed, one batch": (True, one_batch),
    "packed, sorted, 4 batches": (True, in_parts(4)),
}


def speeds(engines: Dict[bool, Engine], lengths: np.ndarray) -> List[float]:
    """Tokens per second of each way; ``engines`` are the one for padded and the one for packed
    batches.
    """
    best = [float("inf")] * len(WAYS)
    for number in range(1 + ROUNDS):
        for place, (is_packed, split) in enumerate(WAYS.values()):
            batches = [_features(one) for one in split(lengths)]
            began = time.perf_counter()
            for batch in batches:
                engines[is_packed].encode(batch)
            if number:  # the first round lays out memory
                best[place] = min(best[place], time.perf_counter() - began)
    return [int(lengths.sum()) / seconds for seconds in best]


def _features(lengths: np.ndarray) -> Features:
    return Features(np.ones((3, int(lengths.sum())), np.int32), lengths.astype(np.int32))


def _table(engines: Dict[bool, Engine], seed: int, longest: int) -> Table:
    rows: List[Sequence[Cell]] = []
    for workload in WORKLOADS:
        drawn = parse_lengths(workload)
        assert drawn is not None
        lengths = drawn.draw(ROWS, np.random.RandomState(seed), longest)
        rows.append([workload] + [round(one) for one in speeds(engines, lengths)])
    return Table("Tokens per second, %d rows" % ROWS, ("lengths", *WAYS), rows)


def main(argv: Optional[List[str]] = None) -> int:
    """Measure and print; returns the exit status."""
    parser = get_benchmark_parser()
    parser.prog = "bert_serving.benchmarks.packing"
    parser.description = "Measure what padding costs."
    args = parser.parse_args(argv)
    engines: Dict[bool, Engine] = {}
    try:
        for is_packed in (False, True):
            spec = prepared(args, is_packed)
            engines[is_packed] = create(spec.engine.name)
            engines[is_packed].load(spec.engine, spec.devices[0])
        table = _table(engines, args.seed, spec.tokenizer.max_length)
    except BenchmarkError as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    finally:
        for engine in engines.values():
            engine.close()
    print(markdown(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
