"""Does an optimized graph compute what the original computes? Both run on the same random input.

The original runs in the numpy interpreter, as it stands: with its variables and its dropout (at
rate 0). The optimized one runs from its files, in the engine that they are for, in a process of its
own: TensorFlow's messages and memory stay there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.check_feeds import Feeds
from bert_serving.graph_opt.errors import GraphError, GraphOptError
from bert_serving.graph_opt.graph import Graph, Variable
from bert_serving.graph_opt.interpreter import inference_feeds, run

__all__ = [
    "INTERPRETER",
    "TOLERANCES",
    "Check",
    "Feeds",
    "OutputCheck",
    "Results",
    "compare",
    "engine_of",
    "reference_results",
    "run_engine",
    "run_interpreter",
]

#: Largest deviation accepted, see :class:`OutputCheck`. That of int8 is what trained models lose
#: (all-MiniLM-L6-v2 has rows of cosine 0.97), not what random weights do (0.999).
TOLERANCES: Mapping[str, float] = {"fp32": 1e-4, "fp16": 1e-4, "bf16": 1e-3, "int8": 5e-2}

_ENGINES = {"onnx": "onnxruntime", "pb": "tensorflow", "savedmodel": "tensorflow"}
INTERPRETER = "the numpy interpreter"

Results = List[List[np.ndarray]]  # for each batch the outputs, in the order of graph.outputs


@dataclass(frozen=True)
class OutputCheck:
    """How far one output is from the original's, over all batches.

    ``deviation`` is what counts: with fp32 the largest difference relative to the largest component
    of the original's output, otherwise 1 minus the smallest cosine of a row (a row runs along the
    last axis). A row of one component has no angle; there the difference d counts, as d**2 / 2,
    which is what a small angle d makes of 1 - cosine. Whole numbers must be equal.
    """

    name: str
    rows: int
    difference: float
    scale: float
    cosine: float
    finite: bool
    deviation: float
    passed: bool


@dataclass(frozen=True)
class Check:
    """The verdict. ``reference`` and ``engine`` say what ran.

    ``skipped`` says why there is no verdict, ``failed`` why the result can't be run or compared.
    """

    tolerance: float
    reference: str = ""
    engine: str = ""
    outputs: Tuple[OutputCheck, ...] = ()
    skipped: Optional[str] = None
    failed: Optional[str] = None

    @property
    def passed(self) -> bool:
        """Whether nothing is known to be wrong."""
        return self.failed is None and all(output.passed for output in self.outputs)


def reference_results(
    graph: Graph, simplify: Callable[[], Graph], batches: Sequence[Feeds]
) -> Tuple[Results, str]:
    """The original's outputs, and what they were computed with.

    A graph with operations that the interpreter doesn't have, e.g. conditionals on a learning
    phase, is first simplified: reduced to what inference needs.

    Raises:
        GraphError: the interpreter can run neither, or not on this input.
    """
    overrides = inference_feeds(graph)
    try:
        fed = [dict(feeds, **overrides) for feeds in batches]
        return run_interpreter(graph, fed), "the original in " + INTERPRETER
    except GraphError:
        results = run_interpreter(simplify(), batches)
    return results, "the original, reduced to what inference needs, in " + INTERPRETER


def run_interpreter(graph: Graph, batches: Sequence[Feeds]) -> Results:
    """Outputs of each batch; a variable is loaded once for all of them.

    Raises:
        GraphError: as :func:`bert_serving.graph_opt.interpreter.run`.
    """
    loaded = graph.replaced(
        variables={name: _remembering(variable) for name, variable in graph.variables.items()}
    )
    results = []
    for feeds in batches:
        values = run(loaded, feeds)
        results.append([values[name] for name in graph.outputs])
    return results


def engine_of(target: str) -> Optional[str]:
    """The package that runs a target's files, if it is installed."""
    return _ENGINES[target] if find_spec(_ENGINES[target]) is not None else None


def run_engine(
    path: Path, target: str, device: str, outputs: Sequence[str], batches: Sequence[Feeds]
) -> Tuple[Results, str]:
    """Outputs of the files at ``path``, and the engine that computed them, with its version.

    Raises:
        GraphOptError: the engine can't load or run them; its own words are in the message.
    """
    inputs = list(batches[0])
    with tempfile.TemporaryDirectory(prefix="graph-check-") as directory:
        for number, feeds in enumerate(batches):
            # By number: a name may have slashes in it.
            arrays: Dict[str, Any] = {
                "input_%d" % index: feeds[name] for index, name in enumerate(inputs)
            }
            np.savez(os.path.join(directory, "feeds-%d.npz" % number), **arrays)
        order = {
            "path": str(path.resolve()),
            "target": target,
            "device": device,
            "inputs": inputs,
            "outputs": list(outputs),
            "batches": len(batches),
            "directory": directory,
        }
        answer = _call(order)
        results = []
        for number in range(len(batches)):
            with np.load(os.path.join(directory, "results-%d.npz" % number)) as data:
                results.append([data["output_%d" % index] for index in range(len(outputs))])
    return results, str(answer["engine"])


def compare(
    names: Sequence[str], expected: Results, actual: Results, precision: str, tolerance: float
) -> Tuple[OutputCheck, ...]:
    """Judge every output.

    Raises:
        GraphOptError: an output has another shape.
    """
    checks = []
    for index, name in enumerate(names):
        pairs = [(one[index], other[index]) for one, other in zip(expected, actual)]
        for batch, (one, other) in enumerate(pairs):
            if one.shape != other.shape:
                raise GraphOptError(
                    "the optimized graph gives %r of shape %s where the original gives %s "
                    "(random batch %d)" % (name, other.shape, one.shape, batch)
                )
        checks.append(_judge(name, pairs, precision, tolerance))
    return tuple(checks)


def _judge(
    name: str, pairs: Sequence[Tuple[np.ndarray, np.ndarray]], precision: str, tolerance: float
) -> OutputCheck:
    exact = all(one.dtype.kind != "f" for one, _ in pairs)
    width = pairs[0][0].shape[-1] if pairs[0][0].ndim else 1
    one, other = [
        np.concatenate([np.asarray(pair[side], np.float64).reshape(-1, width) for pair in pairs])
        for side in (0, 1)
    ]
    finite = bool(np.isfinite(other).all())
    scale = float(np.abs(one).max()) if one.size else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        difference = float(np.abs(one - other).max()) if one.size else 0.0
        cosine = _smallest_cosine(one, other)
    relative = difference / scale if scale else difference
    if exact:
        deviation = float((one != other).mean()) if one.size else 0.0
    elif precision == "fp32":
        deviation = relative
    else:
        deviation = max(0.0, 1.0 - cosine) if width > 1 else relative**2 / 2
    passed = finite and deviation <= (0.0 if exact else tolerance)
    return OutputCheck(
        name=name,
        rows=len(one),
        difference=difference,
        scale=scale,
        cosine=cosine,
        finite=finite,
        deviation=deviation,
        passed=passed,
    )


def _smallest_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Over the rows; 1 for two rows of zeros, 0 where only one of them is zero."""
    lengths = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    product = lengths[0] * lengths[1]
    cosines = (one * other).sum(axis=1) / np.where(product > 0, product, 1.0)
    cosines = np.where((lengths[0] == 0) & (lengths[1] == 0), 1.0, cosines)
    return float(cosines.min()) if len(cosines) else 1.0


def _remembering(variable: Variable) -> Variable:
    return Variable(
        variable.name, variable.shape, variable.dtype, lru_cache(maxsize=1)(variable.load)
    )


def _call(order: Mapping[str, Any]) -> Dict[str, Any]:
    """Run the engine in a process of its own, which ends with this function."""
    environment = dict(os.environ)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if order["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    process = subprocess.Popen(
        [sys.executable, "-m", "bert_serving.graph_opt.check_engine"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        # Ctrl-C in a terminal is for the parent, which ends the child; no traceback in between.
        start_new_session=True,
    )
    try:
        _, messages = process.communicate(json.dumps(order).encode("utf-8"))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    answer_file = Path(order["directory"]) / "answer.json"
    if process.returncode == 0 and answer_file.exists():
        answer: Dict[str, Any] = json.loads(answer_file.read_text(encoding="utf-8"))
        return answer
    lines = messages.decode("utf-8", "replace").strip().splitlines()
    raise GraphOptError(
        "the engine can't run %s (exit status %d): %s"
        % (order["path"], process.returncode, " | ".join(lines[-3:]) or "it said nothing")
    )
