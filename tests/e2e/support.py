"""What the tests with bert-as-service 1.10 share: its reference results, and how to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List

import numpy as np

from bert_serving.benchmarks.wire import Target

__all__ = ["TIMEOUT", "Reference", "Serve", "batches_of", "check"]

TOLERANCE = 1e-4
#: A client's, in milliseconds, so that a test that fails ends.
TIMEOUT = 60_000

#: Starts an original server with some flags, for a block.
Serve = Callable[..., ContextManager[Target]]


class Reference:
    """A case: texts, or lists of tokens, and the vectors and tokens that 1.10 made of them."""

    def __init__(self, golden: Path, case: Dict[str, Any]) -> None:
        with np.load(str(golden / "tf1-tiny" / case["file"])) as stored:
            self.vectors = stored["vectors"]
            self.tokens: List[List[str]] = json.loads(str(stored["tokens"]))
        self.texts: List[Any] = case["texts"]


def check(vectors: Any, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """In each component; as much as two engines differ in float32."""
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=tolerance)


def batches_of(texts: List[str], size: int) -> List[List[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]
