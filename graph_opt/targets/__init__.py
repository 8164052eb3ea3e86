"""Targets: writing a graph in the format of an engine."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Tuple

from bert_serving.graph_opt.errors import OptionError
from bert_serving.graph_opt.files import PathLike
from bert_serving.graph_opt.graph import Graph

__all__ = ["TARGETS", "write"]

_PACKAGE = "bert_serving.graph_opt.targets."
_WRITERS = {
    "onnx": ("onnx", "write_onnx"),
    "pb": ("tf_graph", "write_graph_def"),
    "savedmodel": ("saved_model", "write_saved_model"),
}
#: ONNX; TensorFlow's frozen GraphDef; a SavedModel directory, as TensorFlow Serving wants it.
TARGETS: Tuple[str, ...] = tuple(_WRITERS)


def write(graph: Graph, path: PathLike, target: str) -> Tuple[Path, ...]:
    """Write a frozen graph in a target's format; returns the files written, the model first.

    Nothing is left behind on an error.

    Raises:
        OptionError: an unknown target.
        GraphError: a variable that isn't frozen, or an operation that the target can't say.
        OSError: the disk is full, or the path can't be written.
    """
    if target not in _WRITERS:
        raise OptionError("target %r isn't one of %s" % (target, ", ".join(TARGETS)))
    module, function = _WRITERS[target]
    written: Tuple[Path, ...] = getattr(import_module(_PACKAGE + module), function)(graph, path)
    return written
