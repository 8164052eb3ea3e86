"""The command bert-serving-benchmark.

Exit status: 0 if everything was measured, 1 if a part of it failed (the results say which), 2 if it
can't run as asked, 130 if the user interrupted it.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import datetime, timezone
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Optional

from bert_serving.benchmarks.arguments import get_benchmark_parser
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.progress import Progress, bars_wanted

__all__ = ["main"]

MODES = {
    "load": "bert_serving.benchmarks.stress",
    "engine_only": "bert_serving.benchmarks.engine",
    "memory": "bert_serving.benchmarks.memory",
    "experiments": "bert_serving.benchmarks.experiments",
}


def main(argv: Optional[List[str]] = None) -> int:
    """Run bert-serving-benchmark; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    args = get_benchmark_parser().parse_args(words)
    try:
        return _run(args, words)
    except BenchmarkError as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace, words: List[str]) -> int:
    mode = mode_of(args)
    progress = Progress(bars_wanted() and not args.no_progress)
    plots = args.output is not None and not args.no_plots
    # Now, not after hours of measuring.
    check_installed(plots, progress.enabled)
    environment = describe(words, args.seed)
    # Else the tokenizer warns of each process that is started after texts were made: it takes
    # them for forks that go on tokenizing.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    outcome = import_module(MODES[mode]).run(args, progress)

    from bert_serving.benchmarks import results

    environment.update(_served(outcome.data))
    print(results.markdown(outcome, environment))
    if args.output is not None:
        for path in results.write(outcome, environment, Path(args.output), plots):
            print("wrote %s" % path, file=sys.stderr)
    return 1 if outcome.failed else 0


def mode_of(args: argparse.Namespace) -> str:
    """The key of MODES that the flags choose. Raises BenchmarkError."""
    if args.preset and (args.engine_only or args.memory):
        raise BenchmarkError("-preset %s is a load: leave out the other mode" % args.preset)
    if args.load or args.preset:
        return "load"
    return "engine_only" if args.engine_only else "memory" if args.memory else "experiments"


def check_installed(plots: bool, bars: bool) -> None:
    """Raise BenchmarkError if a package of the extra "benchmark" is needed and missing."""
    needed = [("matplotlib", plots, "-no_plots"), ("tqdm", bars, "-no_progress")]
    for name, wanted, flag in needed:
        if wanted and find_spec(name) is None:
            raise BenchmarkError(
                "%s isn't installed; pip install 'bert-serving[benchmark]', or do without by %s"
                % (name, flag)
            )


def describe(words: List[str], seed: int) -> Dict[str, Any]:
    """What the figures depend on; taken before anything runs, for the load average's sake."""
    from bert_serving.benchmarks.machine import describe_machine

    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return dict(describe_machine(), flags=words, seed=seed, began=began)


def _served(data: Dict[str, Any]) -> Dict[str, Any]:
    """What was measured; a 1.10 server doesn't name its engine, but knows one only."""
    config = data.get("server", data)
    served = {"engine": config.get("engine") or "tensorflow (1.10)"}
    for name in ("precision", "model", "num_worker"):
        if config.get(name) is not None:
            served[name] = config[name]
    return served


if __name__ == "__main__":
    sys.exit(main())
