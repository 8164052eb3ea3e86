"""``-load``: latency at a rate of independent requests, or the rate that a latency allows."""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from bert_serving.benchmarks.arguments import PRESETS, chosen
from bert_serving.benchmarks.closed import ClosedLoad, closed_loop
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.latency import Latency, distribution
from bert_serving.benchmarks.load import LoadResult, OpenLoad, is_trustworthy, open_loop
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
from bert_serving.benchmarks.search import Search, highest_rate
from bert_serving.benchmarks.service import Subject, connected, own_server
from bert_serving.benchmarks.workloads import Batch, token_range
from bert_serving.server.model_flags import AUTO

__all__ = ["Bound", "load_subject", "run", "search_rate"]

WORKLOAD, CLIENTS, CLIENT_BATCH_SIZE = "lognormal:20", 100, 1
#: The mean latency, in milliseconds, that the preset "article" is compared with.
ARTICLE_MEAN_MS = 400.0
#: Requests that differ; after them the same ones come again.
DIFFERENT = 4096
#: The search begins at half of what so many closed-loop clients get.
PROBE_CLIENTS, PROBE_REPEATS = 8, 12


@dataclass(frozen=True)
class Bound:
    """``statistic``, "p99" or "mean", is to be at most ``seconds``."""

    statistic: str
    seconds: float

    def holds(self, latency: Latency) -> bool:
        """Whether it is. A mean doesn't see failed requests: no mean holds with one of them."""
        if self.statistic == "mean" and latency.failed:
            return False
        value = getattr(latency, self.statistic)
        return value is not None and value <= self.seconds

    def __str__(self) -> str:
        return "%s latency of at most %g ms" % (self.statistic, self.seconds * 1000)


def run(args: argparse.Namespace, progress: Progress) -> Outcome:
    """Put the load on a server, started here or not. Raises BenchmarkError."""
    bound = bound_of(args)
    if args.rate is None and bound is None:
        raise BenchmarkError(
            "-load needs -rate REQUESTS_A_SECOND, or -p99 MS or -mean MS to search for the rate"
        )
    if args.warm_up >= args.seconds:
        raise BenchmarkError(
            "-warm_up %g leaves nothing of -seconds %g to count" % (args.warm_up, args.seconds)
        )
    with load_subject(args) as subject:
        text = chosen(args, "workload", WORKLOAD)
        rows = chosen(args, "client_batch_size", CLIENT_BATCH_SIZE)
        workload = subject.workload(text, args.client_vocab_file)
        batches = workload.batches(max(DIFFERENT // rows, 16), rows, args.seed)
        trials: List[LoadResult] = []

        def measure(rate: float) -> LoadResult:
            load = OpenLoad(
                rate,
                args.seconds,
                args.warm_up,
                args.num_client or CLIENTS,
                args.timeout,
                args.seed,
            )
            with progress.share("%.4g requests/s" % rate) as tell:
                trials.append(open_loop(subject.target, batches, load, tell, args.wait_till_ready))
            return trials[-1]

        search: Optional[Search] = None
        if args.rate is not None:
            measure(args.rate)
        else:
            assert bound is not None
            first = probe(subject, batches, args.timeout) / 2
            search = search_rate(measure, bound, first, args.resolution)
    return _outcome(trials, search, bound, subject.config, batches, args)


def bound_of(args: argparse.Namespace) -> Optional[Bound]:
    """The bound on latency that the flags name, if they do. Raises BenchmarkError."""
    named = [(name, getattr(args, name)) for name in ("p99", "mean", "rate") if getattr(args, name)]
    if len(named) > 1:
        raise BenchmarkError(
            "-%s and -%s exclude each other: a rate is given, or one latency is bounded and the "
            "rate searched" % (named[0][0], named[1][0])
        )
    if named and named[0][0] != "rate":
        return Bound(named[0][0], named[0][1] / 1000)
    if args.preset == "article":
        return Bound("mean", ARTICLE_MEAN_MS / 1000)
    return None


@contextmanager
def load_subject(args: argparse.Namespace) -> Iterator[Subject]:
    """The server to measure."""
    if args.connect is not None:
        yield connected(args.connect, args)
        return
    changes: Dict[str, Any] = {}
    length = PRESETS.get(args.preset, {}).get("max_seq_len")
    if length and args.max_seq_len is AUTO:
        changes["max_seq_len"] = length
    with own_server(args, **changes) as subject:
        yield subject


def probe(subject: Subject, batches: Sequence[Batch], timeout: float) -> float:
    """Roughly how many requests a second the server does. Raises BenchmarkError."""
    load = ClosedLoad(PROBE_CLIENTS, PROBE_REPEATS, timeout=timeout)
    parts = [batches[client::PROBE_CLIENTS] for client in range(PROBE_CLIENTS)]
    speed = closed_loop(subject.target, parts, load).requests_per_second
    if not speed:
        raise BenchmarkError("the server at %s answers no request" % subject.target)
    return speed


def search_rate(
    measure: Callable[[float], LoadResult], bound: Bound, first: float, resolution: float
) -> Search:
    """The highest rate that keeps the bound; ``measure`` runs a load at a rate."""
    return highest_rate(lambda rate: bound.holds(measure(rate).latency), first, resolution)


def _outcome(
    trials: Sequence[LoadResult],
    search: Optional[Search],
    bound: Optional[Bound],
    config: Dict[str, Any],
    batches: Sequence[Batch],
    args: argparse.Namespace,
) -> Outcome:
    mean_tokens, texts = token_range(batches)
    best = _best(trials, search)
    notes = _notes(trials, search, bound, best)
    notes.append("texts of %.1f tokens on average, %d different ones" % (mean_tokens, texts))
    data: Dict[str, Any] = {
        "server": config,
        "mean_tokens": mean_tokens,
        "runs": [_plain(trial) for trial in trials],
    }
    if search is not None and bound is not None:
        data["search"] = dict(asdict(search), bound=asdict(bound))
    if args.preset == "article":
        data["article_mean_seconds"] = ARTICLE_MEAN_MS / 1000
    figures = [_figure(best, bound)] if best is not None and best.latencies else []
    failed = best is None or best.latency.failed == best.latency.requests
    return Outcome("load", data, [_table(trials)], figures, notes, failed)


def _best(trials: Sequence[LoadResult], search: Optional[Search]) -> Optional[LoadResult]:
    """The run to show: the one that was asked for, or that of the highest rate that held."""
    if search is None:
        return trials[-1]
    return next((one for one in trials if one.load.rate == search.held), None)


def _notes(
    trials: Sequence[LoadResult],
    search: Optional[Search],
    bound: Optional[Bound],
    best: Optional[LoadResult],
) -> List[str]:
    notes = []
    if search is not None and best is None:
        notes.append("%s: not even at %.3g requests/s" % (bound, search.failed or 0))
    elif search is not None and best is not None:
        above = "none failed" if search.failed is None else "%.4g failed" % search.failed
        notes.append(
            "%s: up to %.4g requests/s (%s; resolution %.3g)"
            % (bound, best.load.rate, above, search.resolution)
        )
    for trial in trials:
        kinds = ", ".join("%d %s" % (number, kind) for kind, number in sorted(trial.errors.items()))
        if kinds:
            notes.append("%.4g requests/s, failed: %s" % (trial.load.rate, kinds))
        if not is_trustworthy(trial):
            notes.append(
                "%.4g requests/s: the load generator was %.0f%% busy and sent up to %.3g ms late; "
                "the figures may be its own"
                % (trial.load.rate, 100 * trial.generator_busy, 1000 * trial.late_highest)
            )
    return notes


def _plain(trial: LoadResult) -> Dict[str, Any]:
    plain = asdict(trial)
    del plain["latencies"]
    plain["latency_distribution"] = distribution(trial.latencies, trial.latency.failed)
    return plain


def _table(trials: Sequence[LoadResult]) -> Table:
    columns = ["requests/s asked", "answered/s", "rows/s", "tokens/s", *LATENCY_COLUMNS]
    columns += ["requests", "generator busy %", "sent late p99 ms"]
    rows: List[List[Cell]] = []
    for trial in trials:
        cells: List[Cell] = [trial.load.rate, trial.requests_per_second, trial.rows_per_second]
        cells += [trial.tokens_per_second] + latency_cells(trial.latency)
        cells += [trial.latency.requests, 100 * trial.generator_busy, 1000 * trial.late_p99]
        rows.append(cells)
    return Table("Latency under load, from when requests were due", columns, rows)


def _figure(best: LoadResult, bound: Optional[Bound]) -> Figure:
    pairs = distribution(best.latencies, best.latency.failed)
    series = Series("", [seconds * 1000 for seconds, _ in pairs], [share for _, share in pairs])
    mark = None
    if bound is not None:
        mark = (bound.seconds * 1000, "bound of the " + bound.statistic)
    return Figure(
        "latency",
        "Latency at %.4g requests per second" % best.load.rate,
        "latency (ms), from when a request was due",
        "share of requests",
        [series],
        kind="distribution",
        log_x=True,
        mark=mark,
    )
