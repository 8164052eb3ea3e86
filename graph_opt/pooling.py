"""From the vectors of tokens to the vector of a text: the strategies of bert-as-service 1.10.

Beside them CLASSIFICATION and REGRESSION, which run a fine-tuned classifier's own head. A graph may
also be asked for what they are computed from, the hidden states of every layer.

Shapes: b batch, s sequence length, w width, i.e. hidden size times number of pooled layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Callable, Dict, Mapping, Tuple

from bert_serving.graph_opt.bert import BertTensors, dimension, first_token
from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.errors import OptionError
from bert_serving.graph_opt.graph import Variable
from bert_serving.graph_opt.heads import HEADS, add_head
from bert_serving.graph_opt.layers import scalar

__all__ = [
    "LAYER_OUTPUT",
    "OUTPUT",
    "POOLED_OUTPUT",
    "POOLING_STRATEGIES",
    "GraphOptions",
    "add_every_layer",
    "add_pooling",
    "output_dimension",
]

OUTPUT = "final_encodes"
#: Outputs of a graph of every layer; the first with the layer's number.
LAYER_OUTPUT, POOLED_OUTPUT = "layer_%d", "pooled"

# What a maximum sees at masked positions: below any activation, and finite in float32.
LOWEST = -1e30
# Keeps the mean of a text without tokens at 0 rather than NaN, as in 1.10.
MEAN_EPSILON = 1e-10
# As in torch.nn.functional.normalize, which sentence-transformers uses.
NORM_EPSILON = 1e-12


@dataclass(frozen=True)
class GraphOptions:
    """What of a model is computed. Layers are counted from 0, or back from -1, without embeddings.

    ``num_labels`` counts for the strategies in ``HEADS`` only. With ``every_layer`` nothing is
    pooled, and what is said of pooling doesn't count: see :func:`add_every_layer`.

    Raises:
        OptionError: an unknown strategy, no layer, no label, or ``normalize`` with a strategy that
            gives no vector of a text.
    """

    pooling_strategy: str = "REDUCE_MEAN"
    pooling_layers: Tuple[int, ...] = (-2,)
    normalize: bool = False
    position_embeddings: bool = True
    num_labels: int = 2
    every_layer: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "pooling_layers", tuple(int(one) for one in self.pooling_layers))
        if self.pooling_strategy not in POOLING_STRATEGIES:
            raise OptionError(
                "pooling strategy %r isn't one of %s"
                % (self.pooling_strategy, ", ".join(POOLING_STRATEGIES))
            )
        if not self.pooling_layers:
            raise OptionError("no pooling layer is named: name at least one, e.g. -2")
        if self.normalize and self.pooling_strategy == "NONE":
            raise OptionError(
                "pooling strategy NONE gives a vector for each token, which can't be normalized:"
                " choose another strategy, or don't normalize"
            )
        if self.normalize and self.pooling_strategy in HEADS:
            raise OptionError(
                "pooling strategy %s gives a number for each label, which can't be normalized:"
                " choose another strategy, or don't normalize" % self.pooling_strategy
            )
        if self.num_labels < 1:
            raise OptionError("a classifier has at least one label, not %d" % self.num_labels)

    def check_layers(self, config: BertConfig) -> None:
        """Raise OptionError if a layer isn't in a model of this config."""
        count = config.num_hidden_layers
        for layer in self.pooling_layers:
            if not -count <= layer < count:
                raise OptionError(
                    "pooling layer %d is outside the model, which has %d layers (%d..%d)"
                    % (layer, count, -count, count - 1)
                )


def output_dimension(config: BertConfig, options: GraphOptions) -> int:
    """Components of one vector of an output."""
    if options.every_layer or options.pooling_strategy == "CLS_POOLED":
        return config.hidden_size
    if options.pooling_strategy in HEADS:
        return options.num_labels
    width = config.hidden_size * len(options.pooling_layers)
    return 2 * width if options.pooling_strategy == "REDUCE_MEAN_MAX" else width


def add_pooling(
    builder: GraphBuilder,
    tensors: BertTensors,
    options: GraphOptions,
    variables: Mapping[str, Variable] = MappingProxyType({}),
) -> str:
    """Add the pooling; the result is called ``final_encodes``.

    ``variables`` are the model's; only the strategies in ``HEADS`` read them.

    Returns float32 [b, w]; [b, s, w] for NONE, zero at masked positions; [b, 2*w] for
    REDUCE_MEAN_MAX; [b, h] for CLS_POOLED; [b, num_labels] for the strategies in ``HEADS``.

    Raises:
        OptionError: CLS_POOLED or a head of a model without a pooler.
    """
    with builder.scope("pooling"):
        layers = [tensors.layers[index] for index in options.pooling_layers]
        hidden = layers[0]
        if len(layers) > 1:
            axis = builder.constant(-1, "int64", "layers/axis")
            hidden = builder.op("ConcatV2", tuple(layers) + (axis,), "layers")
        strategy = options.pooling_strategy
        if strategy in _STRATEGIES:
            pooled = _STRATEGIES[strategy](builder, hidden, tensors.input_mask)
        elif tensors.pooled is None:
            raise OptionError("%s needs a pooler, and the model has none" % strategy)
        else:
            pooled = tensors.pooled
        if strategy in HEADS:
            pooled = add_head(builder, variables, pooled, strategy)
        if options.normalize:
            pooled = _normalize(builder, pooled)
    return builder.op("Identity", (pooled,), OUTPUT)


def add_every_layer(builder: GraphBuilder, tensors: BertTensors) -> Tuple[str, ...]:
    """Add what pooling starts from, as outputs: all that is computed once for several poolings.

    Returns ``layer_0``, ``layer_1``, ..., float32 [b, s, h] each and of no meaning at padding; and
    ``pooled``, float32 [b, h], if the model has a pooler.
    """
    outputs = [
        builder.op("Identity", (hidden,), LAYER_OUTPUT % number)
        for number, hidden in enumerate(tensors.layers)
    ]
    if tensors.pooled is not None:
        outputs.append(builder.op("Identity", (tensors.pooled,), POOLED_OUTPUT))
    return tuple(outputs)


def _float_mask(builder: GraphBuilder, mask: str) -> str:
    return builder.op("Cast", (mask,), "mask", dtypes={"DstT": "float32"})  # [b, s]


def _masked(builder: GraphBuilder, hidden: str, mask: str) -> str:
    """Zero at masked positions, [b, s, w]."""
    axis = builder.constant(-1, "int64", "masked/dim")
    column = builder.op("ExpandDims", (_float_mask(builder, mask), axis))  # [b, s, 1]
    return builder.op("Mul", (hidden, column), "masked")


def _mean(builder: GraphBuilder, hidden: str, mask: str) -> str:
    axis = builder.constant([1], "int64", "mean/axis")
    total = builder.op("Sum", (_masked(builder, hidden, mask), axis), keep_dims=False)  # [b, w]
    count = builder.op("Sum", (_float_mask(builder, mask), axis), "count", keep_dims=True)  # [b, 1]
    count = builder.op("AddV2", (count, scalar(builder, MEAN_EPSILON, "epsilon")))
    return builder.op("RealDiv", (total, count), "mean")


def _max(builder: GraphBuilder, hidden: str, mask: str) -> str:
    """The maximum over the tokens; LOWEST for a text without any.

    1.10 subtracts (1 - mask) * 1e30, which is the same in float32; a select stays right in any
    dtype.
    """
    axis = builder.constant(-1, "int64", "attended/dim")
    column = builder.op("ExpandDims", (mask, axis))  # [b, s, 1]
    zero = builder.constant(0, "int64", "attended/zero")
    attended = builder.op("Greater", (column, zero), "attended")
    lowest = scalar(builder, LOWEST, "lowest")
    chosen = builder.op("SelectV2", (attended, hidden, lowest), "select")
    return builder.op(
        "Max", (chosen, builder.constant([1], "int64", "max/axis")), "max", keep_dims=False
    )


def _mean_max(builder: GraphBuilder, hidden: str, mask: str) -> str:
    axis = builder.constant(1, "int64", "mean_max/axis")
    both = (_mean(builder, hidden, mask), _max(builder, hidden, mask))
    return builder.op("ConcatV2", both + (axis,), "mean_max")


def _first(builder: GraphBuilder, hidden: str, mask: str) -> str:
    return first_token(builder, hidden)


def _last(builder: GraphBuilder, hidden: str, mask: str) -> str:
    """The vector at position sum(mask) - 1, as in 1.10 whatever the mask looks like."""
    axis = builder.constant([1], "int64", "length/axis")
    length = builder.op("Sum", (_float_mask(builder, mask), axis), "length", keep_dims=False)
    length = builder.op("Cast", (length,), dtypes={"DstT": "int64"})  # [b]
    one = builder.constant(1, "int64", "last/one")
    last = builder.op("Sub", (length, one), "last")
    shape = builder.op("Shape", (last,), dtypes={"out_type": "int64"})
    zero = builder.constant(0, "int64", "rows/start")
    rows = builder.op("Range", (zero, dimension(builder, shape, 0, "batch"), one), "rows")
    indices = builder.op("Pack", (rows, last), "indices", axis=1)  # [b, 2]
    return builder.op("GatherNd", (hidden, indices), "last_token")


def _normalize(builder: GraphBuilder, pooled: str) -> str:
    """``x / max(||x||, 1e-12)`` over the last axis."""
    axis = builder.constant([-1], "int64", "norm/axis")
    squares = builder.op("Square", (pooled,), "norm/Square")
    norm = builder.op("Sqrt", (builder.op("Sum", (squares, axis), "norm/Sum", keep_dims=True),))
    floor = builder.op("Maximum", (norm, scalar(builder, NORM_EPSILON, "norm/epsilon")))
    return builder.op("RealDiv", (pooled, floor), "normalize")


_STRATEGIES: Dict[str, Callable[[GraphBuilder, str, str], str]] = {
    "NONE": _masked,
    "REDUCE_MEAN": _mean,
    "REDUCE_MAX": _max,
    "REDUCE_MEAN_MAX": _mean_max,
    "CLS_TOKEN": _first,
    "FIRST_TOKEN": _first,
    "SEP_TOKEN": _last,
    "LAST_TOKEN": _last,
}
POOLING_STRATEGIES: Tuple[str, ...] = tuple(_STRATEGIES) + ("CLS_POOLED",) + HEADS
