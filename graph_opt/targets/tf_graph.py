"""Writes a graph as a frozen GraphDef, which TensorFlow 1.15 and 2.x import."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.dtypes import STRING
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.files import PathLike, replacing
from bert_serving.graph_opt.graph import Graph, Node, node_of, output_index
from bert_serving.graph_opt.graph_def import node_def
from bert_serving.graph_opt.signatures import SIGNATURES, input_slots, output_dtypes
from bert_serving.graph_opt.tensor_proto import octets, tensor_proto
from bert_serving.graph_opt.tf_messages import GraphDef

__all__ = [
    "SIZE_LIMIT",
    "Piece",
    "check_size",
    "delimited",
    "graph_pieces",
    "write_graph_def",
    "write_pieces",
]

# Protobuf's messages end here: TensorFlow can't read a longer one.
SIZE_LIMIT = (1 << 31) - 1

# The version of TensorFlow 1.15's graphs: newer ones understand an older producer, and nothing that
# is written needs a newer consumer.
_PRODUCER = 134

# Field numbers, all length-delimited: GraphDef.node, NodeDef.attr, value of a map's entry,
# AttrValue.tensor, TensorProto.tensor_content.
_NODE, _ATTR, _ENTRY_VALUE, _TENSOR, _CONTENT = 1, 5, 2, 8, 4

# Attributes that TensorFlow 1.15 doesn't know and refuses, with the value that means the same as
# their absence.
_NEWER: Mapping[Tuple[str, str], Any] = {
    ("BatchMatMulV2", "grad_x"): False,
    ("BatchMatMulV2", "grad_y"): False,
    ("GatherNd", "bad_indices_policy"): b"",
    ("MatMul", "grad_a"): False,
    ("MatMul", "grad_b"): False,
    ("ScatterNd", "bad_indices_policy"): b"",
    ("TopKV2", "Tk"): np.dtype("int32"),
    ("TopKV2", "index_type"): np.dtype("int32"),
}


class Piece(NamedTuple):
    """Bytes of a message, and an array whose octets follow them."""

    head: bytes
    array: Optional[np.ndarray] = None

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.head) + (0 if self.array is None else self.array.nbytes)


def write_graph_def(graph: Graph, path: PathLike) -> Tuple[Path, ...]:
    """Write a graph without variables to ``path``; returns the files written.

    Constants are written one after the other: memory for one at a time is needed. Nothing is left
    behind on an error.

    Raises:
        GraphError: a variable that isn't frozen, an attribute that TensorFlow can't hold, or more
            than 2**31 - 1 bytes.
        OSError: the file can't be written.
    """
    target = Path(path)
    pieces = graph_pieces(graph)
    with replacing(target) as file:
        write_pieces(file, pieces)
    return (target,)


def graph_pieces(graph: Graph) -> List[Piece]:
    """The GraphDef of a graph, serialized, with constants still as arrays.

    Raises:
        GraphError: see :func:`write_graph_def`.
    """
    if graph.variables:
        raise GraphError("the graph still has variables: freeze it first")
    versions = GraphDef()
    versions.versions.producer = _PRODUCER
    pieces = [_node_piece(node) for node in _completed(graph)]
    pieces.append(Piece(versions.SerializeToString()))
    check_size(pieces)
    return pieces


def check_size(pieces: List[Piece]) -> int:
    """The bytes of all pieces.

    Raises:
        GraphError: they are too many for one message.
    """
    total = sum(piece.size for piece in pieces)
    if total > SIZE_LIMIT:
        raise GraphError(
            "the graph takes %d bytes, and TensorFlow's graph files end at %d: write it as ONNX,"
            " which keeps tensors in a second file, or in a lower precision" % (total, SIZE_LIMIT)
        )
    return total


def write_pieces(file: Any, pieces: List[Piece]) -> None:
    """Append all pieces to a file."""
    for head, array in pieces:
        file.write(head)
        if array is not None:
            file.write(octets(array))


def delimited(field: int, size: int) -> bytes:
    """Tag and length of a length-delimited protobuf field."""
    result = bytearray([field << 3 | 2])
    while size > 0x7F:
        result.append(size & 0x7F | 0x80)
        size >>= 7
    result.append(size)
    return bytes(result)


def _node_piece(node: Node) -> Piece:
    """``GraphDef { node { ... } }``, the octets of a Const's value last."""
    value = node.attrs.get("value") if node.op == "Const" else None
    if value is None or value.dtype == STRING:
        body = node_def(node).SerializeToString()
        return Piece(delimited(_NODE, len(body)) + body)
    rest = {name: attr for name, attr in node.attrs.items() if name != "value"}
    body = node_def(Node(node.name, node.op, node.inputs, rest)).SerializeToString()
    # From the inside out: each message is its head and what was wrapped so far.
    head = tensor_proto(value, content=False).SerializeToString()
    head += delimited(_CONTENT, value.nbytes)
    key = b"\x0a\x05value"
    for field, before in ((_TENSOR, b""), (_ENTRY_VALUE, key), (_ATTR, body), (_NODE, b"")):
        head = before + delimited(field, len(head) + value.nbytes) + head
    return Piece(head, value)


def _completed(graph: Graph) -> Iterator[Node]:
    """The nodes in order, with the attributes that TensorFlow demands and no unknown ones."""
    dtypes: Dict[str, Tuple[Any, ...]] = {}
    for node in graph.topological():
        attrs = {name: value for name, value in node.attrs.items() if not _is_newer(node, name)}
        signature = SIGNATURES.get(node.op)
        if signature is not None:
            for tensor, slot in input_slots(node):
                known = dtypes.get(node_of(tensor), ())
                if isinstance(slot, str) and output_index(tensor) < len(known):
                    attrs.setdefault(slot, known[output_index(tensor)])
            if signature.repeats:
                attrs["N"] = len(node.data_inputs) - len(signature.inputs) + 1
            dtypes[node.name] = output_dtypes(node.op, attrs)
        control = tuple(name for name in node.inputs if name.startswith("^"))
        yield Node(node.name, node.op, node.data_inputs + control, attrs)


def _is_newer(node: Node, name: str) -> bool:
    key = (node.op, name)
    return key in _NEWER and bool(_NEWER[key] == node.attrs[name])
