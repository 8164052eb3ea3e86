"""Entry point of the process that fits a graph to this machine.

``python -m bert_serving.server.tune`` reads a JSON object from standard input and writes one to
standard output: that of a :class:`~bert_serving.server.tuning.Tuning`, or an error for the user.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict

from bert_serving.server.errors import ServerError
from bert_serving.server.spec import EngineSpec
from bert_serving.server.tuning import tune


def main() -> int:
    """Tune as the order says; the exit status is 0 if that worked."""
    # So that an end from outside also unwinds, and removes what is half written.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    text = sys.stdin.read()
    if not text:
        return 1  # whoever started this process was ended before it could say what for
    order = json.loads(text)
    try:
        tuning = tune(EngineSpec(**order["engine"]), order["device"], order["max_length"])
    except (ServerError, OSError) as error:
        json.dump({"error": str(error)}, sys.stdout)
        return 1
    json.dump(asdict(tuning), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
