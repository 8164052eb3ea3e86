"""Finding and parsing the files of a TensorFlow graph: ``.meta``, frozen ``.pb`` or SavedModel."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from bert_serving.graph_opt.errors import GraphError, ModelError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.graph_def import node_of_def
from bert_serving.graph_opt.sources.op_defs import OpDefs
from bert_serving.graph_opt.tensor_proto import Room, Shape, shape_of
from bert_serving.graph_opt.tf_messages import GraphDef, MessageError, MetaGraphDef, decoded

__all__ = [
    "Signature",
    "TfFile",
    "checkpoint_prefix",
    "from_meta_graph",
    "parse",
    "read_graph_file",
]

_SUFFIXES = (".meta", ".index")
_INPUT = re.compile(r"\^?[^:^]+|[^:^]+:[0-9]{1,6}")
# What a saver calls the node that restores all, unless it is told otherwise.
RESTORE_OP = "save/restore_all"


@dataclass(frozen=True)
class Signature:
    """What a SavedModel is called with: name for callers -> tensor."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class TfFile:
    """A graph as its file has it."""

    path: Path
    nodes: Tuple[Node, ...]
    functions: Mapping[str, Any]  # name -> FunctionDef
    op_defs: OpDefs
    # The shapes that TensorFlow inferred, by node, where the file has them.
    output_shapes: Mapping[str, Tuple[Shape, ...]] = field(repr=False)
    restore_op: str = ""
    checkpoint: Optional[Path] = None
    signature: Optional[Signature] = None


def checkpoint_prefix(path: Path) -> Path:
    """``model.ckpt-7`` for any of the files of that checkpoint."""
    name = path.name
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return path.with_name(name[: -len(suffix)])
    before, _, after = name.rpartition(".data-")
    return path.with_name(before) if before and "-of-" in after else path


def read_graph_file(path: Path) -> TfFile:
    """Read a ``.meta`` (or what names it: its checkpoint), or a GraphDef; no tensor is read.

    Raises:
        ModelError: there is no such file, or it isn't a graph; names the file.
    """
    prefix = checkpoint_prefix(path)
    meta = Path(str(prefix) + ".meta")
    if prefix != path or (not path.is_file() and meta.is_file()):
        return from_meta_graph(parse(MetaGraphDef, meta), meta, prefix)
    if path.is_dir():
        found = sorted(one.name for one in path.glob("*.meta"))
        raise ModelError(
            "%s is a directory without saved_model.pb%s"
            % (path, "; it has the graphs %s: name one of them" % ", ".join(found) if found else "")
        )
    graph_def = parse(GraphDef, path)
    definitions = OpDefs(function.signature for function in _functions(graph_def))
    return _read(graph_def, path, definitions, restore_op=RESTORE_OP)


def from_meta_graph(
    meta: Any, path: Path, checkpoint: Optional[Path], signature: Optional[Signature] = None
) -> TfFile:
    """A graph with the definitions of its operations.

    Raises:
        ModelError: the graph is damaged or empty.
    """
    graph_def = meta.graph_def
    definitions = list(meta.meta_info_def.stripped_op_list.op)
    definitions += [function.signature for function in _functions(graph_def)]
    return _read(
        graph_def,
        path,
        OpDefs(definitions),
        restore_op=meta.saver_def.restore_op_name,
        checkpoint=checkpoint,
        signature=signature,
    )


def parse(message: Any, path: Path) -> Any:
    """The message that a file holds.

    Raises:
        ModelError: the file can't be read, or isn't such a message.
    """
    data = _read_bytes(path)
    try:
        return decoded(message, data)
    except MessageError as error:
        raise ModelError(_not_a_graph(path, data)) from error


def _read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        ModelError: it is missing or can't be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError("the graph %s is missing" % path) from None
    except OSError as error:
        raise ModelError("can't read %s: %s" % (path, error.strerror or error)) from error


def _functions(graph_def: Any) -> Any:
    return graph_def.library.function


def _not_a_graph(path: Path, data: bytes) -> str:
    if data[:64].lstrip().startswith((b"node {", b"node{", b"meta_info_def", b"versions {")):
        return (
            "%s holds a graph as text; save it in the binary form (tf.io.write_graph with"
            " as_text=False)" % path
        )
    return "%s isn't a readable TensorFlow graph: it may be cut off, or of another format" % path


def _read(graph_def: Any, path: Path, op_defs: OpDefs, **rest: Any) -> TfFile:
    if not graph_def.node:
        raise ModelError("%s holds no TensorFlow graph, or an empty one" % path)
    nodes: Dict[str, Node] = {}
    shapes: Dict[str, Tuple[Shape, ...]] = {}
    room = Room()
    try:
        for proto in graph_def.node:
            node = node_of_def(proto, room)
            wrong = [name for name in node.inputs if not _INPUT.fullmatch(name)]
            if wrong:
                raise GraphError("%r has an input %r" % (node.name, wrong[0]))
            if node.name in nodes:
                raise GraphError("two nodes are named %r" % node.name)
            nodes[node.name] = op_defs.completed(node)
            if "_output_shapes" in proto.attr:
                found = proto.attr["_output_shapes"].list.shape
                shapes[node.name] = tuple(shape_of(shape) for shape in found)
    except GraphError as error:
        raise ModelError("%s isn't a readable TensorFlow graph: %s" % (path, error)) from error
    functions = {one.signature.name: one for one in _functions(graph_def)}
    return TfFile(path, tuple(nodes.values()), functions, op_defs, shapes, **rest)
