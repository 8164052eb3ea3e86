"""The heads of fine-tuned classifiers, over the pooled first token.

Google's ``run_classifier.py`` keeps the head in the variables ``output_weights`` [labels, hidden]
and ``output_bias`` [labels]; Hugging Face's BertForSequenceClassification in ``classifier.weight``
and ``classifier.bias`` of the same shapes.

Shapes: b batch, h hidden size, l labels.
"""

from __future__ import annotations

from typing import Mapping

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import ModelError, OptionError
from bert_serving.graph_opt.graph import Variable
from bert_serving.graph_opt.sources.model import ModelSource
from bert_serving.graph_opt.variables import (
    HEAD_BIAS,
    HEAD_WEIGHTS,
    POOLER_BIAS,
    POOLER_KERNEL,
    has_pooler,
)

__all__ = ["HEADS", "add_head", "check_head"]

#: Pooling strategies that end in a head: its probabilities, and its logits.
HEADS = ("CLASSIFICATION", "REGRESSION")

_STORED = {
    "google": (HEAD_WEIGHTS, HEAD_BIAS),
    "huggingface": ("classifier.weight", "classifier.bias"),
}


def check_head(source: ModelSource, strategy: str, num_labels: int) -> None:
    """See whether the weights hold what a strategy needs beyond the encoder; no tensor is read.

    Raises:
        ModelError: the pooler or the head is missing, or the head fits no pooled vector.
        OptionError: the head has another number of labels.
    """
    if strategy not in ("CLS_POOLED",) + HEADS:
        return
    if not has_pooler(source.variables):
        raise ModelError(
            "%s: the weights hold no tensor %r and %r, which the pooling strategy %s needs:"
            " choose another strategy" % (source.directory, POOLER_KERNEL, POOLER_BIAS, strategy)
        )
    if strategy in HEADS:
        _check_labels(source, strategy, num_labels)


def add_head(
    builder: GraphBuilder, variables: Mapping[str, Variable], pooled: str, strategy: str
) -> str:
    """``pooled @ output_weights.T + output_bias``, and its softmax for CLASSIFICATION.

    float32 [b, h] -> [b, l]. :func:`check_head` tells early, and better, what may be wrong.

    Raises:
        OptionError: there is no head among the variables.
    """
    if HEAD_WEIGHTS not in variables or HEAD_BIAS not in variables:
        raise OptionError("%s needs a classifier's head, and the model has none" % strategy)
    weights = builder.variable(variables[HEAD_WEIGHTS])
    bias = builder.variable(variables[HEAD_BIAS])
    product = builder.op("MatMul", (pooled, weights), transpose_a=False, transpose_b=True)
    logits = builder.op("BiasAdd", (product, bias), "logits", data_format="NHWC")
    if strategy == "REGRESSION":
        return logits
    return builder.op("Softmax", (logits,), "probabilities")


def _check_labels(source: ModelSource, strategy: str, num_labels: int) -> None:
    indices = [str(path) for path in source.files if path.suffix == ".index"]
    where = indices[0][: -len(".index")] if indices else str(source.directory)
    names = _STORED[source.layout]
    variables = source.variables
    missing = [
        stored for name, stored in zip((HEAD_WEIGHTS, HEAD_BIAS), names) if name not in variables
    ]
    if missing:
        raise ModelError(
            "%s holds no floating-point tensor %s, which the pooling strategy %s needs: it is for"
            " checkpoints of fine-tuned classifiers (Google's run_classifier, Hugging Face's"
            " BertForSequenceClassification); name one, or choose another strategy"
            % (where, " and ".join(repr(name) for name in missing), strategy)
        )
    weights, bias = variables[HEAD_WEIGHTS].shape, variables[HEAD_BIAS].shape
    if len(weights) != 2 or weights[1] != source.config.hidden_size or bias != weights[:1]:
        raise ModelError(
            "%s: the tensors %r and %r have the shapes %s and %s, which is no classifier over"
            " vectors of %d components"
            % (where, names[0], names[1], list(weights), list(bias), source.config.hidden_size)
        )
    if weights[0] != num_labels:
        raise OptionError(
            "%s is a classifier of %d labels, not %d: name its number by -num_labels %d"
            % (where, weights[0], num_labels, weights[0])
        )
