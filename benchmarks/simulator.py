"""Compares orders of service, and the scheduler's constants, by simulation.

``python -m bert_serving.benchmarks.simulator`` prints tables in Markdown: synthetic or recorded
traces, the measured costs of an engine, and the very scheduler that the server runs. The same seed
gives the same tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from bert_serving.benchmarks.costs import MEASURED, CostModel, CostTable, fit, read_tables
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.policies import POLICIES, SMALL_ROWS
from bert_serving.benchmarks.results import Cell, Table
from bert_serving.benchmarks.simulation import Setting, Summary, simulate, summarize
from bert_serving.benchmarks.traces import LONGEST, TRACES, Trace, read_trace
from bert_serving.graph_opt.files import atomic_write
from bert_serving.server.batching import BatchLimits
from bert_serving.server.holding import AHEAD
from bert_serving.server.line import LEAD_BATCHES
from bert_serving.server.scheduler import AGING, Scheduler

__all__ = ["Run", "compare_policies", "main", "sweep", "tables"]

DEFAULT_TABLE = "MiniLM, packed"
BATCH_ROWS, BATCH_TOKENS = 256, 1024
#: A constant of the scheduler, or of its setting, and the values to try.
SWEEPS: Dict[str, Sequence[float]] = {
    "tokens": (256, 512, 1024, 2048),
    "ahead": (0.1, 0.2, 0.3, 1.0),
    "credits": (1, 2, 3),
    "aging": (0.1, 0.5, 2.0),
    "lead_batches": (0.0, 1.0, 4.0, 16.0),
    "split_tokens": (0, 32, 64, 128, 256),
}
COLUMNS = (
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "tokens/s",
    "padding",
    "batch ms",
    "Jain",
    "worst slowdown",
)


@dataclass(frozen=True)
class Engine:
    """What batches cost: in all of its streams at a time, and alone if that is another matter."""

    model: CostModel
    streams: int = 1
    alone: Optional[CostModel] = None
    split_tokens: int = 0

    @classmethod
    def of(cls, tables: Mapping[str, CostTable], name: str) -> Engine:
        """By the table of that name, and the one with ", alone" behind it, if there is one."""
        table, alone = tables[name], tables.get(name + ", alone")
        return cls(
            fit(table),
            table.streams,
            None if alone is None else fit(alone),
            table.split_tokens,
        )

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.streams * self.model.speed


@dataclass(frozen=True)
class Run:
    """One line of the tables; ``variant`` is what was compared."""

    trace: str
    variant: str
    summary: Summary


def limits_for(model: CostModel, tokens: int = BATCH_TOKENS) -> BatchLimits:
    """What the server would be told of an engine with these costs."""
    return BatchLimits(BATCH_ROWS, tokens, model.padding_weight, model.call_tokens)


def setting_for(engine: Engine, limits: BatchLimits, credits: int = 2, pad_to: int = 0) -> Setting:
    """One worker with this engine."""
    return Setting(engine.model, limits, credits, engine.streams, engine.alone, pad_to=pad_to)


def compare_policies(engine: Engine, traces: Sequence[Trace]) -> Iterator[Run]:
    """Every order of service on every trace."""
    for trace in traces:
        for name, policy in POLICIES.items():
            limits = limits_for(engine.model)
            scheduler = Scheduler(
                limits, SMALL_ROWS, line=policy(limits), split_tokens=engine.split_tokens
            )
            # 1.10 pads all to the longest sequence that it is set to.
            pad_to = LONGEST if name.startswith("bert-as-service") else 0
            result = simulate(trace, scheduler, setting_for(engine, limits, pad_to=pad_to))
            yield Run(trace.name, name, summarize(result, trace.clients))


def sweep(engine: Engine, traces: Sequence[Trace], name: str) -> Iterator[Run]:
    """The scheduler with each value of one constant, the others being as they are."""
    for trace in traces:
        for value in SWEEPS[name]:
            chosen = {"tokens": BATCH_TOKENS, "credits": 2, "aging": AGING, "ahead": AHEAD}
            chosen.update(lead_batches=LEAD_BATCHES, split_tokens=engine.split_tokens)
            chosen[name] = value
            limits = limits_for(engine.model, int(chosen["tokens"]))
            scheduler = Scheduler(
                limits,
                SMALL_ROWS,
                chosen["aging"],
                chosen["lead_batches"],
                chosen["ahead"],
                split_tokens=int(chosen["split_tokens"]),
            )
            setting = setting_for(engine, limits, int(chosen["credits"]))
            result = simulate(trace, scheduler, setting)
            yield Run(trace.name, "%s %g" % (name, value), summarize(result, trace.clients))


def tables(runs: Sequence[Run]) -> List[Table]:
    """One for each trace; a line for each kind of client."""
    found: Dict[str, List[Tuple[Cell, ...]]] = {}
    for run in runs:
        one = run.summary
        shared = (
            one.tokens_per_second,
            one.padding,
            one.batch_seconds * 1e3,
            one.jain,
            one.worst_slowdown,
        )
        for label, percentiles in one.latency.items():
            cells = (run.variant, label) + tuple(value * 1e3 for value in percentiles)
            found.setdefault(run.trace, []).append(cells + shared)
    return [Table(trace, ("", "clients") + COLUMNS, rows) for trace, rows in found.items()]


def markdown(table: Table) -> str:
    """A heading and the table."""
    rows = [table.columns, ["---"] * len(table.columns)]
    rows += [[_shown(cell) for cell in row] for row in table.rows]
    lines = ["| %s |" % " | ".join(row) for row in rows]
    return "\n".join(["### " + table.title, ""] + lines)


def _shown(cell: Cell) -> str:
    if isinstance(cell, float):
        return "%.0f" % cell if abs(cell) >= 100 else "%.2g" % cell
    return str(cell)


def main(argv: Optional[List[str]] = None) -> int:
    """Simulate and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bert_serving.benchmarks.simulator")
    parser.add_argument("--costs", type=Path, default=MEASURED, help="file of cost tables")
    parser.add_argument("--table", default=DEFAULT_TABLE, help="name of a table in it")
    parser.add_argument("--traces", nargs="*", choices=sorted(TRACES), default=list(TRACES))
    parser.add_argument("--recorded", type=Path, help="a recorded trace, instead of those")
    parser.add_argument("--sweep", choices=sorted(SWEEPS), help="vary a constant of the scheduler")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    args = parser.parse_args(argv)
    try:
        known = read_tables(args.costs)
        if args.table not in known:
            raise BenchmarkError("no table %r; there are: %s" % (args.table, ", ".join(known)))
        engine = Engine.of(known, args.table)
        traces = (
            [read_trace(args.recorded)]
            if args.recorded
            else [TRACES[name](engine.speed, args.seed) for name in args.traces]
        )
        runs = list(
            sweep(engine, traces, args.sweep) if args.sweep else compare_policies(engine, traces)
        )
        if args.json:
            atomic_write(args.json, json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    except (BenchmarkError, OSError) as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    print("\n\n".join(markdown(table) for table in tables(runs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
