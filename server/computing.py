"""Computing a batch: which rows go through which graph, and what becomes of them.

Most batches are of rows that want the server's own pooling. In others those rows are computed by
themselves, so that they are as fast as ever. All the rest, whatever their poolings, take one run of
the graph of every layer, of which only those layers are fetched that some row is pooled from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple, Union

import numpy as np

from bert_serving.server.batch_messages import BatchMessage, Part
from bert_serving.server.engines import Engine, Features
from bert_serving.server.errors import EngineError
from bert_serving.server.pooling import HiddenStates, Pooling, pool, unit_length
from bert_serving.server.spec import EngineSpec, PoolingSpec

__all__ = ["compute", "compute_batch"]


def compute_batch(
    engine: Engine, spec: EngineSpec, own: PoolingSpec, batch: BatchMessage, began: float
) -> List[Part]:
    """The vectors of a batch: a part for each of its poolings, its rows in the batch's order.

    Raises EngineError if the engine fails.
    """
    features = Features(batch.features, batch.lengths)
    if not batch.poolings:
        vectors = compute(engine, features, spec, batch.alone)
        part = Part(batch.handles, batch.indices, batch.lengths, vectors, spec.per_token, began)
        return [part]
    poolings = [batch.poolings.get(handle) for handle in batch.handles.tolist()]
    simple = {one for one in set(poolings) if one is None or one.is_own_at_unit_length(own)}
    rows = _Rows(batch.handles, batch.indices, features, poolings)
    is_simple = np.array([one in simple for one in poolings])
    parts: List[Part] = []
    if is_simple.any():
        parts += _by_own_graph(engine, spec, rows.where(is_simple), batch.alone, began)
    if not is_simple.all():
        parts += _by_layers(engine, rows.where(~is_simple), batch.alone, began)
    return parts


def compute(
    engine: Engine, features: Features, spec: EngineSpec, is_alone: bool = True
) -> np.ndarray:
    """Vectors by the server's own pooling: [rows, dimension], or of tokens [tokens, dimension].

    Raises EngineError if the engine returns another shape.
    """
    vectors = engine.encode(features, is_alone)
    expected = (features.tokens.shape[1] if spec.per_token else features.rows, spec.dimension)
    if vectors.shape != expected:
        raise EngineError(
            "the engine returned an array of shape %s, not %s" % (vectors.shape, expected)
        )
    return vectors


def _by_own_graph(
    engine: Engine, spec: EngineSpec, rows: _Rows, is_alone: bool, began: float
) -> Iterator[Part]:
    """Parts of rows that want what the server's own graph gives, or the same at unit length."""
    vectors = compute(engine, rows.features, spec, is_alone)
    for pooling, chosen in rows.by_pooling():
        some = vectors[rows.places(chosen, spec.per_token)]
        if pooling is not None:
            some = unit_length(some)
        yield rows.where(chosen).part(some, spec.per_token, began)


def _by_layers(engine: Engine, rows: _Rows, is_alone: bool, began: float) -> Iterator[Part]:
    """Parts of rows with any other poolings."""
    groups = [(pooling, chosen) for pooling, chosen in rows.by_pooling() if pooling is not None]
    layers = sorted({layer for pooling, _ in groups for layer in pooling.layers})
    pooled = any(pooling.needs_pooler for pooling, _ in groups)
    hidden = engine.hidden_states(rows.features, layers, pooled, is_alone)
    for pooling, chosen in groups:
        tokens = rows.places(chosen, True)
        states = HiddenStates(
            {layer: hidden.layers[layer][tokens] for layer in set(pooling.layers)},
            None if hidden.pooled is None else hidden.pooled[rows.places(chosen, False)],
        )
        some = rows.where(chosen)
        vectors = pool(pooling, states, some.features.lengths, some.features.tokens[2])
        yield some.part(vectors, pooling.per_token, began)


@dataclass(frozen=True)
class _Rows:
    """Some rows of a batch, and the pooling that each wants, None being the server's own."""

    handles: np.ndarray
    indices: np.ndarray
    features: Features
    poolings: List[Optional[Pooling]]

    def by_pooling(self) -> Iterator[Tuple[Optional[Pooling], np.ndarray]]:
        """Each of the poolings, and which rows want it: bool [rows]."""
        kinds = list(dict.fromkeys(self.poolings))
        numbers = np.array([kinds.index(one) for one in self.poolings])
        for number, pooling in enumerate(kinds):
            yield pooling, numbers == number

    def places(self, chosen: np.ndarray, of_tokens: bool) -> Union[slice, np.ndarray]:
        """What picks the chosen rows, or their tokens, from an array of these rows."""
        if chosen.all():
            return slice(None)  # copies nothing
        return np.repeat(chosen, self.features.lengths) if of_tokens else chosen

    def where(self, chosen: np.ndarray) -> _Rows:
        tokens = self.places(chosen, True)
        features = Features(self.features.tokens[:, tokens], self.features.lengths[chosen])
        poolings = [one for one, wanted in zip(self.poolings, chosen) if wanted]
        return _Rows(self.handles[chosen], self.indices[chosen], features, poolings)

    def part(self, vectors: np.ndarray, per_token: bool, began: float) -> Part:
        lengths = self.features.lengths
        return Part(self.handles, self.indices, lengths, vectors, per_token, began)
