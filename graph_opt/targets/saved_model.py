"""Writes a graph as a SavedModel, which TensorFlow Serving and TensorFlow 1.15 and 2.x load."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from bert_serving.graph_opt.dtypes import data_type_number
from bert_serving.graph_opt.errors import GraphError, OptionError
from bert_serving.graph_opt.files import PathLike
from bert_serving.graph_opt.graph import Graph, node_of, output_index
from bert_serving.graph_opt.ranks import tensor_ranks
from bert_serving.graph_opt.signatures import output_dtypes, output_slots
from bert_serving.graph_opt.targets.tf_graph import (
    Piece,
    check_size,
    delimited,
    graph_pieces,
    write_pieces,
)
from bert_serving.graph_opt.tensor_proto import Shape, shape_proto
from bert_serving.graph_opt.tf_messages import MetaGraphDef, SavedModel, TensorInfo

__all__ = ["METHOD", "SIGNATURE", "TAG", "write_saved_model"]

TAG = "serve"
SIGNATURE = "serving_default"
METHOD = "tensorflow/serving/predict"

_MODEL = "saved_model.pb"
_ENTRIES = frozenset((_MODEL, "assets", "assets.extra", "variables"))
# Field numbers: SavedModel.meta_graphs, MetaGraphDef.graph_def.
_META_GRAPHS, _GRAPH_DEF = 2, 2


def write_saved_model(graph: Graph, directory: PathLike) -> Tuple[Path, ...]:
    """Write a graph without variables to ``directory``; returns the files written.

    The signature "serving_default" takes the graph's inputs and gives its outputs under their own
    names. A SavedModel that is there already is replaced once the new one is complete; nothing is
    left behind on an error.

    Raises:
        GraphError: see :func:`bert_serving.graph_opt.targets.tf_graph.write_graph_def`.
        OptionError: the directory exists and has something else in it.
        OSError: it can't be written.
    """
    target = Path(directory)
    pieces = _wrapped(graph_pieces(graph), _meta_graph(graph))
    with _replacing_directory(target) as temporary:
        (temporary / "variables").mkdir()
        with (temporary / _MODEL).open("wb") as file:
            write_pieces(file, pieces)
    return (target / _MODEL,)


def _wrapped(graph_def: List[Piece], meta_graph: Any) -> List[Piece]:
    """A SavedModel of one MetaGraphDef of one GraphDef."""
    size = check_size(graph_def)
    rest = meta_graph.SerializeToString() + delimited(_GRAPH_DEF, size)
    head = SavedModel(saved_model_schema_version=1).SerializeToString()
    pieces = [Piece(head + delimited(_META_GRAPHS, len(rest) + size) + rest)] + graph_def
    check_size(pieces)
    return pieces


def _meta_graph(graph: Graph) -> Any:
    """The MetaGraphDef without its graph."""
    meta = MetaGraphDef()
    meta.meta_info_def.tags.append(TAG)
    # The oldest version that has all operations that are written.
    meta.meta_info_def.tensorflow_version = "1.15.0"
    signature = meta.signature_def[SIGNATURE]
    signature.method_name = METHOD
    for name in graph.inputs:
        attrs = graph[name].attrs
        info = _tensor_info(name, attrs["dtype"], attrs.get("shape"))
        signature.inputs[name].CopyFrom(info)
    ranks = _ranks(graph)
    for tensor in graph.outputs:
        node = graph[tensor]
        output_slots(node)  # says which operation it is that has no signature
        dtype = output_dtypes(node.op, node.attrs)[output_index(tensor)]
        shape = (None,) * ranks[node.name] if node.name in ranks else None
        signature.outputs[_plain(tensor)].CopyFrom(_tensor_info(tensor, dtype, shape))
    return meta


def _ranks(graph: Graph) -> Dict[str, int]:
    try:
        return tensor_ranks(graph)
    except (GraphError, KeyError):
        return {}  # the signature then says that the rank is unknown


def _tensor_info(tensor: str, dtype: Any, shape: Shape) -> Any:
    name = "%s:%d" % (node_of(tensor), output_index(tensor))
    number = data_type_number(dtype)
    return TensorInfo(name=name, dtype=number, tensor_shape=shape_proto(shape))


def _plain(tensor: str) -> str:
    return tensor[:-2] if tensor.endswith(":0") else tensor


@contextmanager
def _replacing_directory(target: Path) -> Iterator[Path]:
    """A new directory that takes the place of ``target`` if the block ends well."""
    if target.exists() and not (target.is_dir() and _is_ours(target)):
        raise OptionError(
            "%s exists and isn't a SavedModel, so it won't be replaced: name another directory"
            % target
        )
    unique = uuid.uuid4().hex
    temporary = target.with_name(".%s.%s" % (target.name, unique))
    old = target.with_name(".%s.%s.old" % (target.name, unique))
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            os.rename(str(target), str(old))
        try:
            os.rename(str(temporary), str(target))
        except OSError:
            if old.exists():
                os.rename(str(old), str(target))
            raise
    finally:
        for path in (temporary, old):
            if path.exists():
                shutil.rmtree(str(path))


def _is_ours(directory: Path) -> bool:
    entries = {path.name for path in directory.iterdir()}
    return not entries or (_MODEL in entries and entries <= _ENTRIES)
