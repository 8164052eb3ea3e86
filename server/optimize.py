"""Entry point of the process that optimizes a graph for the server.

``python -m bert_serving.server.optimize`` reads a JSON object from standard input and writes one
to standard output: the path of the graph, or an error for the user.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from bert_serving.graph_opt import cache
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import read_model


def main() -> int:
    """Build the graph into the cache; the exit status is 0 if that worked."""
    # So that an end from outside also unwinds, and removes what is half written.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    order = json.load(sys.stdin)
    try:
        source = read_model(
            order["model_dir"],
            config_name=order["config_name"],
            ckpt_name=order["ckpt_name"],
            tuned_model_dir=order["tuned_model_dir"],
        )
        artifact = cache.build_artifact(
            source,
            GraphOptions(**order["options"]),
            cache.Form(**order["form"]),
            directory=Path(order["directory"]) if order["directory"] else None,
        )
    except GraphOptError as error:
        json.dump({"error": str(error)}, sys.stdout)
        return 1
    json.dump({"path": str(artifact.path)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
