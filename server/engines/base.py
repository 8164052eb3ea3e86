"""What the workers ask of an engine.

An engine is loaded, warmed up, used and closed inside one worker process. Heavy imports happen
in ``load`` and nowhere else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Collection, Dict

import numpy as np

from bert_serving.server.engines.features import Features, takes_packed
from bert_serving.server.spec import EngineSpec

__all__ = ["Engine", "Features", "GraphEngine"]


class Engine(ABC):
    """Computes vectors of batches."""

    def fitted(self, spec: EngineSpec, device: int) -> Path:
        """Make the form of the graph that is best to load on this machine; returns its path.

        Raises EngineError if the engine isn't installed or can't do it.
        """
        assert spec.graph is not None
        return Path(spec.graph)

    def most_streams(self, spec: EngineSpec, device: int) -> int:
        """How many batches it may be asked to compute at a time."""
        return 1

    @abstractmethod
    def load(self, spec: EngineSpec, device: int) -> None:
        """Get ready to compute on GPU ``device``, -1 being the CPU.

        Raises EngineError if the engine isn't installed or can't load the graph.
        """

    @abstractmethod
    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        """Vectors [rows, dimension], or [tokens, dimension] with one for every token.

        If the engine has several streams, as many threads may call this at a time;
        ``is_alone``: none does yet, so that all of the engine's threads are free.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what was loaded."""


class GraphEngine(Engine):
    """Runs an optimized graph, be it one for padded or for packed batches."""

    _inputs: Collection[str]  # their names, known once it is loaded
    _per_token: bool

    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        vectors = self._run(features.feeds(self._inputs), is_alone)
        if self._per_token and not takes_packed(self._inputs):
            return vectors[features.valid]
        return vectors

    @abstractmethod
    def _run(self, feeds: Dict[str, np.ndarray], is_alone: bool) -> np.ndarray:
        """The graph's output. Raises EngineError if the engine fails."""
