"""What the workers ask of an engine.

An engine is loaded, warmed up, used and closed inside one worker process. Heavy imports happen
in ``load`` and nowhere else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from bert_serving.server.spec import EngineSpec

__all__ = ["Engine", "Features", "pad"]


@dataclass(frozen=True)
class Features:
    """A batch, padded to its longest row; all arrays int32.

    ``ids``, ``types`` and ``mask`` have the shape [rows, longest], ``lengths`` [rows].
    """

    ids: np.ndarray
    types: np.ndarray
    mask: np.ndarray
    lengths: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """Bool [rows, longest]: where there is a token rather than padding."""
        return np.arange(self.ids.shape[1]) < self.lengths[:, None]


def pad(packed: np.ndarray, lengths: np.ndarray) -> Features:
    """Spread int32 [3, tokens] (ids, segments, mask) of rows one after another into a batch."""
    longest = int(lengths.max())
    padded = np.zeros((3, len(lengths), longest), np.int32)
    padded[:, np.arange(longest) < lengths[:, None]] = packed
    return Features(padded[0], padded[1], padded[2], lengths)


class Engine(ABC):
    """Computes vectors of batches."""

    @abstractmethod
    def load(self, spec: EngineSpec, device: int) -> None:
        """Get ready to compute on GPU ``device``, -1 being the CPU.

        Raises EngineError if the engine isn't installed or can't load the graph.
        """

    @abstractmethod
    def encode(self, features: Features) -> np.ndarray:
        """Vectors [rows, dimension], or [rows, longest, dimension] with one for every token."""

    @abstractmethod
    def close(self) -> None:
        """Free what was loaded."""
