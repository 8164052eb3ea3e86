"""The flags that say which model is served, and how its vectors are made."""

from __future__ import annotations

import argparse
from enum import Enum
from typing import Any

from bert_serving.graph_opt.flags import add_flag, positive, yes_or_no
from bert_serving.server.flags import max_seq_len

__all__ = ["AUTO", "POOLING_CODES", "Default", "add_model_flags", "add_sequence_flags"]


class Default(Enum):
    """A default that depends on the model; an enum, for it stays itself when copied."""

    AUTO = "auto"


#: Value of a flag that the user didn't name and whose default depends on the model.
AUTO = Default.AUTO

#: The strategies, by the numbers that 1.10 reports for them in SHOW_CONFIG. 1.10 has no heads.
POOLING_CODES = {
    "NONE": 0,
    "REDUCE_MAX": 1,
    "REDUCE_MEAN": 2,
    "REDUCE_MEAN_MAX": 3,
    "FIRST_TOKEN": 4,
    "LAST_TOKEN": 5,
    "CLS_TOKEN": 4,
    "SEP_TOKEN": 5,
    "CLS_POOLED": 6,
    "CLASSIFICATION": 7,
    "REGRESSION": 8,
}


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Which model to serve."""
    group = parser.add_argument_group("model", "which model to serve")
    add_flag(
        group,
        "model_dir",
        metavar="MODEL",
        help="a directory in Google's layout (bert_config.json, vocab.txt, bert_model.ckpt.*) or "
        "in Hugging Face's (config.json, model.safetensors, vocab.txt), or the id of a model on "
        "the Hugging Face hub; default: sentence-transformers/all-MiniLM-L6-v2",
    )
    add_flag(
        group,
        "tuned_model_dir",
        metavar="DIR",
        help="directory of a fine-tuned checkpoint, in place of the one in model_dir",
    )
    add_flag(
        group,
        "ckpt_name",
        default="bert_model.ckpt",
        metavar="NAME",
        help="name of the checkpoint, without .index; where there is none of the default name, the "
        "newest one is taken (default: %(default)s)",
    )
    add_flag(
        group,
        "config_name",
        default="bert_config.json",
        metavar="NAME",
        help="name of the model's configuration file (default: %(default)s)",
    )
    add_flag(
        group,
        "graph_tmp_dir",
        metavar="DIR",
        help="where to keep the optimized graph (default: the user's cache directory)",
    )


def add_sequence_flags(parser: argparse.ArgumentParser) -> None:
    """How text becomes a vector."""
    group = parser.add_argument_group("sequences", "how text becomes a vector")
    add_flag(
        group,
        "max_seq_len",
        type=max_seq_len,
        default=AUTO,
        metavar="N",
        help="longest sequence in tokens, special ones included; longer ones are cut on the "
        "right. NONE: whatever the model allows (default: 25 in Google's layout, the model's "
        "own limit in Hugging Face's)",
    )
    add_flag(
        group,
        "cased_tokenization",
        dest="do_lower_case",
        action="store_const",
        const=False,
        default=AUTO,
        help="keep upper case and accents, for cased models (default: what a Hugging Face "
        "directory says; no in Google's layout)",
    )
    _add_pooling_flags(group)
    _add_token_flags(group)


def _add_token_flags(group: Any) -> None:
    add_flag(
        group,
        "mask_cls_sep",
        action="store_true",
        help="leave [CLS] and [SEP] out of attention and pooling",
    )
    add_flag(
        group,
        "no_special_token",
        action="store_true",
        help="put no [CLS] and [SEP] around texts that come already tokenized",
    )
    add_flag(
        group,
        "show_tokens_to_client",
        action="store_true",
        help="send the tokens to clients that ask for them",
    )
    add_flag(
        group,
        "no_position_embeddings",
        action="store_true",
        help="run the model without its position embeddings",
    )
    add_flag(
        group,
        "num_labels",
        type=positive,
        default=AUTO,
        metavar="N",
        help="number of labels of a fine-tuned classifier (default: as many as it has)",
    )
    add_flag(
        group,
        "fixed_embed_length",
        action="store_true",
        help="with pooling NONE and a variable sequence length: always pad to the longest "
        "sequence that the model allows",
    )


def _add_pooling_flags(group: Any) -> None:
    add_flag(
        group,
        "pooling_layer",
        type=int,
        nargs="+",
        default=AUTO,
        metavar="LAYER",
        help="encoder layers to pool, 0 being the first and -1 the last; several are "
        "concatenated (default: what the model names, or else -2)",
    )
    add_flag(
        group,
        "pooling_strategy",
        choices=sorted(POOLING_CODES),
        default=AUTO,
        metavar="STRATEGY",
        help="%s; NONE gives a vector for every token, CLASSIFICATION the probabilities and "
        "REGRESSION the logits of a fine-tuned classifier (default: what the model names, or else "
        "REDUCE_MEAN)" % ", ".join(sorted(POOLING_CODES)),
    )
    add_flag(
        group,
        "normalize",
        type=yes_or_no,
        default=AUTO,
        metavar="true|false",
        help="scale sentence vectors to unit length (default: what the model names, or else false)",
    )
    add_flag(
        group,
        "fixed_pooling",
        action="store_true",
        help="answer only with the server's own pooling; else requests may ask for another",
    )
