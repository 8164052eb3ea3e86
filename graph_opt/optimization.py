"""What the command does, for use from code: read, optimize, write, check; the result is data.

>>> from pathlib import Path
>>> from bert_serving.graph_opt.optimization import Order, optimize_model
>>> outcome = optimize_model(Order(Path("model"), Path("model.onnx")))  # doctest: +SKIP
>>> outcome.after.nbytes, outcome.check.passed  # doctest: +SKIP
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from bert_serving.graph_opt import check as checking
from bert_serving.graph_opt.check import TOLERANCES, Check
from bert_serving.graph_opt.check_feeds import random_batches
from bert_serving.graph_opt.errors import GraphError, GraphOptError, OptionError
from bert_serving.graph_opt.facts import GraphFacts, facts_of
from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.order import Order, read_order
from bert_serving.graph_opt.passes.result import Pass
from bert_serving.graph_opt.pipeline import PassReport, optimize, pipeline_for
from bert_serving.graph_opt.placing import check_output, place
from bert_serving.graph_opt.plot import Drawing, check_plot, outline, write_plot
from bert_serving.graph_opt.pooling import GraphOptions

__all__ = ["Order", "Outcome", "WrittenFile", "optimize_model"]

#: Called with the steps done, their number, and what is done now.
Progress = Callable[[int, int, str], None]
Pipeline = Sequence[Tuple[str, Pass]]


@dataclass(frozen=True)
class WrittenFile:
    path: Path
    nbytes: int


@dataclass(frozen=True)
class Outcome:
    """What was made, and from what. ``options`` is None for a TensorFlow graph; ``check`` is None
    if none was asked for. ``seconds`` are those of read, optimize, write, check, plot.
    """

    order: Order
    kind: str  # "google", "huggingface" or "tensorflow"
    options: Optional[GraphOptions]
    before: GraphFacts
    after: GraphFacts
    passes: Tuple[PassReport, ...]
    files: Tuple[WrittenFile, ...]
    check: Optional[Check]
    seconds: Mapping[str, float] = field(default_factory=dict)


def optimize_model(order: Order, progress: Optional[Progress] = None) -> Outcome:
    """Do all of it. Files stay also when the check fails: see ``Outcome.check.passed``.

    Raises:
        OptionError: options that contradict each other or the model, or a package that is missing.
        ModelError: the model's files are missing or damaged.
        GraphError: a graph that can't be optimized or written.
        GraphOptError: a file can't be written.
    """
    pipeline = pipeline_for(order.precision, order.target, order.device)
    _check_order(order)
    steps = _Steps(len(pipeline) + 3, progress)
    with steps.step("read"):
        source = read_order(order)
    with steps.step("optimize"):
        optimized, report = optimize(
            source.graph, pipeline, lambda done, total, name: steps.show(1 + done, name)
        )
    before, after = facts_of(source.graph), facts_of(optimized)
    with steps.step("write", 1 + len(pipeline)):
        files = place(optimized, order.output, order.target)
        written = tuple(WrittenFile(path, path.stat().st_size) for path in files)
    if order.plot is not None:
        with steps.step("plot", 1 + len(pipeline)):
            drawing = Drawing(_title(order), outline(source.graph), outline(optimized))
            write_plot(drawing, order.plot)
    check = None
    if order.check:
        with steps.step("check", 2 + len(pipeline)):
            if checking.engine_of(order.target) is not None:
                # Its memory is needed for the original's weights.
                del optimized
                run = partial(
                    checking.run_engine, order.output, order.target, order.device, after.outputs
                )
            else:
                run = partial(_run_here, optimized)
            check = _check(order, source.graph, pipeline, run)
    return Outcome(
        order=order,
        kind=source.kind,
        options=source.options,
        before=before,
        after=after,
        passes=report.passes,
        files=written,
        check=check,
        seconds=steps.seconds,
    )


class _Steps:
    """Tells of progress and keeps the time."""

    def __init__(self, total: int, progress: Optional[Progress]) -> None:
        self.seconds: Dict[str, float] = {}
        self._total, self._progress = total, progress

    def show(self, done: int, name: str) -> None:
        if self._progress is not None:
            self._progress(done, self._total, name)

    @contextmanager
    def step(self, name: str, done: int = 0) -> Iterator[None]:
        self.show(done, name)
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def _check_order(order: Order) -> None:
    """Whatever can be found out before the work."""
    needed = {"onnx": "onnx"}.get(order.target)
    if needed is not None and find_spec(needed) is None:
        raise OptionError(
            "the target %s needs the package %s (Python 3.8 or later): pip install %s, or choose "
            "another target" % (order.target, needed, needed)
        )
    check_output(order.output, order.target, order.model)
    if order.plot is not None:
        check_plot(order.plot)


def _check(
    order: Order,
    graph: Graph,
    pipeline: Pipeline,
    run: Callable[[Sequence[checking.Feeds]], Tuple[checking.Results, str]],
) -> Check:
    tolerance = TOLERANCES[order.precision] if order.tolerance is None else order.tolerance
    try:
        batches = random_batches(graph)
        expected, reference = checking.reference_results(
            graph, partial(_simplified, graph, pipeline), batches
        )
    except (GraphError, OptionError) as error:
        return Check(tolerance, skipped=str(error))
    try:
        actual, engine = run(batches)
        outputs = checking.compare(graph.outputs, expected, actual, order.precision, tolerance)
    except GraphOptError as error:
        return Check(tolerance, reference, failed=str(error))
    return Check(tolerance, reference, engine, outputs)


def _run_here(graph: Graph, batches: Sequence[checking.Feeds]) -> Tuple[checking.Results, str]:
    return (
        checking.run_interpreter(graph, batches),
        checking.INTERPRETER + ", since the files' own engine isn't installed",
    )


def _simplified(graph: Graph, pipeline: Pipeline) -> Graph:
    """The graph after the passes that only remove: those up to the first pruning."""
    names = [name for name, _ in pipeline]
    result, _ = optimize(graph, pipeline[: names.index("prune") + 1])
    return result


def _title(order: Order) -> str:
    return "%s -> %s, %s, %s" % (order.model.name, order.target, order.precision, order.device)
