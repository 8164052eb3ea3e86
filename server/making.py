"""Making what is kept in the cache, each in a process of its own that ends afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.server.errors import StartupError

__all__ = ["make_graph", "run_module"]


def make_graph(order: Dict[str, Any]) -> Path:
    """Run the optimizer; ``order`` is what :mod:`bert_serving.server.optimize` reads.

    Returns the path of the graph, made now unless it is in the cache; and with ``fit``, an engine's
    spec and a device, that of its form for this machine. Raises GraphOptError or
    StartupError, whose messages are for the user.
    """
    answer = run_module("optimize", order, "is there enough memory for the model?")
    if "error" in answer:
        raise GraphOptError(answer["error"])
    return Path(answer["path"])


def run_module(name: str, order: Dict[str, Any], question: str) -> Dict[str, Any]:
    """Run a module in a process of its own: its memory is given back when it ends.

    Raises StartupError, with a question for the user, if it ends otherwise than it should.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "bert_serving.server." + name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # or Ctrl-C would reach it too
    )
    with process:
        try:
            output, _ = process.communicate(json.dumps(order).encode("utf-8"))
        except KeyboardInterrupt:
            process.terminate()  # it cleans up; leaving the block waits for that
            raise
    if process.returncode not in (0, 1) or not output:
        raise StartupError(
            "the graph optimizer (%s) ended with status %d; %s"
            % (name, process.returncode, question)
        )
    answer: Dict[str, Any] = json.loads(output)
    return answer
