"""Which graph a model directory stands for where the user names no options."""

from __future__ import annotations

from typing import Optional, Sequence

from bert_serving.graph_opt.errors import OptionError
from bert_serving.graph_opt.heads import HEADS, check_head
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources.model import ModelSource
from bert_serving.graph_opt.variables import HEAD_WEIGHTS

__all__ = ["POOLING_LAYERS", "POOLING_STRATEGY", "resolve_options"]

#: Those of bert-as-service 1.10, for models that name none themselves.
POOLING_STRATEGY, POOLING_LAYERS = "REDUCE_MEAN", (-2,)


def resolve_options(
    source: ModelSource,
    *,
    pooling_strategy: Optional[str] = None,
    pooling_layers: Optional[Sequence[int]] = None,
    normalize: Optional[bool] = None,
    position_embeddings: bool = True,
    num_labels: Optional[int] = None,
) -> GraphOptions:
    """What is named, else what the model's makers used, else 1.10's defaults. None: not named.

    Raises:
        OptionError: a layer outside the model, something other than the vector of a text to be
            normalized, a head of another number of labels, or a model whose own pooling can't be
            followed and no strategy named in its place.
        ModelError: the weights have no pooler or head, and the strategy needs it.
    """
    own = source.defaults
    if pooling_strategy is None and own.unsupported:
        raise OptionError(
            "%s: %s; name a -pooling_strategy to pool in another way"
            % (source.directory, own.unsupported)
        )
    strategy = pooling_strategy or own.pooling_strategy or POOLING_STRATEGY
    gives_vectors = strategy not in ("NONE",) + HEADS
    if normalize and not gives_vectors:
        raise OptionError(
            "-normalize true is for vectors of whole texts; leave it out with "
            "-pooling_strategy " + strategy
        )
    if normalize is None:
        normalize = bool(own.normalize) and gives_vectors
    if pooling_layers is None:
        pooling_layers = own.pooling_layers or POOLING_LAYERS
    options = GraphOptions(
        pooling_strategy=strategy,
        pooling_layers=tuple(pooling_layers),
        normalize=normalize,
        position_embeddings=position_embeddings,
        # Nowhere else does it count, and it is part of the key of a cached graph.
        num_labels=num_labels or _labels(source) if strategy in HEADS else GraphOptions.num_labels,
    )
    options.check_layers(source.config)
    check_head(source, strategy, options.num_labels)
    return options


def _labels(source: ModelSource) -> int:
    """As many as the weights' own classifier has."""
    head = source.variables.get(HEAD_WEIGHTS)
    return head.shape[0] if head is not None and head.shape else GraphOptions.num_labels
