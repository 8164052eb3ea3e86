"""The engines, by name."""

from __future__ import annotations

from importlib import import_module

from bert_serving.server.engines.base import Engine, Features, pad

__all__ = ["ENGINES", "Engine", "Features", "create", "pad"]

#: Name -> module and class; a module is imported when its engine is used.
ENGINES = {
    "onnxruntime": "bert_serving.server.engines.onnxruntime:OnnxRuntimeEngine",
    "echo": "bert_serving.server.engines.echo:EchoEngine",
}


def create(name: str) -> Engine:
    """A new engine, not loaded yet."""
    module, _, attribute = ENGINES[name].partition(":")
    engine = getattr(import_module(module), attribute)()
    assert isinstance(engine, Engine)
    return engine
