"""``-memory``: how much memory a worker takes, by sequence length and batch size.

Each shape is measured in a process of its own, which loads the engine, computes one batch, and
tells the most that it held. A process is ended as soon as it takes more than the limit, and shapes
that are larger in every way than one that did aren't tried. So nothing runs out of memory here.

``python -m bert_serving.benchmarks.memory`` is such a process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.machine import memory_bytes, memory_of
from bert_serving.benchmarks.progress import Progress
from bert_serving.benchmarks.results import Figure, Outcome, Series, Table
from bert_serving.benchmarks.service import prepared
from bert_serving.server.engines import Features, create
from bert_serving.server.model_flags import AUTO
from bert_serving.server.spec import EngineSpec, ServiceSpec

__all__ = ["Peak", "run", "smallest_first", "surely_exceeds"]

LENGTHS = (32, 64, 128, 256, 512)
BATCH_SIZES = (1, 16, 64, 256)
#: How often a process' memory is looked at, in seconds; it grows by a few gigabytes a second.
LOOK = 0.01
MIB = 2.0**20


@dataclass(frozen=True)
class Peak:
    """The most memory that a worker held for a batch, in bytes; None: more than it may.

    ``loaded`` is what it held before. ``measured`` is False where a smaller shape told enough.
    """

    length: int
    rows: int
    peak: Optional[int]
    loaded: Optional[int]
    measured: bool = True


def run(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Measure every shape. Raises BenchmarkError."""
    if args.connect is not None:
        raise BenchmarkError("-memory measures an engine on this machine: leave out -connect")
    changes: Dict[str, Any] = {"max_seq_len": None} if args.max_seq_len is AUTO else {}
    spec = prepared(args, **changes)
    if max(spec.devices) >= 0:
        raise BenchmarkError(
            "-memory measures main memory, but the workers would compute on a GPU; add -cpu"
        )
    longest = spec.tokenizer.max_length
    lengths = args.lengths or [length for length in LENGTHS if length <= longest] or [longest]
    if max(lengths) > longest:
        raise BenchmarkError(
            "-lengths can be up to %d tokens with this model and -max_seq_len, but are %s"
            % (longest, " ".join(map(str, lengths)))
        )
    limit = args.memory_limit or memory_bytes()
    share = limit // args.num_worker
    shapes = smallest_first(lengths, args.batch_sizes or BATCH_SIZES)
    peaks: List[Peak] = []
    with progress.steps(len(shapes), "memory") as begin:
        for length, rows in shapes:
            begin("%d rows of %d tokens" % (rows, length))
            if surely_exceeds(peaks, length, rows):
                peaks.append(Peak(length, rows, None, None, measured=False))
            else:
                peaks.append(measure(spec.engine, length, rows, share))
    return _outcome(peaks, spec, limit)


def smallest_first(lengths: Sequence[int], sizes: Sequence[int]) -> List[Tuple[int, int]]:
    """All (length, rows), by the number of tokens."""
    shapes = [(length, rows) for length in sorted(set(lengths)) for rows in sorted(set(sizes))]
    return sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape))


def surely_exceeds(peaks: Sequence[Peak], length: int, rows: int) -> bool:
    """Whether a shape that is no larger in either way took too much already."""
    return any(one.peak is None and one.length <= length and one.rows <= rows for one in peaks)


def measure(spec: EngineSpec, length: int, rows: int, limit: int) -> Peak:
    """The peak of one shape. Raises BenchmarkError if the engine can't compute it."""
    order = json.dumps({"engine": asdict(spec), "length": length, "rows": rows})
    process = subprocess.Popen(
        [sys.executable, "-m", "bert_serving.benchmarks.memory", order],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            while True:
                try:
                    output, errors = process.communicate(timeout=LOOK)
                    break
                except subprocess.TimeoutExpired:
                    pass
                if _memory_now(process.pid) > limit:
                    process.kill()
                    process.communicate()
                    return Peak(length, rows, None, None)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise BenchmarkError(
            "computing %d rows of %d tokens failed (status %d): %s"
            % (rows, length, process.returncode, errors.decode("utf-8", "replace").strip()[-500:])
        )
    answer = json.loads(output)
    peak = answer["peak"] if answer["peak"] <= limit else None
    return Peak(length, rows, peak, answer["loaded"])


def _memory_now(pid: int) -> int:
    try:
        return memory_of(str(pid), "VmRSS")
    except OSError:  # it has just ended
        return 0


def _child(text: str) -> int:
    """The process that computes one shape, as ``text`` orders, and tells on standard output."""
    # If memory runs out nevertheless, the system shall end this process rather than another.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    order = json.loads(text)
    spec = EngineSpec(**order["engine"])
    engine = create(spec.name)
    engine.load(spec, -1)
    loaded = memory_of("self", "VmRSS")
    lengths = np.full(order["rows"], order["length"])
    # What the tokens are doesn't matter; all of them are valid and attended to.
    packed = np.ones((3, order["rows"] * order["length"]), np.int32)
    engine.encode(Features(packed, lengths))
    print(json.dumps({"loaded": loaded, "peak": memory_of("self", "VmHWM")}))
    engine.close()
    return 0


def _outcome(peaks: Sequence[Peak], spec: ServiceSpec, limit: int) -> Outcome:
    lengths = sorted({peak.length for peak in peaks})
    sizes = sorted({peak.rows for peak in peaks})
    share = limit // spec.num_worker
    by_shape = {(peak.length, peak.rows): peak for peak in peaks}
    table = Table(
        "Peak memory of a worker (MiB), by sequence length and rows of a batch",
        ["length"] + ["%d row%s" % (size, "s" if size > 1 else "") for size in sizes],
        [[length] + [_cell(by_shape[length, size], share) for size in sizes] for length in lengths],
    )
    notes = [
        "limit: %.0f MiB for %d worker%s, %.0f MiB each"
        % (limit / MIB, spec.num_worker, "s" if spec.num_worker > 1 else "", share / MIB),
        "the service computes at most %d tokens of a batch at a time, padding included, or one "
        "longer row: larger shapes are split before they reach a worker" % spec.token_budget,
    ]
    figures = [_figure(peaks, lengths)] if any(peak.peak for peak in peaks) else []
    data: Dict[str, Any] = {
        "model": spec.model,
        "engine": spec.engine.name,
        "threads": spec.engine.threads,
        "num_worker": spec.num_worker,
        "limit_bytes": limit,
        "token_budget": spec.token_budget,
        "peaks": [dict(asdict(peak), exceeds=peak.peak is None) for peak in peaks],
    }
    return Outcome("memory", data, [table], figures, notes)


def _cell(peak: Peak, share: int) -> str:
    if peak.peak is not None:
        return "%.0f" % (peak.peak / MIB)
    return "exceeds %.0f%s" % (share / MIB, "" if peak.measured else " (not tried)")


def _figure(peaks: Sequence[Peak], lengths: Sequence[int]) -> Figure:
    series = []
    for length in lengths:
        ours = sorted(
            (one.rows, one.peak / MIB)
            for one in peaks
            if one.length == length and one.peak is not None
        )
        if ours:
            x, y = [float(rows) for rows, _ in ours], [peak for _, peak in ours]
            series.append(Series("%d tokens" % length, x, y))
    return Figure(
        "memory",
        "Peak memory of a worker",
        "rows of a batch",
        "MiB",
        series,
        log_x=True,
    )


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1]))
