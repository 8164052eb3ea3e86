"""The command bert-serving-optimize.

Exit status: 0 if all is well, 1 if the optimized graph computes something else than the original,
2 if it can't be made as asked, 130 if the user interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from contextlib import contextmanager
from typing import Iterator, List, Optional

from bert_serving.graph_opt.arguments import get_optimize_parser
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.optimization import Order, Outcome, Progress, optimize_model

__all__ = ["main", "order_of"]


def main(argv: Optional[List[str]] = None) -> int:
    """Run bert-serving-optimize; returns the exit status."""
    args = get_optimize_parser().parse_args(argv)
    from rich.console import Console

    from bert_serving.graph_opt.report import as_json, print_report

    # So that an end by SIGTERM is as orderly as one by Ctrl-C: nothing half-written stays.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _progress_bar() as progress:
            outcome = optimize_model(order_of(args), progress)
        if args.json:
            print(json.dumps(as_json(outcome), indent=1))
        else:
            print_report(outcome, Console(), args.verbose)
    except GraphOptError as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return _verdict(outcome)


def order_of(args: argparse.Namespace) -> Order:
    """What the flags ask for."""
    layers = args.pooling_layer
    return Order(
        model=args.model,
        output=args.output,
        target=args.target,
        precision=args.precision,
        device=args.device,
        pooling_strategy=args.pooling_strategy,
        pooling_layers=None if layers is None else tuple(layers),
        normalize=args.normalize,
        position_embeddings=False if args.no_position_embeddings else None,
        num_labels=args.num_labels,
        ckpt_name=args.ckpt_name,
        config_name=args.config_name,
        tuned_model_dir=args.tuned_model_dir,
        inputs=args.inputs,
        outputs=args.outputs,
        checkpoint=args.checkpoint,
        check=not args.no_check,
        tolerance=args.tolerance,
        plot=args.plot,
    )


def _verdict(outcome: Outcome) -> int:
    if outcome.check is None or outcome.check.passed:
        return 0
    print(
        "error: %s doesn't compute what the original computes; the files were written all the same"
        % outcome.order.output,
        file=sys.stderr,
    )
    return 1


@contextmanager
def _progress_bar() -> Iterator[Optional[Progress]]:
    """A bar on standard error that is gone at the end; none where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("start", total=None)

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        yield show


if __name__ == "__main__":
    sys.exit(main())
