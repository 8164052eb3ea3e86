"""An engine without a model: every text gets a vector computed from its token ids.

A layer's hidden states are vectors of the tokens, each layer's different, as wide as the texts'.

For tests of the plumbing and its benchmark: a vector tells which text it belongs to. It also fails
in many ways, if it is told to (:mod:`faults`).
"""

from __future__ import annotations

import os
from typing import Dict, Sequence

import numpy as np

from bert_serving.server.engines.base import Engine, Features
from bert_serving.server.engines.faults import VARIABLE, Faults
from bert_serving.server.pooling import HiddenStates
from bert_serving.server.spec import EngineSpec

__all__ = ["DIMENSION", "EchoEngine", "echo_vector", "vocabulary"]

#: That of BERT-base.
DIMENSION = 768
#: The largest prime below 2**16: products of two remainders stay below 2**32.
PRIME = 65521
#: Vectors computed at a time, so that what lies between stays in the processor's cache.
BLOCK = 32


class EchoEngine(Engine):
    """See the module's docstring."""

    def load(self, spec: EngineSpec, device: int) -> None:
        self._dimension = spec.dimension
        self._per_token = spec.per_token
        setting = os.environ.get(VARIABLE)
        self._faults = Faults(setting, vocabulary()) if setting else None

    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        ids = features.tokens[0]
        if self._faults is not None:
            self._faults.commit(ids, features.rows)
        marks = _marks(ids, features.positions)
        if not self._per_token:
            marks = np.add.reduceat(marks, features.starts) % PRIME
        vectors = _spread(marks, self._dimension)
        return vectors if self._faults is None else self._faults.misshape(ids, vectors)

    def hidden_states(
        self, features: Features, layers: Sequence[int], pooled: bool, is_alone: bool = True
    ) -> HiddenStates:
        assert not pooled, "it has no pooler"
        if self._faults is not None:
            self._faults.commit(features.tokens[0], features.rows)
        marks = _marks(features.tokens[0], features.positions)
        return HiddenStates(
            {layer: _spread((marks + layer + 1) % PRIME, self._dimension) for layer in layers}
        )

    def close(self) -> None:
        """Nothing was loaded."""


def echo_vector(ids: Sequence[int], dimension: int = DIMENSION) -> np.ndarray:
    """The vector, float32 [dimension], that a text of these token ids gets."""
    marks = _marks(np.asarray(ids), np.arange(len(ids)))
    return _spread(marks.sum(keepdims=True) % PRIME, dimension)[0]


def _marks(ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A number for every token and its position from 0: int64, the shape of both."""
    return (ids.astype(np.int64) + 1) * ((positions.astype(np.int64) + 1) * 31 + 7) % PRIME


def _spread(marks: np.ndarray, dimension: int) -> np.ndarray:
    """Float32 in [0, 1): exact multiples of 1/PRIME, the mark itself first."""
    prime = np.uint32(PRIME)
    factors = np.arange(1, dimension + 1, dtype=np.uint32)
    marks = marks.astype(np.uint32)
    vectors = np.empty((len(marks), dimension), np.float32)
    for start in range(0, len(marks), BLOCK):
        products = marks[start : start + BLOCK, None] * factors
        # Numpy divides by a number quickly, but has no quick way to the remainder.
        products -= products // prime * prime
        vectors[start : start + BLOCK] = products
    vectors /= np.float32(PRIME)
    return vectors


def vocabulary() -> Dict[str, int]:
    """A vocabulary of printable ASCII characters, so that echo needs no model directory."""
    characters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += characters + ["##" + character for character in characters]
    return {token: number for number, token in enumerate(tokens)}
