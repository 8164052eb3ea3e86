"""What the workers ask of an engine.

An engine is loaded, warmed up, used and closed inside one worker process. Heavy imports happen
in ``load`` and nowhere else.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from dataclasses import asdict, replace
from pathlib import Path
from typing import Collection, Dict, List, Optional, Sequence

import numpy as np

from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.server.engines.features import Features, takes_packed
from bert_serving.server.errors import EngineError, StartupError
from bert_serving.server.logs import stage
from bert_serving.server.making import make_graph
from bert_serving.server.pooling import HiddenStates
from bert_serving.server.spec import EngineSpec

__all__ = ["Engine", "Features", "GraphEngine", "LoadedGraph"]

logger = logging.getLogger(__name__)

#: Names of outputs: see graph_opt's ``pooling.py``.
VECTORS, LAYER, POOLED = "final_encodes", "layer_%d", "pooled"


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
    def hidden_states(
        self, features: Features, layers: Sequence[int], pooled: bool, is_alone: bool = True
    ) -> HiddenStates:
        """Those of these layers, counted from 0, and the pooled first tokens if that is asked for.

        For requests with another pooling than the server's: what it takes is loaded by the first
        call, and made if need be, which others wait for. Threads may call it like ``encode``.

        Raises EngineError if it can't be made or loaded; the next call tries again.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what was loaded."""


class LoadedGraph(ABC):
    """A graph that can be run. ``inputs``: their names."""

    inputs: Collection[str]

    @abstractmethod
    def run(
        self, outputs: Sequence[str], feeds: Dict[str, np.ndarray], is_alone: bool
    ) -> List[np.ndarray]:
        """These outputs. Raises EngineError if the engine fails."""

    @abstractmethod
    def close(self) -> None:
        """Free it."""


class GraphEngine(Engine):
    """Runs optimized graphs, be they for padded or for packed batches: the one for the server's own
    pooling, and on demand that of every layer.
    """

    _encoder: Optional[LoadedGraph] = None
    _every_layer: Optional[LoadedGraph] = None

    def __init__(self) -> None:
        self._is_opening = threading.Lock()

    def load(self, spec: EngineSpec, device: int) -> None:
        self._spec, self._device = spec, device
        self._encoder = self._open(spec, device, VECTORS)

    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        graph = self._encoder
        assert graph is not None
        (vectors,) = graph.run([VECTORS], features.feeds(graph.inputs), is_alone)
        if self._spec.per_token and not takes_packed(graph.inputs):
            return vectors[features.valid]
        return vectors

    def hidden_states(
        self, features: Features, layers: Sequence[int], pooled: bool, is_alone: bool = True
    ) -> HiddenStates:
        graph = self._graph_of_every_layer()
        names = [LAYER % number for number in layers] + [POOLED] * pooled
        arrays = graph.run(names, features.feeds(graph.inputs), is_alone)
        first_tokens = arrays.pop() if pooled else None
        if not takes_packed(graph.inputs):
            arrays = [array[features.valid] for array in arrays]
        return HiddenStates(dict(zip(layers, arrays)), first_tokens)

    def close(self) -> None:
        for graph in (self._encoder, self._every_layer):
            if graph is not None:
                graph.close()
        self._encoder = self._every_layer = None

    @abstractmethod
    def _open(self, spec: EngineSpec, device: int, output: str) -> LoadedGraph:
        """Load ``spec.graph``, which has this output. Raises EngineError if that can't be done."""

    def _is_fitted(self, spec: EngineSpec) -> bool:
        """Whether ``spec.graph`` is in the form that :meth:`fitted` makes."""
        return False

    def _graph_of_every_layer(self) -> LoadedGraph:
        with self._is_opening:
            if self._every_layer is None:
                with stage(logger, "graph for other poolings"):
                    made = self._make_every_layer()
                    self._every_layer = self._open(made, self._device, LAYER % 0)
            return self._every_layer

    def _make_every_layer(self) -> EngineSpec:
        spec, order = self._spec, self._spec.layers_order
        assert order is not None, "the ventilator refuses other poolings"
        if self._is_fitted(spec):
            engine = asdict(replace(spec, layers_order=None))
            order = dict(order, fit={"engine": engine, "device": self._device})
        try:
            return replace(spec, graph=str(make_graph(order)))
        except (GraphOptError, StartupError) as error:
            raise EngineError("can't make the graph for other poolings: %s" % error) from error
