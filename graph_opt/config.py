"""The hyperparameters of a BERT, read from ``bert_config.json`` or ``config.json`` and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from bert_serving.graph_opt.errors import ModelError

__all__ = ["ACTIVATIONS", "BertConfig"]

# Name in the file -> what the builder computes.
ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",  # the erf form
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
# More layers than any model has; the names and shapes of their tensors are listed before a file is
# looked at.
_MOST_LAYERS = 1000


@dataclass(frozen=True)
class BertConfig:
    """What the shape of the network depends on. ``hidden_act`` is a key of ``ACTIVATIONS``."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1

    @property
    def head_size(self) -> int:
        """Components of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> BertConfig:
        """Read and check a parsed config file; ``where`` names it in messages.

        Raises:
            ModelError: a key is missing, or a value can't be; the message names file and key.
        """
        if not isinstance(values, Mapping):
            raise ModelError("%s holds no JSON object" % where)
        sizes = {key: _size(values, key, where) for key in _SIZES}
        if sizes["num_hidden_layers"] > _MOST_LAYERS:
            raise ModelError(
                "%s: num_hidden_layers is %d; at most %d are supported"
                % (where, sizes["num_hidden_layers"], _MOST_LAYERS)
            )
        hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
        if hidden % heads:
            raise ModelError(
                "%s: hidden_size %d is no multiple of num_attention_heads %d"
                % (where, hidden, heads)
            )
        return cls(
            hidden_act=_activation(values, where),
            layer_norm_eps=_number(values, "layer_norm_eps", 1e-12, 1.0, where),
            hidden_dropout_prob=_number(values, "hidden_dropout_prob", 0.1, 1.0, where),
            attention_probs_dropout_prob=_number(
                values, "attention_probs_dropout_prob", 0.1, 1.0, where
            ),
            **sizes,
        )


def _size(values: Mapping[str, Any], key: str, where: str) -> int:
    if key not in values:
        raise ModelError("%s: the key %r is missing" % (where, key))
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ModelError("%s: %s must be a positive integer, not %r" % (where, key, value))
    return value


def _number(values: Mapping[str, Any], key: str, default: float, below: float, where: str) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < below:
        raise ModelError("%s: %s must be a number from 0 to below 1, not %r" % (where, key, value))
    return float(value)


def _activation(values: Mapping[str, Any], where: str) -> str:
    value = values.get("hidden_act", "gelu")
    if not isinstance(value, str) or value.lower() not in ACTIVATIONS:
        raise ModelError(
            "%s: hidden_act %r isn't known; these are: %s" % (where, value, ", ".join(ACTIVATIONS))
        )
    return value.lower()
