"""The flags that say what computes: the engine, its precision, CPU or GPUs."""

from __future__ import annotations

import argparse

from bert_serving.graph_opt.flags import add_flag
from bert_serving.server.flags import count, fraction
from bert_serving.server.model_flags import AUTO

__all__ = ["add_device_flags"]

ENGINES = ("auto", "onnxruntime", "tensorflow", "echo")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """What computes."""
    group = parser.add_argument_group("devices", "what computes")
    add_flag(
        group,
        "engine",
        choices=ENGINES,
        default="auto",
        metavar="ENGINE",
        help="%s; auto is ONNX Runtime where it is installed, else TensorFlow; echo computes no "
        "model, for testing (default: %%(default)s)" % ", ".join(ENGINES),
    )
    add_flag(
        group,
        "precision",
        choices=PRECISIONS,
        default=AUTO,
        metavar="PRECISION",
        help="%s: in what the weights are kept and, on GPUs, computed with; int8 also computes in "
        "integers with ONNX Runtime on CPUs (default: fp32)" % ", ".join(PRECISIONS),
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
    add_flag(
        group,
        "xla",
        action="store_true",
        help="compile the graph by XLA (TensorFlow only), anew for each shape of a batch",
    )
    add_flag(group, "fp16", action="store_true", help="the same as -precision fp16")
