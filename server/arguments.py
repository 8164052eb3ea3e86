"""The flags: those of 1.10 with their meaning and default, and the few that are new.

Every flag of several words is also understood with two dashes and hyphens: ``-num_worker`` and
``--num-worker`` are the same.
"""

from __future__ import annotations

import argparse
from enum import Enum
from typing import Any

from bert_serving.client.version import __version__
from bert_serving.server.flags import (
    add_flag,
    count,
    fraction,
    max_seq_len,
    port,
    positive,
    yes_or_no,
)

__all__ = ["AUTO", "POOLING_CODES", "Default", "get_args_parser", "get_shutdown_parser"]


class Default(Enum):
    """A default that depends on the model; an enum, for it stays itself when copied."""

    AUTO = "auto"


#: Value of a flag that the user didn't name and whose default depends on the model.
AUTO = Default.AUTO

#: The strategies, by the numbers that 1.10 reports for them in SHOW_CONFIG.
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
}

ENGINES = ("auto", "onnxruntime", "echo")


def get_args_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-start``."""
    parser = argparse.ArgumentParser(
        prog="bert-serving-start",
        description="Serve sentence and token embeddings of a BERT model.",
    )
    _add_model_flags(parser)
    _add_sequence_flags(parser)
    _add_serving_flags(parser)
    add_flag(parser, "verbose", action="store_true", help="log every request and batch")
    add_flag(parser, "version", action="version", version="%(prog)s " + __version__)
    return parser


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
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
        help="name of the checkpoint, without .index (default: %(default)s)",
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


def _add_sequence_flags(parser: argparse.ArgumentParser) -> None:
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
        help="%s; NONE gives a vector for every token (default: what the model names, or else "
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
        default=2,
        metavar="N",
        help="number of labels of a fine-tuned classifier (default: %(default)s)",
    )
    add_flag(
        group,
        "fixed_embed_length",
        action="store_true",
        help="with pooling NONE and a variable sequence length: always pad to the longest "
        "sequence that the model allows",
    )


def _add_serving_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("service", "how the service runs")
    add_flag(
        group,
        "host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 opens the service to the network "
        "(default: %(default)s)",
    )
    add_flag(
        group,
        "port",
        "port_in",
        "port_data",
        type=port,
        default=5555,
        metavar="PORT",
        help="port for requests (default: %(default)s)",
    )
    add_flag(
        group,
        "port_out",
        "port_result",
        type=port,
        default=5556,
        metavar="PORT",
        help="port for results (default: %(default)s)",
    )
    add_flag(group, "http_port", type=port, metavar="PORT", help="port for HTTP requests")
    add_flag(
        group,
        "http_max_connect",
        type=positive,
        default=10,
        metavar="N",
        help="most HTTP requests at a time (default: %(default)s)",
    )
    add_flag(
        group,
        "cors",
        default="*",
        metavar="ORIGIN",
        help="Access-Control-Allow-Origin of HTTP replies (default: %(default)s)",
    )
    add_flag(
        group,
        "num_worker",
        type=positive,
        default=1,
        metavar="N",
        help="worker processes, each with the whole model (default: %(default)s)",
    )
    add_flag(
        group,
        "max_batch_size",
        type=positive,
        default=256,
        metavar="ROWS",
        help="most texts computed in one batch (default: %(default)s)",
    )
    add_flag(
        group,
        "priority_batch_size",
        type=count,
        default=16,
        metavar="ROWS",
        help="requests of up to so many texts pass larger ones (default: %(default)s)",
    )
    add_flag(
        group,
        "prefetch_size",
        type=count,
        default=AUTO,
        metavar="N",
        help="batches that a worker holds ready beside the one that it computes (default: 1)",
    )
    _add_device_flags(parser.add_argument_group("devices", "what computes"))


def _add_device_flags(group: Any) -> None:
    add_flag(
        group,
        "engine",
        choices=ENGINES,
        default="auto",
        metavar="ENGINE",
        help="%s; echo computes no model, for testing (default: %%(default)s)" % ", ".join(ENGINES),
    )
    add_flag(group, "cpu", action="store_true", help="compute on the CPU also if there is a GPU")
    add_flag(
        group,
        "device_map",
        type=count,
        nargs="+",
        default=[],
        metavar="GPU",
        help="GPUs to use, by number from 0; workers take them in turn",
    )
    add_flag(
        group,
        "gpu_memory_fraction",
        type=fraction,
        default=0.5,
        metavar="SHARE",
        help="share of a GPU's memory that a worker may take (default: %(default)s)",
    )
    add_flag(group, "xla", action="store_true", help="compile the graph by XLA (TensorFlow only)")
    add_flag(group, "fp16", action="store_true", help="compute in float16")


def get_shutdown_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-terminate``."""
    parser = argparse.ArgumentParser(
        prog="bert-serving-terminate",
        description="Stop the server that listens on a port of this machine.",
    )
    add_flag(
        parser,
        "ip",
        default="localhost",
        metavar="ADDRESS",
        help="address that the server listens on (default: %(default)s)",
    )
    add_flag(
        parser,
        "port",
        "port_in",
        "port_data",
        type=port,
        required=True,
        metavar="PORT",
        help="the server's port for requests",
    )
    add_flag(
        parser,
        "timeout",
        type=positive,
        default=5000,
        metavar="MS",
        help="milliseconds to wait for the server (default: %(default)s)",
    )
    add_flag(parser, "version", action="version", version="%(prog)s " + __version__)
    return parser
