"""The engines: which there are, what each needs, and which is taken if none is named."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Optional, Tuple

from bert_serving.server.engines.base import Engine, Features
from bert_serving.server.errors import StartupError

__all__ = ["ENGINES", "Engine", "Features", "choose", "create"]


@dataclass(frozen=True)
class _Kind:
    """An engine. ``remedy`` is what to install where a package is missing."""

    module: str
    name: str
    target: Optional[str] = None  # form of the graph that it loads; None: it needs none
    packages: Tuple[str, ...] = ()  # also those that write the graph
    remedy: str = ""


#: By the names that -engine takes, in the order of choice; a module is imported when it is used.
ENGINES = {
    "onnxruntime": _Kind(
        "onnxruntime",
        "OnnxRuntimeEngine",
        "onnx",
        ("onnxruntime", "onnx"),
        "pip install onnxruntime onnx",
    ),
    "tensorflow": _Kind(
        "tensorflow",
        "TensorFlowEngine",
        "pb",
        ("tensorflow",),
        "pip install 'bert-serving[tensorflow]'",
    ),
    "echo": _Kind("echo", "EchoEngine"),
}


def choose(name: str) -> str:
    """The engine to use: the one that is named, or for "auto" the first that is installed.

    Raises StartupError if it isn't installed, or none is.
    """
    if name == "auto":
        for candidate, kind in ENGINES.items():
            if kind.packages and not _missing(kind):
                return candidate
        # ONNX Runtime has no releases for Python 3.7.
        kind = ENGINES["tensorflow" if sys.version_info < (3, 8) else "onnxruntime"]
        raise StartupError(
            "no engine is installed for this Python (%s): %s" % (sys.executable, kind.remedy)
        )
    missing = _missing(ENGINES[name])
    if missing:
        raise StartupError(
            "the engine %s needs %s, which this Python (%s) doesn't have: %s"
            % (name, " and ".join(missing), sys.executable, ENGINES[name].remedy)
        )
    return name


def create(name: str) -> Engine:
    """A new engine, not loaded yet."""
    kind = ENGINES[name]
    engine = getattr(import_module("%s.%s" % (__name__, kind.module)), kind.name)()
    assert isinstance(engine, Engine)
    return engine


def _missing(kind: _Kind) -> Tuple[str, ...]:
    return tuple(package for package in kind.packages if find_spec(package) is None)
