"""What a request asks to be pooled, and pooling the hidden states of a batch in numpy.

Pure. The server's own pooling is a part of its optimized graph. That of requests which ask for
another one is done here, on what the graph of every layer gives; the strategies and their formulas
are those of graph_opt's ``pooling.py``.

Shapes: tokens of all rows, one after another; h hidden size; w width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from bert_serving.server.spec import PoolingSpec

__all__ = ["STRATEGIES", "HiddenStates", "Pooling", "pool", "resolve", "unit_length"]

#: Those of graph_opt's ``pooling.py``, which says what they are for.
LOWEST = np.float32(-1e30)
MEAN_EPSILON = np.float32(1e-10)
NORM_EPSILON = np.float32(1e-12)

#: Ends in a fine-tuned classifier, which only the server's own graph has.
HEADS = ("CLASSIFICATION", "REGRESSION")
#: Two names for one thing.
ALIASES = {"FIRST_TOKEN": "CLS_TOKEN", "LAST_TOKEN": "SEP_TOKEN"}


@dataclass(frozen=True)
class Pooling:
    """How the vectors of a request are made: ``layers`` are counted from 0, and CLS_POOLED needs
    none.
    """

    strategy: str
    layers: Tuple[int, ...]
    normalize: bool

    @property
    def per_token(self) -> bool:
        """Whether there is a vector for every token instead of one for every text."""
        return self.strategy == "NONE"

    @property
    def needs_pooler(self) -> bool:
        """Whether it starts from the pooled first token rather than from layers."""
        return self.strategy == "CLS_POOLED"

    def is_own_at_unit_length(self, spec: PoolingSpec) -> bool:
        """Whether it is the server's own pooling but for normalization, which that leaves out."""
        own = _own(spec)
        return self.normalize and not own.normalize and _same_but_norm(self, own)


class HiddenStates(NamedTuple):
    """What vectors are pooled from: by layer, float32 [tokens, h]; and the pooled first token of
    each row, float32 [rows, h].
    """

    layers: Mapping[int, np.ndarray]
    pooled: Optional[np.ndarray] = None


def resolve(
    spec: PoolingSpec,
    strategy: Optional[str] = None,
    layers: Optional[Sequence[int]] = None,
    normalize: Optional[bool] = None,
) -> Optional[Pooling]:
    """The pooling that a request asks for; None if it is the server's own.

    What is None is as on the server, but vectors of tokens aren't normalized. Layers count from 0,
    or back from -1.

    Raises:
        ValueError: the server can't do that, or is told not to; the message is for the client.
    """
    chosen = spec.strategy if strategy is None else strategy
    if chosen not in STRATEGIES + HEADS:
        raise ValueError(
            "pooling strategy %r isn't one of %s" % (chosen, ", ".join(sorted(STRATEGIES)))
        )
    if chosen in HEADS and chosen != spec.strategy:
        raise ValueError(
            "pooling strategy %s needs a server that is started with it; this one can give %s"
            % (chosen, ", ".join(sorted(STRATEGIES)))
        )
    gives_vectors = chosen not in ("NONE",) + HEADS
    if normalize and not gives_vectors:
        raise ValueError(
            "normalize is for vectors of whole texts; leave it out with pooling strategy " + chosen
        )
    if normalize is None:
        normalize = spec.normalize and gives_vectors
    numbers = _numbers(spec, spec.layers if layers is None else layers)
    asked = Pooling(ALIASES.get(chosen, chosen), _needed(chosen, numbers), normalize)
    if asked == _own(spec):
        return None
    if spec.fixed:
        raise ValueError(
            "this server was started with -fixed_pooling; its pooling is %s of layer %s, %s; ask "
            "for no other"
            % (
                spec.strategy,
                " ".join(map(str, spec.layers)),
                "normalized" if spec.normalize else "not normalized",
            )
        )
    if chosen == "CLS_POOLED" and not spec.has_pooler:
        raise ValueError(
            "pooling strategy CLS_POOLED needs a pooler, and this server's model has none; choose "
            "another strategy, e.g. CLS_TOKEN"
        )
    return asked


def pool(
    pooling: Pooling, hidden: HiddenStates, lengths: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Vectors of rows of at least one token each, float32 [rows, w]; for NONE [tokens, w].

    ``lengths``: int [rows]; ``mask``: int [tokens], 1 at the tokens to attend to, else 0.
    """
    if pooling.needs_pooler:
        assert hidden.pooled is not None
        vectors = hidden.pooled
    else:
        layers = [hidden.layers[number] for number in pooling.layers]
        vectors = _STRATEGIES[pooling.strategy](layers, _Rows.of(lengths, mask))
    return unit_length(vectors) if pooling.normalize else vectors


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """``x / max(||x||, 1e-12)`` of every row, float32 [rows, w]."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return vectors / np.maximum(norms, NORM_EPSILON)[:, None]


def _own(spec: PoolingSpec) -> Pooling:
    layers = _needed(spec.strategy, _numbers(spec, spec.layers))
    return Pooling(ALIASES.get(spec.strategy, spec.strategy), layers, spec.normalize)


def _same_but_norm(one: Pooling, other: Pooling) -> bool:
    return (one.strategy, one.layers) == (other.strategy, other.layers)


def _needed(strategy: str, layers: Tuple[int, ...]) -> Tuple[int, ...]:
    """The layers that count: a pooler is over the last one, whatever is named."""
    return () if strategy in ("CLS_POOLED",) + HEADS else layers


def _numbers(spec: PoolingSpec, layers: Sequence[int]) -> Tuple[int, ...]:
    """Layers counted from 0."""
    count = spec.num_layers
    most = max(count, len(spec.layers))
    if not layers:
        raise ValueError("no pooling layer is named: name at least one, e.g. -2")
    if len(layers) > most:
        raise ValueError(
            "%d pooling layers are named; name at most %d, as many as the model has"
            % (len(layers), most)
        )
    for layer in layers:
        if not -count <= layer < count:
            raise ValueError(
                "pooling layer %d is outside the model, which has %d layers (%d..%d)"
                % (layer, count, -count, count - 1)
            )
    return tuple(int(layer) % count for layer in layers)


class _Rows(NamedTuple):
    """Where the rows lie among the tokens.

    ``starts``, ``lengths``: int [rows]; ``counts``: int [rows], tokens to attend to; ``masked``:
    bool [tokens], which are not, None if all are.
    """

    starts: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    masked: Optional[np.ndarray]

    @classmethod
    def of(cls, lengths: np.ndarray, mask: np.ndarray) -> "_Rows":
        starts = np.cumsum(lengths) - lengths
        masked = mask == 0
        counts = np.add.reduceat(mask, starts)
        return cls(starts, lengths, counts, masked if masked.any() else None)


_Layers = Sequence[np.ndarray]


def _side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _with(hidden: np.ndarray, rows: _Rows, value: np.float32) -> np.ndarray:
    """Hidden states with a value at masked tokens."""
    if rows.masked is None:
        return hidden
    return np.where(rows.masked[:, None], value, hidden)


def _reduced(function: np.ufunc, hidden: np.ndarray, rows: _Rows) -> np.ndarray:
    """The tokens of each row by a sum or the like: [tokens, h] -> [rows, h].

    One by one: numpy's ``reduceat`` takes 2 to 10 times as long.
    """
    results = np.empty((len(rows.starts), hidden.shape[1]), hidden.dtype)
    stops = rows.starts + rows.lengths
    for place, (start, stop) in enumerate(zip(rows.starts.tolist(), stops.tolist())):
        function.reduce(hidden[start:stop], axis=0, out=results[place])
    return results


def _tokens(layers: _Layers, rows: _Rows) -> np.ndarray:
    return _side_by_side([_with(hidden, rows, np.float32(0)) for hidden in layers])


def _mean(layers: _Layers, rows: _Rows) -> np.ndarray:
    counts = rows.counts.astype(np.float32)[:, None] + MEAN_EPSILON
    zero = np.float32(0)
    return _side_by_side(
        [_reduced(np.add, _with(hidden, rows, zero), rows) / counts for hidden in layers]
    )


def _max(layers: _Layers, rows: _Rows) -> np.ndarray:
    return _side_by_side(
        [_reduced(np.maximum, _with(hidden, rows, LOWEST), rows) for hidden in layers]
    )


def _mean_max(layers: _Layers, rows: _Rows) -> np.ndarray:
    return _side_by_side([_mean(layers, rows), _max(layers, rows)])


def _first(layers: _Layers, rows: _Rows) -> np.ndarray:
    return _side_by_side([hidden[rows.starts] for hidden in layers])


def _last(layers: _Layers, rows: _Rows) -> np.ndarray:
    """At position sum(mask) - 1, as in 1.10 whatever the mask looks like; at the last token of a
    row that is masked throughout.
    """
    places = rows.starts + (rows.counts - 1) % rows.lengths
    return _side_by_side([hidden[places] for hidden in layers])


_STRATEGIES: Dict[str, Callable[[_Layers, _Rows], np.ndarray]] = {
    "NONE": _tokens,
    "REDUCE_MEAN": _mean,
    "REDUCE_MAX": _max,
    "REDUCE_MEAN_MAX": _mean_max,
    "CLS_TOKEN": _first,
    "FIRST_TOKEN": _first,
    "SEP_TOKEN": _last,
    "LAST_TOKEN": _last,
}
#: Those that may be asked for.
STRATEGIES: Tuple[str, ...] = tuple(_STRATEGIES) + ("CLS_POOLED",)
