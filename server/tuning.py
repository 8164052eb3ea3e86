"""Fitting a graph to the machine that it is served on: its form, and the size of batches.

It is done once for a graph, an engine's release and a machine; what is found is kept beside the
graph.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.files import atomic_write
from bert_serving.server import engines
from bert_serving.server.calibration import (
    CLOCKS,
    CPU_BUDGETS,
    GPU_BUDGETS,
    ROW_LENGTH,
    Shape,
    choose,
    least_split,
    measure,
    shapes,
    splits,
)
from bert_serving.server.engines import Engine, Features
from bert_serving.server.fingerprints import processor, release
from bert_serving.server.spec import EngineSpec

__all__ = ["Tuning", "is_worth_it", "lookup", "tune"]

#: Changed with what is measured, and how.
VERSION = 4
#: For how long small batches are measured.
SPLIT_SECONDS = 0.5
#: Graphs with less than this, in bytes, are those of tests, and fast whatever is done.
LEAST_BYTES = 16 << 20


@dataclass(frozen=True)
class Tuning:
    """``graph``: path of the form of the graph to load. ``streams``: batches to compute at a time,
    unless they had fewer than ``split_tokens``. ``seconds``: (streams, tokens of each, seconds)
    measured.
    """

    graph: Optional[str]
    token_budget: int
    streams: int = 1
    split_tokens: int = 0
    seconds: Tuple[Tuple[int, int, float], ...] = ()

    @classmethod
    def from_json(cls, found: Dict[str, Any]) -> Tuning:
        """Raises ValueError, KeyError or TypeError if it is none."""
        seconds = tuple((int(s), int(t), float(each)) for s, t, each in found["seconds"])
        budget, streams = int(found["token_budget"]), int(found["streams"])
        return cls(str(found["graph"]), budget, streams, int(found["split_tokens"]), seconds)


def is_worth_it(graph: Path) -> bool:
    """Whether a graph is large enough for a measurement to tell anything."""
    return sum(path.stat().st_size for path in graph.parent.glob(graph.name + "*")) >= LEAST_BYTES


def lookup(spec: EngineSpec, device: int, max_length: int) -> Optional[Tuning]:
    """What was found before for a graph on this machine; None if nothing was, or it is gone."""
    try:
        text = _path(spec, device, max_length).read_text(encoding="utf-8")
        tuning = Tuning.from_json(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: either way it must be made
    is_sane = tuning.token_budget > 0 and tuning.streams > 0
    return tuning if is_sane and Path(str(tuning.graph)).is_file() else None


def tune(spec: EngineSpec, device: int, max_length: int) -> Tuning:
    """Fit a graph to this machine, and keep what was found beside it.

    Raises EngineError if the engine can't load or run it, OSError if nothing can be written.
    """
    assert spec.graph is not None
    engine = engines.create(spec.name)
    graph = str(engine.fitted(spec, device))
    fitted = replace(spec, graph=graph)
    most = engine.most_streams(fitted, device)
    engine.load(replace(fitted, streams=most), device)
    length = min(ROW_LENGTH, max_length)
    budgets, clocks = (CPU_BUDGETS, CLOCKS) if device < 0 else (GPU_BUDGETS, CLOCKS[:1])
    try:
        with ThreadPoolExecutor(most) as pool:
            run = partial(_run, engine, pool, length)
            samples = measure(run, shapes(budgets, most), clocks)
            chosen, split_tokens = choose(samples), 0
            if chosen.streams > 1:
                small = measure(run, splits(most), clocks, SPLIT_SECONDS)
                split_tokens = least_split(small, chosen)
                samples = {**small, **samples}
    finally:
        engine.close()
    seconds = tuple((*shape, min(several)[0]) for shape, several in samples.items())
    tuning = Tuning(graph, chosen.tokens, chosen.streams, split_tokens, seconds)
    atomic_write(_path(spec, device, max_length), json.dumps(asdict(tuning), indent=1))
    return tuning


def _run(engine: Engine, pool: ThreadPoolExecutor, length: int, shape: Shape) -> None:
    rows = max(1, shape.tokens // length)
    lengths = np.full(rows, length, np.int32)
    features = Features(np.ones((3, rows * length), np.int32), lengths)
    if shape.streams == 1:
        engine.encode(features)
        return
    batches = [pool.submit(engine.encode, features, False) for _ in range(shape.streams)]
    for batch in batches:
        batch.result()


def _path(spec: EngineSpec, device: int, max_length: int) -> Path:
    assert spec.graph is not None
    graph = Path(spec.graph)
    packages = engines.ENGINES[spec.name].packages
    identity: Dict[str, Any] = {
        "version": VERSION,
        "engine": [release(package) for package in packages],
        "device": device,
        "processor": processor(),
        "threads": spec.threads,
        "xla": spec.xla,
        "length": min(ROW_LENGTH, max_length),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8")).hexdigest()[:16]
    return graph.parent / ("tuning-%s.json" % key)
