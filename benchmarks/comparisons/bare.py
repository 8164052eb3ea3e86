"""Against a bare ONNX Runtime session: what of the engine's speed reaches the client.

The session runs a plain graph, optimized but padded, with ONNX Runtime's own settings, as many
threads as there are cores, and batches that lie ready.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Collection, Dict, Iterator, List

import numpy as np

from bert_serving.benchmarks.checks import Measured, named
from bert_serving.benchmarks.comparisons.setting import Setting, interleaved, requests, steady
from bert_serving.benchmarks.engine import Shape, seconds_each
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.service import Subject
from bert_serving.graph_opt.defaults import resolve_options
from bert_serving.graph_opt.pipeline import build, optimize, pipeline_for
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.targets import write

__all__ = ["BareSession", "plain_graph", "run"]

#: Where the best shape is looked for; LENGTH is about the mean of the mixed lengths.
LENGTH = 20
LENGTHS = (16, 20, 32, 64, 128)
SIZES = (4, 8, 16, 32, 64, 128)
CLIENTS, ROWS = 4, 256
#: Seconds for each shape while the best is looked for, as a share of those of a round.
SCAN = 0.14


class BareSession:
    """A session of ONNX Runtime and nothing around it."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load a graph. Raises BenchmarkError if ONNX Runtime isn't installed."""
        try:
            import onnxruntime
        except ImportError as error:
            raise BenchmarkError("ONNX Runtime isn't installed: %s" % error) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self._inputs = [node.name for node in self._session.get_inputs()]

    def feeds(self, subject: Subject, length: int, rows: int, seed: int) -> Dict[str, np.ndarray]:
        """The graph's inputs, int32 [rows, length] each: random texts of equal length."""
        texts = subject.workload("fixed:%d" % length).batches(1, rows, seed)[0].texts
        encoded = subject.tokenizer.encode(texts, is_tokenized=False)
        ids, types, mask = np.stack([one.features for one in encoded], axis=1)
        arrays = {"input_ids": ids, "input_type_ids": types, "input_mask": mask}
        return {name: arrays[name] for name in self._inputs}

    def seconds(self, feeds: Dict[str, np.ndarray], seconds: float) -> float:
        """The median duration of a run, over about ``seconds``."""
        return seconds_each(lambda: self._session.run(None, feeds), seconds)


def plain_graph(model: Path, path: Path) -> None:
    """Write the model's graph as ONNX, for padded batches."""
    source = read_model(model)
    passes = pipeline_for("fp32", "onnx", "cpu")
    graph, _ = optimize(build(source, resolve_options(source)), passes)
    write(graph, path, "onnx")


def run(setting: Setting, wanted: Collection[str]) -> Iterator[Measured]:
    """Both checks, as far as they are wanted. Raises BenchmarkError."""
    model = setting.bert_base()
    path = setting.place("plain") / "model.onnx"
    plain_graph(model, path)
    session = BareSession(path, setting.threads)
    with setting.server("-model_dir", str(model)) as subject:
        if "efficiency" in wanted:
            yield _efficiency(setting, subject, session)
        if "latency" in wanted:
            yield _latency(setting, subject, session)


def _efficiency(setting: Setting, subject: Subject, session: BareSession) -> Measured:
    shapes = scan(setting, subject, session)
    best = max(shapes, key=lambda shape: shape.tokens_per_second)
    feeds = session.feeds(subject, best.length, best.rows, setting.seed)
    batches = requests(subject, "lognormal:%d" % LENGTH, CLIENTS, ROWS, setting.seed)
    service = steady(subject.target, batches, setting)
    tokens = best.rows * best.length
    ours, theirs = interleaved(
        setting.rounds,
        lambda: service().tokens_per_second,
        lambda: tokens / session.seconds(feeds, setting.seconds),
    )
    all_of = [batch for one in batches for batch in one]
    details = {
        "figure": "tokens/s",
        "clients": CLIENTS,
        "mean_tokens": sum(batch.tokens for batch in all_of) / (len(all_of) * ROWS),
        "best": asdict(best),
        "shapes": [asdict(shape) for shape in shapes],
    }
    return Measured(named("efficiency"), ours, theirs, details)


def scan(setting: Setting, subject: Subject, session: BareSession) -> List[Shape]:
    """The session's speed for each shape."""
    lengths, sizes = (LENGTHS[:2], SIZES[:2]) if setting.quick else (LENGTHS, SIZES)
    shapes = []
    for length in lengths:
        for rows in sizes:
            feeds = session.feeds(subject, length, rows, setting.seed)
            each = session.seconds(feeds, setting.seconds * SCAN)
            shapes.append(Shape(length, rows, rows * length / each))
    return shapes


def _latency(setting: Setting, subject: Subject, session: BareSession) -> Measured:
    feeds = session.feeds(subject, LENGTH, 1, setting.seed)
    batches = requests(subject, "fixed:%d" % LENGTH, 1, 1, setting.seed, count=20)
    service = steady(subject.target, batches, setting)
    ours, theirs = interleaved(
        setting.rounds,
        lambda: statistics.median(service().latencies),
        lambda: session.seconds(feeds, setting.seconds),
    )
    details = {"figure": "seconds", "tokens": LENGTH}
    return Measured(named("latency"), ours, theirs, details)
