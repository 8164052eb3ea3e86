"""What is asked of the command, and reading the model that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Tuple

from bert_serving.graph_opt.defaults import resolve_options
from bert_serving.graph_opt.errors import OptionError
from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.pipeline import build
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import read_model

__all__ = ["Order", "OrderedGraph", "read_order"]

# Field of an order -> the flag that sets it.
_OF_GRAPHS = {"inputs": "inputs", "outputs": "outputs", "checkpoint": "checkpoint"}
_OF_DIRECTORIES = {
    "pooling_strategy": "pooling-strategy",
    "pooling_layers": "pooling-layer",
    "normalize": "normalize",
    "num_labels": "num-labels",
    "position_embeddings": "no-position-embeddings",
    "ckpt_name": "ckpt-name",
    "config_name": "config-name",
    "tuned_model_dir": "tuned-model-dir",
}


@dataclass(frozen=True)
class Order:
    """What to make of what. None: not named, so that the model's own or 1.10's defaults hold."""

    model: Path
    output: Path
    target: str = "onnx"
    precision: str = "fp32"
    device: str = "cpu"
    # Of model directories.
    pooling_strategy: Optional[str] = None
    pooling_layers: Optional[Tuple[int, ...]] = None
    normalize: Optional[bool] = None
    position_embeddings: Optional[bool] = None
    num_labels: Optional[int] = None
    ckpt_name: Optional[str] = None
    config_name: Optional[str] = None
    tuned_model_dir: Optional[str] = None
    # Of TensorFlow graphs.
    inputs: Optional[Tuple[str, ...]] = None
    outputs: Optional[Tuple[str, ...]] = None
    checkpoint: Optional[str] = None
    # Of the check and the report.
    check: bool = True
    tolerance: Optional[float] = None
    plot: Optional[Path] = None


@dataclass(frozen=True)
class OrderedGraph:
    """``kind`` is "google", "huggingface" or "tensorflow", which has no options."""

    graph: Graph
    kind: str
    options: Optional[GraphOptions] = None


def read_order(order: Order) -> OrderedGraph:
    """Read the model that an order names, as a graph in its training form.

    Raises:
        OptionError: flags that are for the other kind of model, or that the model can't satisfy;
            nothing there.
        ModelError: the model's files are missing or damaged.
        GraphError: the file holds a malformed graph.
    """
    graph_file = _graph_file(order.model)
    if graph_file is None:
        _refuse(order, "a model directory", "a TensorFlow graph", _OF_GRAPHS)
        return _read_directory(order)
    _refuse(order, "a TensorFlow graph", "a model directory", _OF_DIRECTORIES)
    from bert_serving.graph_opt.sources.tf_graph import read_tf_graph

    graph = read_tf_graph(
        graph_file, order.inputs or (), order.outputs or (), checkpoint=order.checkpoint
    )
    return OrderedGraph(graph, "tensorflow")


def _graph_file(model: Path) -> Optional[Path]:
    """The path of a TensorFlow graph; None for a model directory.

    Raises:
        OptionError: nothing is there, or a file that holds no graph.
    """
    meta = model.with_name(model.name + ".meta")
    if model.is_dir():
        is_saved = (model / "saved_model.pb").is_file() or (model / "saved_model.pbtxt").is_file()
        return model if is_saved else None
    if model.is_file():
        if model.suffix in (".meta", ".pb"):
            return model
        raise OptionError(
            "%s is a file, but neither a .meta nor a .pb: name a model's directory, or a "
            "TensorFlow graph" % model
        )
    if meta.is_file():
        return meta
    raise OptionError(
        "%s doesn't exist, neither as a model directory, a .meta or .pb file or a SavedModel, nor "
        "as the prefix of a checkpoint with a graph (%s)" % (model, meta)
    )


def _read_directory(order: Order) -> OrderedGraph:
    names = {"config_name": order.config_name, "ckpt_name": order.ckpt_name}
    source = read_model(
        order.model,
        tuned_model_dir=order.tuned_model_dir,
        **{key: value for key, value in names.items() if value is not None},
    )
    options = resolve_options(
        source,
        pooling_strategy=order.pooling_strategy,
        pooling_layers=order.pooling_layers,
        normalize=order.normalize,
        position_embeddings=order.position_embeddings is not False,
        num_labels=order.num_labels,
    )
    return OrderedGraph(build(source, options), source.layout, options)


def _refuse(order: Order, kind: str, other: str, flags: Mapping[str, str]) -> None:
    named = ["--" + flag for name, flag in flags.items() if getattr(order, name) is not None]
    if named:
        raise OptionError(
            "%s is %s, and %s %s for %s only: leave %s out"
            % (
                order.model,
                kind,
                " and ".join(named),
                "is" if len(named) == 1 else "are",
                other,
                "it" if len(named) == 1 else "them",
            )
        )
