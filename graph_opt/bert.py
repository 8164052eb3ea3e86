"""BERT (Devlin et al. 2018) in its training form: variables, dropout, every layer, the pooler.

Shapes: b batch, s sequence length, h hidden size, n attention heads, d head size. Between the
layers a batch is a matrix [b*s, h], as in Google's code. What inference doesn't need is left to the
passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.graph import Variable
from bert_serving.graph_opt.layers import activation, dense, dropout, layer_norm, scalar
from bert_serving.graph_opt.variables import has_pooler

__all__ = ["INPUTS", "BertConfig", "BertTensors", "add_bert", "dimension", "first_token"]

INPUTS = ("input_ids", "input_mask", "input_type_ids")

# What a masked position's attention score is moved by, as in Google's code and in 1.10.
MASKED_SCORE = -10000.0


@dataclass(frozen=True)
class BertTensors:
    """Names of what :func:`add_bert` computes."""

    input_mask: str  # int64 [b, s]
    layers: Tuple[str, ...]  # float32 [b, s, h] each, first layer first
    pooled: Optional[str]  # float32 [b, h]; None where the weights have no pooler


@dataclass(frozen=True)
class _Sizes:
    """Shape tensors that every layer uses."""

    sequence: str  # s, of rank 0
    heads: str  # [b, s, n, d]
    matrix: str  # [-1, h]
    hidden: str  # [b, s, h]


def add_bert(
    builder: GraphBuilder,
    config: BertConfig,
    variables: Mapping[str, Variable],
    position_embeddings: bool = True,
) -> BertTensors:
    """Add the whole network to a graph.

    The placeholders ``input_ids``, ``input_mask`` and ``input_type_ids`` are int64 [b, s]; a mask
    is 1 at the tokens to attend to, 0 elsewhere. ``variables`` has Google's names.
    """
    ids, mask, types = [builder.placeholder(name, "int64", (None, None)) for name in INPUTS]
    network = _Network(builder, config, variables, _shapes(builder, config, ids))
    hidden = network.embeddings(ids, types, position_embeddings)
    with builder.scope("bert/encoder"):
        hidden = builder.op("Reshape", (hidden, network.sizes.matrix))  # [b*s, h]
        adder = _attention_adder(builder, mask)
    layers = []
    for index in range(config.num_hidden_layers):
        scope = "bert/encoder/layer_%d" % index
        hidden = network.layer(scope, hidden, adder)
        with builder.scope(scope):
            layers.append(builder.op("Reshape", (hidden, network.sizes.hidden), "hidden"))
    pooled = network.pooler(layers[-1]) if has_pooler(variables) else None
    return BertTensors(mask, tuple(layers), pooled)


def first_token(builder: GraphBuilder, hidden: str) -> str:
    """The vector at position 0: [b, s, h] -> [b, h]."""
    axis = builder.constant(1, "int64", "first_token/axis")
    position = builder.constant(0, "int64", "first_token/position")
    return builder.op("GatherV2", (hidden, position, axis), "first_token", batch_dims=0)


def dimension(builder: GraphBuilder, shape: str, index: int, name: str) -> str:
    """One element of a shape tensor, of rank 0."""
    position = builder.constant(index, "int64", name + "/index")
    axis = builder.constant(0, "int64", name + "/axis")
    return builder.op("GatherV2", (shape, position, axis), name, batch_dims=0)


def _shapes(builder: GraphBuilder, config: BertConfig, ids: str) -> _Sizes:
    with builder.scope("bert/shapes"):
        shape = builder.op("Shape", (ids,), dtypes={"out_type": "int64"})
        batch = dimension(builder, shape, 0, "batch")
        sequence = dimension(builder, shape, 1, "sequence")
        heads = builder.constant(config.num_attention_heads, "int64", "num_heads")
        head_size = builder.constant(config.head_size, "int64", "head_size")
        hidden = builder.constant(config.hidden_size, "int64", "hidden_size")
        return _Sizes(
            sequence=sequence,
            heads=builder.op("Pack", (batch, sequence, heads, head_size), "heads", axis=0),
            matrix=builder.constant([-1, config.hidden_size], "int64", "matrix"),
            hidden=builder.op("Pack", (batch, sequence, hidden), "hidden", axis=0),
        )


def _attention_adder(builder: GraphBuilder, mask: str) -> str:
    """What moves the scores: int64 [b, s] -> float32 [b, 1, 1, s], 0 where the mask is 1."""
    with builder.scope("mask"):
        floats = builder.op("Cast", (mask,), dtypes={"DstT": "float32"})
        for count in (1, 2):
            axis = builder.constant(1, "int64", "ExpandDims_%d/dim" % count)
            floats = builder.op("ExpandDims", (floats, axis), "ExpandDims_%d" % count)
        inverse = builder.op("Sub", (scalar(builder, 1.0, "sub/x"), floats), "sub")
        return builder.op("Mul", (inverse, scalar(builder, MASKED_SCORE, "mul/y")), "mul")


@dataclass(frozen=True)
class _Network:
    """The parts of the network, each added by a method that takes and returns tensor names."""

    builder: GraphBuilder
    config: BertConfig
    variables: Mapping[str, Variable]
    sizes: _Sizes

    def embeddings(self, ids: str, types: str, position_embeddings: bool) -> str:
        """Sum of the embeddings, normalized: two of int64 [b, s] -> float32 [b, s, h]."""
        builder, scope = self.builder, "bert/embeddings"
        tables = [
            builder.variable(self.variables["%s/%s_embeddings" % (scope, kind)])
            for kind in ("word", "token_type", "position")
        ]
        with builder.scope(scope):
            axis = builder.constant(0, "int64", "axis")
            words = builder.op("GatherV2", (tables[0], ids, axis), "word", batch_dims=0)
            kinds = builder.op("GatherV2", (tables[1], types, axis), "token_type", batch_dims=0)
            total = builder.op("AddV2", (words, kinds), "add")
            if position_embeddings:
                zero = builder.constant(0, "int64", "positions/start")
                one = builder.constant(1, "int64", "positions/delta")
                positions = builder.op(
                    "Range", (zero, self.sizes.sequence, one), "positions"
                )  # [s]
                places = builder.op(
                    "GatherV2", (tables[2], positions, axis), "position", batch_dims=0
                )
                total = builder.op("AddV2", (total, places), "add")
        normal = self._layer_norm(total, scope)
        with builder.scope(scope):
            return dropout(builder, normal, self.config.hidden_dropout_prob)

    def layer(self, scope: str, hidden: str, adder: str) -> str:
        """One block, [b*s, h]: attention and feed-forward, each added to its input, normalized."""
        context = self._attention(scope + "/attention/self", hidden, adder)
        attended = self._residual(scope + "/attention/output", context, hidden)
        inner = dense(self.builder, self.variables, attended, scope + "/intermediate/dense")
        with self.builder.scope(scope + "/intermediate/dense"):
            inner = activation(self.builder, inner, self.config.hidden_act)
        return self._residual(scope + "/output", inner, attended)

    def pooler(self, hidden: str) -> str:
        """A dense layer with tanh on the first token: [b, s, h] -> [b, h]."""
        with self.builder.scope("bert/pooler"):
            first = first_token(self.builder, hidden)
        projected = dense(self.builder, self.variables, first, "bert/pooler/dense")
        with self.builder.scope("bert/pooler/dense"):
            return self.builder.op("Tanh", (projected,))

    def _attention(self, scope: str, hidden: str, adder: str) -> str:
        """Scaled dot-product attention of all heads (Vaswani et al. 2017): [b*s, h] -> [b*s, h]."""
        builder = self.builder
        query, key, value = [
            self._heads(dense(builder, self.variables, hidden, scope + "/" + part), scope)
            for part in ("query", "key", "value")
        ]
        with builder.scope(scope):
            scores = builder.op("BatchMatMulV2", (query, key), adj_x=False, adj_y=True)
            scale = scalar(builder, 1.0 / math.sqrt(self.config.head_size), "Mul/y")
            scores = builder.op("AddV2", (builder.op("Mul", (scores, scale)), adder), "add")
            probabilities = builder.op("Softmax", (scores,))  # [b, n, s, s]
            dropped = dropout(builder, probabilities, self.config.attention_probs_dropout_prob)
            context = builder.op("BatchMatMulV2", (dropped, value), adj_x=False, adj_y=False)
            perm = builder.constant([0, 2, 1, 3], "int64", "context/perm")
            context = builder.op("Transpose", (context, perm), "context")  # [b, s, n, d]
            return builder.op("Reshape", (context, self.sizes.matrix))

    def _heads(self, tensor: str, scope: str) -> str:
        """[b*s, h] -> [b, n, s, d]."""
        with self.builder.scope(scope):
            split = self.builder.op("Reshape", (tensor, self.sizes.heads))
            perm = self.builder.constant([0, 2, 1, 3], "int64", "transpose/perm")
            return self.builder.op("Transpose", (split, perm), "transpose")

    def _residual(self, scope: str, tensor: str, skipped: str) -> str:
        """``layer_norm(dropout(dense(tensor)) + skipped)``: [b*s, in] -> [b*s, h]."""
        projected = dense(self.builder, self.variables, tensor, scope + "/dense")
        with self.builder.scope(scope):
            dropped = dropout(self.builder, projected, self.config.hidden_dropout_prob)
            total = self.builder.op("AddV2", (dropped, skipped), "add")
        return self._layer_norm(total, scope)

    def _layer_norm(self, tensor: str, scope: str) -> str:
        epsilon = self.config.layer_norm_eps
        return layer_norm(self.builder, self.variables, tensor, scope + "/LayerNorm", epsilon)
