"""The flags of the command ``bert-serving-optimize``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bert_serving.graph_opt.flags import add_flag, fraction_from_zero, names, positive, yes_or_no
from bert_serving.graph_opt.pipeline import DEVICES, PRECISIONS
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES
from bert_serving.graph_opt.targets import TARGETS

__all__ = ["get_optimize_parser"]


def get_optimize_parser() -> argparse.ArgumentParser:
    """The parser of ``bert-serving-optimize``. A flag that isn't named is None, or False."""
    parser = argparse.ArgumentParser(
        prog="bert-serving-optimize",
        description="Turn a BERT checkpoint or a TensorFlow training graph into a graph that is "
        "fast at inference, and check that it computes the same.",
        epilog="Exit status: 0 all is well, 1 the optimized graph computes something else, 2 it "
        "can't be made, 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        help="a model directory in Google's or Hugging Face's layout, or a TensorFlow graph: "
        "a .meta file or the prefix of its checkpoint, a .pb file, or a SavedModel directory",
    )
    parser.add_argument(
        "-o",
        "-output",
        "--output",
        dest="output",
        metavar="OUT",
        type=Path,
        required=True,
        help="where to write the optimized graph: a file, with the target savedmodel a directory",
    )
    _add_what(parser.add_argument_group("what to make"))
    model = parser.add_argument_group("model directories", "which weights, and how to pool")
    _add_vectors(model)
    _add_weights(model)
    _add_tensors(parser.add_argument_group("TensorFlow graphs", "what to keep of them"))
    _add_report(parser.add_argument_group("check and report"))
    return parser


def _add_what(group: Any) -> None:
    add_flag(
        group,
        "target",
        choices=TARGETS,
        default="onnx",
        help="ONNX, TensorFlow's frozen GraphDef, or a SavedModel (default: %(default)s)",
    )
    add_flag(
        group,
        "precision",
        choices=PRECISIONS,
        default="fp32",
        help="what the weights are stored in (default: %(default)s)",
    )
    add_flag(
        group,
        "device",
        choices=DEVICES,
        default="cpu",
        help="what the graph will run on (default: %(default)s)",
    )


def _add_vectors(group: Any) -> None:
    add_flag(
        group,
        "pooling_strategy",
        choices=sorted(POOLING_STRATEGIES),
        metavar="STRATEGY",
        help="%s; NONE gives a vector for every token (default: what the model names, or else "
        "REDUCE_MEAN)" % ", ".join(sorted(POOLING_STRATEGIES)),
    )
    add_flag(
        group,
        "pooling_layer",
        type=int,
        nargs="+",
        metavar="LAYER",
        help="encoder layers to pool, 0 being the first and -1 the last; several are "
        "concatenated (default: what the model names, or else -2)",
    )
    add_flag(
        group,
        "normalize",
        type=yes_or_no,
        metavar="true|false",
        help="scale vectors to unit length (default: what the model names, or else false)",
    )
    add_flag(
        group,
        "num_labels",
        type=positive,
        metavar="N",
        help="labels of a fine-tuned classifier (default: as many as its weights have)",
    )
    add_flag(
        group,
        "no_position_embeddings",
        action="store_true",
        help="run the model without its position embeddings",
    )


def _add_weights(group: Any) -> None:
    add_flag(
        group, "ckpt_name", metavar="NAME", help="checkpoint's name (default: bert_model.ckpt)"
    )
    add_flag(
        group,
        "config_name",
        metavar="NAME",
        help="configuration file's name (default: bert_config.json)",
    )
    add_flag(
        group,
        "tuned_model_dir",
        metavar="DIR",
        help="directory of a fine-tuned checkpoint, in place of the one in MODEL",
    )


def _add_tensors(group: Any) -> None:
    add_flag(
        group,
        "inputs",
        type=names,
        metavar="NAME,NAME",
        help="placeholders that are fed at inference; leave it out to see what there is",
    )
    add_flag(
        group,
        "outputs",
        type=names,
        metavar="NAME,NAME",
        help="tensors to compute; leave it out to see what there is",
    )
    add_flag(
        group,
        "checkpoint",
        metavar="PREFIX",
        help="checkpoint of the graph's variables (default: the one beside the .meta file)",
    )


def _add_report(group: Any) -> None:
    add_flag(
        group,
        "no_check",
        action="store_true",
        help="don't compare the result with the original on random input",
    )
    add_flag(
        group,
        "tolerance",
        type=fraction_from_zero,
        metavar="X",
        help="largest deviation accepted: with fp32 the difference relative to the largest "
        "component, otherwise 1 minus the cosine (default: 1e-4; bf16 1e-3, int8 5e-2)",
    )
    add_flag(
        group,
        "plot",
        type=Path,
        metavar="FILE",
        help="draw the graph before and after: .svg, .png or .pdf, which needs Graphviz, or .dot",
    )
    add_flag(group, "json", action="store_true", help="write the report as one JSON object")
    add_flag(group, "verbose", action="store_true", help="also say what passes left alone, and why")
