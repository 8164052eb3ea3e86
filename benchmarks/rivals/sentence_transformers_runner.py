"""Times sentence-transformers; run by the Python of its own environment.

It imports nothing of this project. First comes a line of JSON with "model", "threads" and "texts",
which it answers when the model is loaded and has encoded the texts once; then a line for each time
that it is to encode them, which it answers with the seconds that this took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any


def main() -> int:
    """Serve standard input; returns the exit status."""
    # Answers go to the pipe; whatever the libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    order = json.loads(sys.stdin.readline())

    # By name, for this project's own environment hasn't got them.
    import_module("torch").set_num_threads(order["threads"])
    model = import_module("sentence_transformers").SentenceTransformer(order["model"], device="cpu")
    model.encode(order["texts"], show_progress_bar=False)
    answer({"ready": True})
    for _ in sys.stdin:
        began = time.perf_counter()
        model.encode(order["texts"], show_progress_bar=False)
        answer({"seconds": time.perf_counter() - began})
    return 0


if __name__ == "__main__":
    sys.exit(main())
