"""What a lower precision costs and saves: ``python -m bert_serving.benchmarks.precision``.

The same 1,000 varied texts go through the graphs that the server makes for a CPU, one for each
precision, in ONNX Runtime. The vectors are compared with float32's; every pooling strategy is
tried for numbers that aren't finite; the rounds of timing alternate between the precisions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from bert_serving.benchmarks.machine import describe_machine
from bert_serving.benchmarks.sentences import SEED, varied_sentences
from bert_serving.graph_opt.defaults import resolve_options
from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.pipeline import PRECISIONS, build, optimize, pipeline_for
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES, GraphOptions
from bert_serving.graph_opt.sources import ModelSource, read_model
from bert_serving.graph_opt.targets import write
from bert_serving.graph_opt.variables import has_pooler
from bert_serving.server import models
from bert_serving.server.engines.features import Features
from bert_serving.server.engines.onnxruntime import OnnxRuntimeEngine
from bert_serving.server.spec import EngineSpec
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings, read_vocabulary

__all__ = ["Measured", "main", "measure"]

BATCH = 32
#: Texts on which every strategy is tried.
FEW = 64


@dataclass(frozen=True)
class Measured:
    """One precision, compared with float32. ``speed`` is float32's seconds divided by its own."""

    precision: str
    worst_cosine: float
    mean_cosine: float
    largest_difference: float
    finite: bool
    encoder_bytes: float  # of the encoder's weights, relative to float32
    file_bytes: float  # of everything, relative to float32
    speed: float


def measure(directory: Path, texts: Sequence[str], rounds: int, scratch: Path) -> List[Measured]:
    """Compare the precisions of a model directory."""
    source = read_model(directory)
    batches = encode(source, texts)
    options = resolve_options(source)
    runs = {name: _Run(source, options, name, scratch) for name in PRECISIONS}
    vectors = {name: run.vectors(batches) for name, run in runs.items()}
    seconds: Dict[str, List[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run.vectors(batches)
            seconds[name].append(time.perf_counter() - began)
    few = encode(source, texts[:FEW])
    return [
        _compared(
            name,
            runs,
            vectors,
            statistics.median(base / own for base, own in zip(seconds["fp32"], seconds[name]))
            if rounds
            else float("nan"),
            all_finite(source, options, name, few, scratch),
        )
        for name in runs
    ]


def encode(source: ModelSource, texts: Sequence[str]) -> List[Features]:
    """The texts in batches of like length, shortest first."""
    limit = source.defaults.max_seq_len or source.config.max_position_embeddings
    own = source.tokenizer
    settings = TokenizerSettings(
        max_length=limit,
        lowercase=own.lowercase is not False,
        strip_accents=own.strip_accents,
        split_chinese=own.tokenize_chinese_chars,
    )
    tokenizer = Tokenizer(read_vocabulary(source.vocab_file), settings)
    rows = [encoded.features for encoded in tokenizer.encode(list(texts), False)]
    rows.sort(key=lambda row: int(row.shape[1]))
    return [
        Features(
            np.concatenate(rows[start : start + BATCH], axis=1),
            np.array([row.shape[1] for row in rows[start : start + BATCH]], np.int32),
        )
        for start in range(0, len(rows), BATCH)
    ]


class _Run:
    """A precision's graph, written and loaded."""

    def __init__(
        self, source: ModelSource, options: GraphOptions, precision: str, scratch: Path
    ) -> None:
        graph, _ = optimize(build(source, options), pipeline_for(precision))
        self.encoder_bytes = encoder_bytes(graph)
        path = scratch / ("%s-%s.onnx" % (precision, options.pooling_strategy))
        self.file_bytes = sum(file.stat().st_size for file in write(graph, path, "onnx"))
        self._engine = OnnxRuntimeEngine()
        threads = len(os.sched_getaffinity(0))
        self._engine.load(EngineSpec("onnxruntime", str(path), 0, False, threads, 0.5), -1)

    def vectors(self, batches: Sequence[Features]) -> np.ndarray:
        """Of every text, or every token, one after another: [n, dimension]."""
        results = [self._engine.encode(features) for features in batches]
        return np.concatenate([result.reshape(-1, result.shape[-1]) for result in results])


def encoder_bytes(graph: Graph) -> int:
    """Bytes of the constants of the encoder's layers."""
    return sum(
        int(np.asarray(node.attrs["value"]).nbytes)
        for node in graph
        if node.op == "Const" and node.name.startswith("bert/encoder/layer_")
    )


def all_finite(
    source: ModelSource,
    options: GraphOptions,
    precision: str,
    batches: Sequence[Features],
    scratch: Path,
) -> bool:
    """Whether every strategy that the model can be pooled by gives finite numbers."""
    possible = [name for name in POOLING_STRATEGIES if name not in HEADS]
    if not has_pooler(source.variables):
        possible.remove("CLS_POOLED")
    finite = True
    for strategy in possible:
        asked = replace(options, pooling_strategy=strategy, normalize=False)
        run = _Run(source, asked, precision, scratch)
        finite = finite and bool(np.isfinite(run.vectors(batches)).all())
    return finite


def _compared(
    name: str, runs: Dict[str, _Run], vectors: Dict[str, np.ndarray], speed: float, finite: bool
) -> Measured:
    one, other = vectors["fp32"].astype(np.float64), vectors[name].astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = (one * other).sum(axis=1) / lengths
    return Measured(
        precision=name,
        worst_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        largest_difference=float(np.abs(one - other).max()),
        finite=finite and bool(np.isfinite(other).all()),
        encoder_bytes=runs[name].encoder_bytes / runs["fp32"].encoder_bytes,
        file_bytes=runs[name].file_bytes / runs["fp32"].file_bytes,
        speed=speed,
    )


def main(argv: Optional[List[str]] = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bert_serving.benchmarks.precision", description=__doc__)
    parser.add_argument("-model_dir", help="default: the default model")
    parser.add_argument("-texts", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("-rounds", type=int, default=5, help="of timing (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="directory for precision.json")
    args = parser.parse_args(argv)
    directory, name = models.resolve(args.model_dir, lambda remark: None)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(directory, varied_sentences(args.texts), args.rounds, Path(scratch))
    facts: Dict[str, Any] = dict(describe_machine(), model=name, texts=args.texts, seed=SEED)
    print(json.dumps(facts, indent=1))
    print(table(found))
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        result = {"machine": facts, "precisions": [asdict(one) for one in found]}
        (args.output / "precision.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


def table(found: Sequence[Measured]) -> str:
    """The figures as Markdown."""
    lines = [
        "",
        "| precision | worst cosine | mean cosine | largest difference | finite | encoder's weights"
        " | whole file | speed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        lines.append(
            "| %s | %.6f | %.6f | %.1e | %s | %.3f | %.3f | %.2f |"
            % (
                one.precision,
                one.worst_cosine,
                one.mean_cosine,
                one.largest_difference,
                "yes" if one.finite else "no",
                one.encoder_bytes,
                one.file_bytes,
                one.speed,
            )
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
