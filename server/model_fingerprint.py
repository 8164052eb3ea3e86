"""A short name for all that decides the vectors of a served model.

By it a client that asks again, or goes on with a run, tells whether the answers are still of the
same model. It is equal for equal files and flags, on any machine, so that services behind one
address are told apart only if they differ.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Optional

from bert_serving.graph_opt.cache import Form, content_of
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import ModelSource
from bert_serving.server.errors import StartupError
from bert_serving.server.spec import ServiceSpec

__all__ = ["LENGTH", "computed_by", "fingerprint_of"]

#: Hexadecimal digits: two of 10,000 models are equal by chance with a probability of 3e-12.
LENGTH = 16


def computed_by(
    source: ModelSource, options: GraphOptions, form: Form, directory: Optional[str]
) -> Dict[str, Any]:
    """What a model's graph computes, as plain values. ``directory`` is the cache's.

    In float32 each engine and device computes the same, but for the last bits; other precisions
    mean something else to each of them. Raises GraphOptError if a file can't be read.
    """
    arithmetic = [form.precision]
    if form.precision != "fp32":
        arithmetic += [form.target, form.device]
    return {"model": content_of(source, options, directory), "arithmetic": arithmetic}


def fingerprint_of(spec: ServiceSpec, computed: Optional[Dict[str, Any]]) -> str:
    """The name of a service's model; ``computed`` is None with the engine echo.

    Raises StartupError if the vocabulary can't be read.
    """
    pooling = spec.pooling
    decisive = {
        "computed": computed or "echo",
        "vocabulary": _digest(spec.vocabulary),
        "tokenizer": asdict(spec.tokenizer),
        "pooling": [pooling.strategy, list(pooling.layers), pooling.normalize],
    }
    text = json.dumps(decisive, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:LENGTH]


def _digest(path: Optional[str]) -> Optional[str]:
    """That of a vocabulary; None is the echo engine's own."""
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise StartupError("can't read the vocabulary %s: %s" % (path, error.strerror)) from error
