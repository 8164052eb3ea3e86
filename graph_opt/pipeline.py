"""From a model to the graph that is served: build it as it was trained, then run the passes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.bert import add_bert
from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import OptionError
from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.heads import check_head
from bert_serving.graph_opt.passes.attention_scale import attention_scale
from bert_serving.graph_opt.passes.check_operations import check_operations
from bert_serving.graph_opt.passes.conditionals import resolve_conditionals
from bert_serving.graph_opt.passes.dropout import remove_dropout
from bert_serving.graph_opt.passes.first_row import first_row
from bert_serving.graph_opt.passes.fold_constants import fold_constants
from bert_serving.graph_opt.passes.freeze import freeze
from bert_serving.graph_opt.passes.fuse_qkv import fuse_qkv
from bert_serving.graph_opt.passes.gather_heads import gather_heads
from bert_serving.graph_opt.passes.gelu import gelu
from bert_serving.graph_opt.passes.identities import remove_identities
from bert_serving.graph_opt.passes.layer_norm import layer_norm
from bert_serving.graph_opt.passes.narrow_integers import narrow_integers
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.passes.result import Pass
from bert_serving.graph_opt.passes.unpad import unpad
from bert_serving.graph_opt.pooling import (
    GraphOptions,
    add_every_layer,
    add_pooling,
    output_dimension,
)
from bert_serving.graph_opt.sources.model import ModelSource

__all__ = [
    "DEVICES",
    "PIPELINE",
    "PRECISIONS",
    "GraphOptions",
    "PassReport",
    "Report",
    "build",
    "optimize",
    "output_dimension",
    "pipeline_for",
]

#: What every graph goes through, in this order.
PIPELINE: Tuple[Tuple[str, Pass], ...] = (
    # From training to inference. Only then are weights read, and only those that are left.
    ("conditionals", resolve_conditionals),
    ("dropout", remove_dropout),
    ("identities", remove_identities),
    ("prune", prune),
    ("check_operations", check_operations),
    ("freeze", freeze),
    # The same in fewer steps; first_row and the two for attention look for canonical forms.
    ("fold_constants", fold_constants),
    ("layer_norm", layer_norm),
    ("gelu", gelu),
    ("first_row", first_row),
    ("attention_scale", attention_scale),
    ("fuse_qkv", fuse_qkv),
    # The same in fewer bytes; pipeline_for adds what the precision asks for.
    ("narrow_integers", narrow_integers),
)

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
DEVICES = ("cpu", "gpu")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PassReport:
    """What one pass did. Bytes are those of constants and variables."""

    name: str
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    seconds: float
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What each pass of a pipeline did, in order."""

    passes: Tuple[PassReport, ...]

    def lines(self) -> Sequence[str]:
        """One readable line a pass."""
        return [
            "%s: nodes %d -> %d, bytes %d -> %d, %.2f s%s"
            % (
                one.name,
                one.nodes_before,
                one.nodes_after,
                one.bytes_before,
                one.bytes_after,
                one.seconds,
                "".join("; " + note for note in one.notes),
            )
            for one in self.passes
        ]


def build(source: ModelSource, options: GraphOptions) -> Graph:
    """The model's graph in its training form, with pooling; its output is ``final_encodes``.

    With ``options.every_layer`` without it; its outputs are those of ``add_every_layer``.

    Raises:
        OptionError: a pooling layer that the model doesn't have.
        ModelError: CLS_POOLED of weights without a pooler.
    """
    options.check_layers(source.config)
    check_head(source, options.pooling_strategy, options.num_labels)
    builder = GraphBuilder()
    tensors = add_bert(builder, source.config, source.variables, options.position_embeddings)
    if options.every_layer:
        return builder.build(add_every_layer(builder, tensors))
    return builder.build(add_pooling(builder, tensors, options, source.variables))


def pipeline_for(
    precision: str = "fp32", target: str = "onnx", device: str = "cpu", packed: bool = False
) -> Tuple[Tuple[str, Pass], ...]:
    """The passes, by name and in order, for a precision, a target and a kind of device.

    ``target`` is one of ``targets.TARGETS``, ``device`` one of ``DEVICES``: CPUs store weights in
    half precision and compute in float32, GPUs compute in half. int8 computes in integers in ONNX
    on CPUs; elsewhere it is a way of storing. A ``packed`` graph takes batches without padding, see
    the pass ``unpad``.

    Raises:
        OptionError: an unknown precision or device.
    """
    if device not in DEVICES:
        raise OptionError("device %r isn't one of %s" % (device, ", ".join(DEVICES)))
    if precision not in PRECISIONS:
        raise OptionError("precision %r isn't one of %s" % (precision, ", ".join(PRECISIONS)))
    passes = PIPELINE
    if packed:
        # Behind those that look for attention on padded rows, before what reads no shapes.
        place = [name for name, _ in PIPELINE].index("fuse_qkv")
        fused = ("unpad", unpad), PIPELINE[place], ("gather_heads", gather_heads)
        passes = PIPELINE[:place] + fused + PIPELINE[place + 1 :]
    return passes + _precision_passes(precision, target, device)


def optimize(
    graph: Graph,
    pipeline: Sequence[Tuple[str, Pass]] = PIPELINE,
    progress: Optional[Progress] = None,
) -> Tuple[Graph, Report]:
    """Run the passes in order; the graph given stays as it is.

    ``progress(done, total, name)`` is called before each pass.

    Raises:
        GraphError: a malformed graph.
        ModelError: a weight file is damaged.
    """
    reports = []
    for done, (name, run) in enumerate(pipeline):
        if progress is not None:
            progress(done, len(pipeline), name)
        started = time.perf_counter()
        result, notes = run(graph)
        seconds = time.perf_counter() - started
        reports.append(
            PassReport(
                name=name,
                nodes_before=len(graph),
                nodes_after=len(result),
                bytes_before=graph.nbytes(),
                bytes_after=result.nbytes(),
                seconds=seconds,
                notes=notes + _notes(graph, result),
            )
        )
        graph = result
    graph.validate()
    return graph, Report(tuple(reports))


def _precision_passes(precision: str, target: str, device: str) -> Tuple[Tuple[str, Pass], ...]:
    # Imported when it is asked for: bfloat16 needs a package that Python 3.7 hasn't.
    if precision == "fp32":
        return ()
    if precision == "int8":
        from bert_serving.graph_opt.passes.quantize import quantize

        in_integers = target == "onnx" and device == "cpu"
        convert = ("quantize", partial(quantize, arithmetic=in_integers))
    else:
        from bert_serving.graph_opt.dtypes import bfloat16
        from bert_serving.graph_opt.passes.downcast import downcast

        dtype = np.dtype("float16") if precision == "fp16" else bfloat16()
        convert = ("downcast", partial(downcast, dtype=dtype, arithmetic=device == "gpu"))
    return (convert, ("prune", prune))


def _notes(before: Graph, after: Graph) -> Tuple[str, ...]:
    """Differences worth a word: variables that went, and dtypes that changed."""
    notes = []
    if len(before.variables) != len(after.variables):
        notes.append("variables %d -> %d" % (len(before.variables), len(after.variables)))
    dtypes = _dtype_counts(before), _dtype_counts(after)
    for name in sorted(set(dtypes[0]) | set(dtypes[1])):
        counts = dtypes[0].get(name, 0), dtypes[1].get(name, 0)
        if counts[0] < counts[1]:
            notes.append("%s attributes %d -> %d" % ((name,) + counts))
    return tuple(notes)


def _dtype_counts(graph: Graph) -> Mapping[str, int]:
    counts: Dict[str, int] = {}
    for node in graph:
        for value in node.attrs.values():
            if isinstance(value, np.dtype):
                counts[str(value)] = counts.get(str(value), 0) + 1
    return counts
