"""Nodes <-> NodeDef messages.

==================  ====================================================
AttrValue           attribute of a :class:`Node`
==================  ====================================================
``type``            numpy.dtype, or ``dtypes.Opaque``
``shape``           tuple with None for unknown dimensions; None
``tensor``          ndarray
``func``            :class:`Function`
``placeholder``     :class:`AttrReference`, only within a function's body
``s``               bytes; str is written, too
``i``, ``f``, ``b`` int, float, bool
``list``            tuple of any one of these
==================  ====================================================

An empty tuple is a shape or a list, and so is a tuple of numbers: the attribute's name decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.dtypes import Opaque, data_type_number, dtype_of
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.tensor_proto import Room, array_of, shape_of, shape_proto, tensor_proto
from bert_serving.graph_opt.tf_messages import AttrValue, NodeDef

__all__ = [
    "AttrReference",
    "Function",
    "attr_of",
    "attr_value",
    "node_def",
    "node_of_def",
    "nodes_of",
]

# The names of all attributes of the type "shape" in the registries of TensorFlow 1.15 and 2.21;
# none of them has another type in any operation.
SHAPE_ATTRS = frozenset(
    ("element_shape", "element_shape_except0", "full_shape", "shape", "value_shape")
)


@dataclass(frozen=True)
class Function:
    """A function of the graph's library, with the attributes that it is called with."""

    name: str
    attrs: Tuple[Tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class AttrReference:
    """Stands for an attribute of the function that the node is in."""

    name: str


def nodes_of(graph_def: Any) -> List[Node]:
    """The nodes of a GraphDef, without devices and private attributes (``_class`` and so on).

    Raises:
        GraphError: a node has no name or no operation, or a constant is damaged; names the node.
    """
    room = Room()
    return [node_of_def(proto, room) for proto in graph_def.node]


def node_of_def(proto: Any, room: Optional[Room] = None) -> Node:
    """The node of one NodeDef; see :func:`nodes_of`, and :func:`array_of` for the ``room``."""
    if not proto.name or not proto.op:
        raise GraphError("a node %r has the operation %r" % (proto.name, proto.op))
    try:
        attrs = {
            name: attr_of(proto.attr[name], room)
            for name in sorted(proto.attr)
            if not name.startswith("_")
        }
    except GraphError as error:
        raise GraphError("%s %r: %s" % (proto.op, proto.name, error)) from error
    return Node(proto.name, proto.op, tuple(proto.input), attrs)


def node_def(node: Node) -> Any:
    """The NodeDef of a node.

    Raises:
        GraphError: an attribute has a value that TensorFlow can't hold; names it.
    """
    proto = NodeDef(name=node.name, op=node.op)
    proto.input.extend(node.inputs)
    for name, value in node.attrs.items():
        try:
            proto.attr[name].CopyFrom(attr_value(name, value))
        except (GraphError, OverflowError, TypeError, ValueError) as error:
            raise GraphError(
                "%s %r: the attribute %s: %s" % (node.op, node.name, name, error)
            ) from error
    return proto


def attr_of(proto: Any, room: Optional[Room] = None) -> Any:
    """The value of an AttrValue; one that says nothing is an empty list, as in TensorFlow."""
    kind = proto.WhichOneof("value")
    if kind is None:
        return ()
    if kind == "list":
        for name in _KINDS:
            values = getattr(proto.list, name, None)
            if values:
                return tuple(_read(name, value, room) for value in values)
        return ()
    return _read(kind, getattr(proto, kind), room)


def _read(kind: str, value: Any, room: Optional[Room]) -> Any:
    if kind == "tensor":
        return array_of(value, room)
    return _function(value, room) if kind == "func" else _READERS[kind](value)


def attr_value(name: str, value: Any) -> Any:
    """The AttrValue of an attribute.

    Raises:
        GraphError: TensorFlow has no kind of attribute for the value.
    """
    if value is None or (name in SHAPE_ATTRS and isinstance(value, tuple)):
        return AttrValue(shape=shape_proto(value))
    if not isinstance(value, (tuple, list)):
        kind, converted = _written(value)
        return AttrValue(**{kind: converted})
    proto = AttrValue()
    proto.list.SetInParent()
    for item in value:
        kind, converted = ("shape", shape_proto(item)) if _is_shape(item) else _written(item)
        if any(field.name != kind for field, _ in proto.list.ListFields()):
            raise GraphError("a list of values of several kinds: %r" % (value,))
        getattr(proto.list, kind).append(converted)
    return proto


def _is_shape(value: Any) -> bool:
    return value is None or isinstance(value, (tuple, list))


def _function(proto: Any, room: Optional[Room]) -> Function:
    attrs = ((name, attr_of(proto.attr[name], room)) for name in sorted(proto.attr))
    return Function(proto.name, tuple(attrs))


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "type": dtype_of,
    "shape": shape_of,
    "placeholder": AttrReference,
    "s": bytes,
    "i": int,
    "f": float,
    "b": bool,
}
_KINDS = ("type", "shape", "tensor", "func", "placeholder", "s", "i", "f", "b")


def _written(value: Any) -> Tuple[str, Any]:
    """(field of AttrValue, what goes into it)."""
    if isinstance(value, (np.dtype, Opaque, type)):
        return "type", data_type_number(value)
    if isinstance(value, np.ndarray):
        return "tensor", tensor_proto(value)
    if isinstance(value, (bool, np.bool_)):
        return "b", bool(value)
    if isinstance(value, (int, np.integer)):
        return "i", int(value)
    if isinstance(value, (float, np.floating)):
        return "f", float(value)
    if isinstance(value, (bytes, str)):
        return "s", value.encode("utf-8") if isinstance(value, str) else value
    if isinstance(value, AttrReference):
        return "placeholder", value.name
    if isinstance(value, Function):
        proto = AttrValue().func
        proto.name = value.name
        for name, one in value.attrs:
            proto.attr[name].CopyFrom(attr_value(name, one))
        return "func", proto
    raise GraphError("TensorFlow has no attribute like %r" % (value,))
