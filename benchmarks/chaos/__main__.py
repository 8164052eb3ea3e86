"""``python -m bert_serving.benchmarks.chaos``: exit status 0 if every promise was kept."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import List, Optional

from bert_serving.benchmarks.chaos.faults import KINDS, plan
from bert_serving.benchmarks.chaos.run import Order, run
from bert_serving.benchmarks.errors import BenchmarkError


def main(argv: Optional[List[str]] = None) -> int:
    """Run it and print the report as JSON."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument(
        "--wait", type=float, default=3.0, help="mean seconds between two (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the plan and the texts")
    parser.add_argument(
        "--clients", type=int, default=3, help="of each kind of three (default: %(default)s)"
    )
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument("--log", type=Path, default=Path("chaos.log"), help="the service's log")
    args = parser.parse_args(argv)
    random = Random(args.seed)  # noqa: S311 - no secrets
    faults = plan(random, args.faults, args.wait, args.kinds)
    try:
        report = run(
            Order(faults, args.seed, args.clients, args.log),
            lambda line: print(line, file=sys.stderr, flush=True),
        )
    except BenchmarkError as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    print(json.dumps(asdict(report), indent=1))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
