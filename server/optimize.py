"""Entry point of the process that optimizes a graph for the server.

``python -m bert_serving.server.optimize`` reads a JSON object from standard input and writes one
to standard output: the path of the graph, or an error for the user.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional

from bert_serving.graph_opt import cache
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import read_model
from bert_serving.server import engines
from bert_serving.server.errors import EngineError
from bert_serving.server.spec import EngineSpec


def main() -> int:
    """Have the graph in the cache, made now unless it is; the exit status is 0 if that worked."""
    # So that an end from outside also unwinds, and removes what is half written.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    text = sys.stdin.read()
    if not text:
        return 1  # whoever started this process was ended before it could say what for
    order = json.loads(text)
    try:
        path = _fitted(_graph(order), order.get("fit"))
    except (GraphOptError, EngineError) as error:
        json.dump({"error": str(error)}, sys.stdout)
        return 1
    json.dump({"path": str(path)}, sys.stdout)
    return 0


def _graph(order: Dict[str, Any]) -> Path:
    source = read_model(
        order["model_dir"],
        config_name=order["config_name"],
        ckpt_name=order["ckpt_name"],
        tuned_model_dir=order["tuned_model_dir"],
    )
    options, form = GraphOptions(**order["options"]), cache.Form(**order["form"])
    directory = Path(order["directory"]) if order["directory"] else None
    entry = cache.entry_directory(source, options, form, directory)
    if order.get("entry", entry.name) != entry.name:
        raise GraphOptError(
            "the files of the model in %s have changed since the server loaded it; have it load "
            "them again by bert-serving-reload" % order["model_dir"]
        )
    return cache.cached_graph(source, options, form, directory=directory).path


def _fitted(graph: Path, fit: Optional[Dict[str, Any]]) -> Path:
    """The graph in the form for this machine, if an engine and a device are named."""
    if fit is None:
        return graph
    spec = replace(EngineSpec(**fit["engine"]), graph=str(graph))
    return engines.create(spec.name).fitted(spec, fit["device"])


if __name__ == "__main__":
    sys.exit(main())
