"""Faults that the echo engine commits when it is told to, for tests of what others make of them.

``BERT_SERVING_ECHO_FAULTS`` names them: words of the form CHARACTER=FAULT. A batch with a text that
has the character meets the fault, by the characters of the echo engine's own vocabulary.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Callable, Dict, Mapping

import numpy as np

from bert_serving.server.errors import EngineError

__all__ = ["VARIABLE", "Faults"]

VARIABLE = "BERT_SERVING_ECHO_FAULTS"
#: Seconds that a slow batch takes longer.
SLOW = 0.5


def _signal(number: int) -> Callable[[int], None]:
    return lambda rows: os.kill(os.getpid(), number)


def _hang(rows: int) -> None:
    threading.Event().wait()


def _be_slow(rows: int) -> None:
    threading.Event().wait(SLOW)


def _fail(rows: int) -> None:
    raise EngineError("the engine was told to fail")


def _run_out_of_memory(rows: int) -> None:
    raise MemoryError("the engine was told to run out of memory")


def _mind_company(rows: int) -> None:
    if rows > 1:
        raise MemoryError("the engine was told that %d rows are too many" % rows)


#: By name: what is done for a batch of so many rows. "shape" is done to its vectors.
KINDS: Dict[str, Callable[[int], None]] = {
    "kill": _signal(signal.SIGKILL),
    "segv": _signal(signal.SIGSEGV),
    "stop": _signal(signal.SIGSTOP),
    "hang": _hang,
    "slow": _be_slow,
    "raise": _fail,
    "memory": _run_out_of_memory,
    "crowd": _mind_company,
    "shape": lambda rows: None,
}


class Faults:
    """The faults of a setting; a wrong one raises EngineError."""

    def __init__(self, setting: str, vocabulary: Mapping[str, int]) -> None:
        self._kinds: Dict[int, str] = {}
        for word in setting.split():
            token, _, kind = word.rpartition("=")
            if token not in vocabulary or kind not in KINDS:
                raise EngineError(
                    "%s has %r, but it must be a character, = and one of %s"
                    % (VARIABLE, word, ", ".join(KINDS))
                )
            for piece in (token, "##" + token):
                self._kinds[vocabulary[piece]] = kind

    def commit(self, ids: np.ndarray, rows: int) -> None:
        """Those of a batch with these token ids."""
        for kind in self._of(ids):
            KINDS[kind](rows)

    def misshape(self, ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """The vectors of such a batch, with one too few if that is the fault."""
        return vectors[:-1] if "shape" in self._of(ids) else vectors

    def _of(self, ids: np.ndarray) -> Dict[str, None]:
        found = (self._kinds.get(number) for number in ids.tolist())
        return dict.fromkeys(kind for kind in found if kind is not None)
