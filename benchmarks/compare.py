"""The release's figures, each with its bound: ``python -m bert_serving.benchmarks.compare``.

Ratios have both sides on this machine, in turn. Other systems are installed into virtual
environments of their own. Exit status: 0 if everything was measured, whether or not the bounds are
met, 1 if something couldn't be, 2 if it can't run as asked.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Collection, Dict, Iterator, List, Optional, Sequence, Tuple

from bert_serving.benchmarks.bystanders import busy_share
from bert_serving.benchmarks.checks import CHECKS, Measured, named, summarize
from bert_serving.benchmarks.comparisons import bare, contemporaries, own, predecessor
from bert_serving.benchmarks.comparisons.setting import Setting
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.flags import number
from bert_serving.benchmarks.machine import describe_machine
from bert_serving.benchmarks.results import markdown, write
from bert_serving.benchmarks.rivals.environments import RIVALS
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.files import user_cache_dir
from bert_serving.graph_opt.flags import positive
from bert_serving.server.errors import ServerError

__all__ = ["GROUPS", "main", "measure"]

#: Stands in the results.
QUICK = "measured with --quick, on a tiny model: no bound is meant for these figures"

Run = Callable[[Setting, Collection[str]], Iterator[Measured]]


@dataclass(frozen=True)
class Group:
    """Checks that share what has to be started for them."""

    names: Tuple[str, ...]
    run: Run


GROUPS = (
    Group(("efficiency", "latency"), bare.run),
    Group(("batch", "clients", "client"), predecessor.run),
    Group(("sentence-transformers",), contemporaries.run_sentence_transformers),
    Group(("infinity",), contemporaries.run_infinity),
    Group(("int8",), own.run_int8),
    Group(("echo-requests", "echo-rows"), own.run_echo),
    Group(("priority",), own.run_priority),
    Group(("memory",), own.run_memory),
)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, print and write; returns the exit status."""
    args = _parser().parse_args(argv)
    args.rounds = args.rounds or (1 if args.quick else 5)
    args.seconds = args.seconds or (0.2 if args.quick else 5.0)
    environment = dict(
        describe_machine(),
        began=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        rounds=args.rounds,
        seconds=args.seconds,
        seed=args.seed,
        quick=args.quick,
    )
    # Else the tokenizer warns of each process that is started after texts were made.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        with tempfile.TemporaryDirectory(prefix="bert-compare-") as scratch:
            found = measure(setting_of(args, Path(scratch)), args.only)
        outcome = summarize(found)
        if args.quick:
            outcome = replace(outcome, notes=[*outcome.notes, QUICK])
        print(markdown(outcome, environment))
        if args.output is not None:
            for path in write(outcome, environment, Path(args.output), plots=False):
                print("wrote %s" % path, file=sys.stderr)
    except BenchmarkError as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 1 if outcome.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bert_serving.benchmarks.compare", description=__doc__)
    names = [check.name for check in CHECKS]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="write results.json and results.md")
    parser.add_argument(
        "--rounds", type=positive, metavar="N", help="turns of each side (5; quick: 1)"
    )
    parser.add_argument(
        "--seconds", type=number, metavar="S", help="of each side's turn (5; quick: 0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of models and texts (0)")
    parser.add_argument(
        "--model-dir",
        default="",
        metavar="DIR",
        help="a model in place of BERT-base with random weights; bert-as-service needs it in "
        "Google's layout",
    )
    parser.add_argument(
        "--directory",
        default=str(user_cache_dir() / "compare"),
        metavar="DIR",
        help="where to keep models and the environments of other systems (%(default)s)",
    )
    for name in RIVALS:
        parser.add_argument(
            "--" + name,
            dest="rival_" + name,
            metavar="VENV",
            help="a virtual environment with %s in it, in place of one made for it" % name,
        )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a tiny model, and no other systems but those named: whether it works, not how fast",
    )
    return parser


def setting_of(args: argparse.Namespace, scratch: Path) -> Setting:
    """Raises BenchmarkError for an environment that isn't there."""
    environments: Dict[str, Path] = {}
    for name in RIVALS:
        place = getattr(args, "rival_" + name)
        if place is None:
            continue
        if not (Path(place) / "bin" / "python").exists():
            raise BenchmarkError("--%s %s is no virtual environment" % (name, place))
        environments[name] = Path(place).absolute()
    return Setting(
        directory=Path(args.directory),
        scratch=scratch,
        rounds=args.rounds,
        seconds=args.seconds,
        seed=args.seed,
        timeout=60.0 if args.quick else 300.0,
        quick=args.quick,
        model=args.model_dir,
        environments=environments,
    )


def measure(
    setting: Setting, wanted: Collection[str], groups: Sequence[Group] = GROUPS
) -> List[Measured]:
    """The checks of these names; what couldn't be measured tells why."""
    found: Dict[str, Measured] = {}
    for group in groups:
        names = [name for name in group.names if name in wanted]
        if not names:
            continue
        busy = round(busy_share(), 2)
        began = time.monotonic()
        print("measuring %s" % ", ".join(names), file=sys.stderr)
        try:
            for one in group.run(setting, names):
                seconds = round(time.monotonic() - began, 1)
                details = dict(one.details, others_busy=busy, took_seconds=seconds)
                found[one.check.name] = replace(one, details=details)
                print("%s: %s" % (one.check.name, one.value), file=sys.stderr)
        except (BenchmarkError, ServerError, GraphOptError) as error:
            for name in names:
                found.setdefault(name, Measured(named(name), problem=str(error)))
    return list(found.values())


if __name__ == "__main__":
    # Or a signal would leave other systems' servers behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
