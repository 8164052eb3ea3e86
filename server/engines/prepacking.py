"""A graph as ONNX Runtime computes it, on disk: optimized, its weights in the order of its kernels.

ONNX Runtime reorders weights for its matrix products when it loads a model, which takes time, and
memory of each worker's own. Saved in that order they are mapped into memory from the file: loading
is faster, and all workers of a machine share the pages.

The order is that of one kind of CPU and one release of ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Sequence

from bert_serving.server.errors import EngineError
from bert_serving.server.fingerprints import processor, release

__all__ = ["is_prepacked", "prepacked", "prepacked_path"]

MODEL, PREFIX = "model.onnx", "prepacked-"
#: The first release that can save weights in its own order.
FIRST_RELEASE = (1, 21)
#: Smaller tensors stay in the model.
LEAST_BYTES = "1024"


def prepacked_path(graph: Path, disabled: Sequence[str]) -> Path:
    """Where a graph's own form for this machine is, or would be."""
    identity = json.dumps([processor(), release("onnxruntime"), disabled])
    key = hashlib.sha256(identity.encode("utf-8")).hexdigest()[:16]
    return graph.parent / (PREFIX + key) / MODEL


def is_prepacked(graph: Path) -> bool:
    """Whether a graph is in such a form."""
    return graph.parent.name.startswith(PREFIX)


def prepacked(graph: Path, options: Any, disabled: Sequence[str]) -> Path:
    """The graph in the form for this machine, made now unless it is there.

    ``options`` are an onnxruntime.SessionOptions of the caller's, which are changed, and
    ``disabled`` are names of its optimizers. A release that can't do it gives the graph itself.

    Raises EngineError if the graph can't be loaded or written.
    """
    import onnxruntime

    numbers = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if numbers < FIRST_RELEASE:
        return graph
    target = prepacked_path(graph, disabled)
    if target.is_file():
        return target
    temporary = Path(tempfile.mkdtemp(prefix=".prepacked-", dir=str(graph.parent)))
    try:
        options.optimized_model_filepath = str(temporary / MODEL)
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(prefix + "file_name", MODEL + ".data")
        options.add_session_config_entry(prefix + "min_size_in_bytes", LEAST_BYTES)
        options.add_session_config_entry(
            "session.save_external_prepacked_constant_initializers", "1"
        )
        onnxruntime.InferenceSession(
            str(graph),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=disabled,
        )
        _install(temporary, target)
    except Exception as error:  # its exceptions have no root of their own
        raise EngineError(
            "ONNX Runtime can't write the graph %s in its own form: %s; is there enough space?"
            % (graph, error)
        ) from error
    finally:
        shutil.rmtree(str(temporary), ignore_errors=True)
    return target


def _install(temporary: Path, target: Path) -> None:
    """Move what is complete to its place, unless another process was faster."""
    try:
        os.rename(str(temporary), str(target.parent))
    except OSError:
        if not target.is_file():
            raise
