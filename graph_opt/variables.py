"""The trained tensors of a BERT under Google's names, and the shapes that a config gives them."""

from __future__ import annotations

from typing import Dict, Mapping, Tuple

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.graph import Variable

__all__ = [
    "HEAD_BIAS",
    "HEAD_WEIGHTS",
    "POOLER_BIAS",
    "POOLER_KERNEL",
    "check_variables",
    "has_pooler",
    "variable_shapes",
]

Shape = Tuple[int, ...]

POOLER_KERNEL = "bert/pooler/dense/kernel"
POOLER_BIAS = "bert/pooler/dense/bias"
# Only fine-tuned classifiers have these; their shapes depend on the number of labels.
HEAD_WEIGHTS = "output_weights"
HEAD_BIAS = "output_bias"


def variable_shapes(config: BertConfig) -> Dict[str, Shape]:
    """Variable name -> shape, pooler included; a dense kernel is [inputs, outputs]."""
    hidden = config.hidden_size
    embeddings = "bert/embeddings/"
    shapes: Dict[str, Shape] = {
        embeddings + "word_embeddings": (config.vocab_size, hidden),
        embeddings + "position_embeddings": (config.max_position_embeddings, hidden),
        embeddings + "token_type_embeddings": (config.type_vocab_size, hidden),
    }
    shapes.update(_layer_norm(embeddings + "LayerNorm", hidden))
    for index in range(config.num_hidden_layers):
        shapes.update(_layer("bert/encoder/layer_%d/" % index, hidden, config.intermediate_size))
    shapes.update(_dense("bert/pooler/dense", hidden, hidden))
    return shapes


def has_pooler(variables: Mapping[str, Variable]) -> bool:
    """Whether the weights hold the dense layer over the first token."""
    return POOLER_KERNEL in variables and POOLER_BIAS in variables


def check_variables(
    config: BertConfig, variables: Mapping[str, Variable], weights: str, config_file: str
) -> None:
    """Compare what the files hold with what the config asks for; no tensor is read.

    The pooler may be absent, but not half of it.

    Raises:
        ModelError: a tensor is missing or has another shape; the message names tensor and files.
    """
    pooler = (POOLER_KERNEL, POOLER_BIAS)
    pooler_absent = not any(name in variables for name in pooler)
    for name, expected in variable_shapes(config).items():
        if name not in variables:
            if pooler_absent and name in pooler:
                continue
            raise ModelError(
                "%s holds no tensor %r, which a model of %s needs" % (weights, name, config_file)
            )
        found = variables[name].shape
        if found != expected:
            raise ModelError(
                "%s: the tensor %r has shape %s, but %s makes it %s: are the weights and the config"
                " of the same model?" % (weights, name, list(found), config_file, list(expected))
            )


def _layer(scope: str, hidden: int, intermediate: int) -> Dict[str, Shape]:
    shapes: Dict[str, Shape] = {}
    for part in ("query", "key", "value"):
        shapes.update(_dense(scope + "attention/self/" + part, hidden, hidden))
    shapes.update(_dense(scope + "attention/output/dense", hidden, hidden))
    shapes.update(_layer_norm(scope + "attention/output/LayerNorm", hidden))
    shapes.update(_dense(scope + "intermediate/dense", hidden, intermediate))
    shapes.update(_dense(scope + "output/dense", intermediate, hidden))
    shapes.update(_layer_norm(scope + "output/LayerNorm", hidden))
    return shapes


def _dense(name: str, inputs: int, outputs: int) -> Dict[str, Shape]:
    return {name + "/kernel": (inputs, outputs), name + "/bias": (outputs,)}


def _layer_norm(name: str, size: int) -> Dict[str, Shape]:
    return {name + "/gamma": (size,), name + "/beta": (size,)}
