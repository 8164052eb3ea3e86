"""Runs a graph in real engines, for comparison with the numpy interpreter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np
import pytest

from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.targets.onnx import write_onnx
from bert_serving.graph_opt.targets.tf_graph import write_graph_def

Arrays = Dict[str, np.ndarray]


def run_onnx(graph: Graph, path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """Write the graph to ``path`` and run it in onnxruntime; skips where that isn't installed."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    write_onnx(graph, path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = list(graph.outputs)
    wanted = {one.name for one in session.get_inputs()}
    fed = {name: value for name, value in feeds.items() if name in wanted}
    return dict(zip(names, session.run(names, fed)))


def import_tensorflow() -> Any:
    """``tensorflow.compat.v1``; skips where TensorFlow isn't installed.

    TensorFlow 1.15 warns about numpy when it is imported.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("tensorflow")
        import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    return tf


def run_tensorflow(graph: Graph, path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """Write the graph to ``path`` and run it in a TensorFlow session, 1.15 or 2.x."""
    tf = import_tensorflow()
    write_graph_def(graph, path)
    return run_graph_def(tf, path, feeds, graph.outputs)


def run_graph_def(tf: Any, path: Path, feeds: Mapping[str, np.ndarray], outputs: Any) -> Arrays:
    """Run a frozen graph; ``feeds`` and ``outputs`` are named as in a :class:`Graph`."""
    definition = tf.GraphDef()
    definition.ParseFromString(path.read_bytes())
    with tf.Graph().as_default() as scope, tf.Session() as session:
        tf.import_graph_def(definition, name="")
        fed = {_tensor(name): value for name, value in feeds.items() if _has(scope, name)}
        return dict(zip(outputs, session.run([_tensor(name) for name in outputs], fed)))


def _has(scope: Any, name: str) -> bool:
    try:
        scope.get_tensor_by_name(_tensor(name))
    except KeyError:
        return False
    return True


def _tensor(name: str) -> str:
    return name if ":" in name else name + ":0"
