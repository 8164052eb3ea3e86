"""Where in a checkpoint the value of each variable of a graph lies.

The graph's own saver knows: the node that restores all has control inputs from nodes that assign,
each of which assigns an output of a RestoreV2 to a variable, and the RestoreV2 has the names in the
checkpoint and the slices among its inputs. A variable that the saver doesn't restore is looked for
under its shared name, or else its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.dtypes import Opaque
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node, Variable, node_of, output_index
from bert_serving.graph_opt.sources.tensor_bundle import Bundle
from bert_serving.graph_opt.sources.tensor_slices import TensorSlice, parse_shape_and_slice
from bert_serving.graph_opt.tensor_proto import Shape

__all__ = ["VARIABLES", "Place", "find_variable", "saved_places"]

VARIABLES = ("VarHandleOp", "Variable", "VariableV2")

_ASSIGN = ("Assign", "AssignVariableOp")
# What may lie between a RestoreV2 and the assignment.
_BETWEEN = ("Cast", "Identity", "Reshape", "Snapshot")
# Two nodes are the same variable if these agree.
Identity = Tuple[Any, Any]


@dataclass(frozen=True)
class Place:
    """A tensor of a checkpoint, or a slice of it; ``reshaped`` when it is given another shape."""

    key: str
    full_shape: Optional[Tuple[int, ...]] = None
    slice: Optional[TensorSlice] = None
    reshaped: bool = False


def saved_places(nodes: Mapping[str, Node], restore_op: str) -> Dict[Identity, Place]:
    """Variable -> its place, by what the saver's node ``restore_op`` restores.

    Raises:
        GraphError: the saver's nodes are malformed.
    """
    places: Dict[Identity, Place] = {}
    waiting, seen = [node_of(restore_op)], set()
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op in _ASSIGN and len(node.data_inputs) == 2:
            variable = _skipped(nodes, node.data_inputs[0], ("Identity",))
            place = _restored(nodes, node.data_inputs[1])
            if variable is not None and variable.op in VARIABLES and place is not None:
                places[identity(variable)] = place
        else:
            waiting.extend(name[1:] for name in node.inputs if name.startswith("^"))
    return places


def identity(node: Node) -> Identity:
    """What two nodes agree in that stand for the same variable."""
    return _text(node.attrs.get("container", b"")), _text(
        node.attrs.get("shared_name")
    ) or node.name


def find_variable(node: Node, places: Mapping[Identity, Place], bundle: Bundle) -> Variable:
    """The variable that a node stands for, still in its file.

    Raises:
        GraphError: the checkpoint doesn't hold it, or holds something of another shape or dtype;
            the message says what, without naming files.
    """
    place = places.get(identity(node)) or Place(identity(node)[1])
    stored = bundle.variables.get(place.key)
    if stored is None:
        raise GraphError("there is no tensor %r in it" % place.key)
    dtype = node.attrs["dtype"]
    # Old versions of numpy refuse to compare a dtype with what they can't make one of.
    if isinstance(dtype, Opaque) or stored.dtype != dtype:
        raise GraphError(
            "the tensor %r is %s, the variable %s" % (place.key, _named(stored.dtype), dtype)
        )
    shape, load = stored.shape, stored.load
    if place.slice is not None:
        shape, load = _sliced(place, stored, bundle)
    declared: Shape = node.attrs.get("shape")
    if place.reshaped and declared is not None and None not in declared:
        wanted = tuple(size for size in declared if size is not None)
        if np.prod(wanted, dtype=np.int64) == np.prod(shape, dtype=np.int64):
            shape, load = wanted, partial(_reshaped, load, wanted)
    if not _fits(shape, declared):
        raise GraphError(
            "the tensor %r has the shape %s, the variable %s"
            % (place.key, list(shape), None if declared is None else list(declared))
        )
    return Variable(node.name, shape, stored.dtype, partial(_native, load, stored.dtype))


def _sliced(place: Place, stored: Variable, bundle: Bundle) -> Tuple[Tuple[int, ...], Any]:
    """Shape of a slice and how to load it."""
    assert place.slice is not None
    if stored.shape != place.full_shape:
        raise GraphError(
            "the tensor %r has the shape %s, the partitioned variable %s"
            % (place.key, list(stored.shape), list(place.full_shape or ()))
        )
    try:
        ranges = place.slice.ranges(stored.shape)
    except ValueError as error:
        raise GraphError("the tensor %r is to be read in %s" % (place.key, error)) from error
    return tuple(end - start for start, end in ranges), partial(bundle.load_part, place.key, ranges)


def _reshaped(load: Any, shape: Tuple[int, ...]) -> np.ndarray:
    return np.reshape(load(), shape)


def _native(load: Any, dtype: np.dtype) -> np.ndarray:
    return np.asarray(load(), dtype)


def _fits(shape: Iterable[int], declared: Shape) -> bool:
    if declared is None:
        return True
    found = tuple(shape)
    return len(found) == len(declared) and all(
        wanted in (None, size) for size, wanted in zip(found, declared)
    )


def _named(dtype: np.dtype) -> str:
    return "of a type that can't be read" if dtype.kind == "V" else str(dtype)


def _skipped(nodes: Mapping[str, Node], tensor: str, ops: Tuple[str, ...]) -> Optional[Node]:
    """The node of a tensor, or what it passes on."""
    node = nodes.get(node_of(tensor))
    for _ in range(len(nodes)):
        if node is None or node.op not in ops or not node.data_inputs:
            break
        node = nodes.get(node_of(node.data_inputs[0]))
    return node


def _restored(nodes: Mapping[str, Node], tensor: str) -> Optional[Place]:
    """The place that an assigned tensor is read from; None if it isn't read from a checkpoint."""
    reshaped = False
    for _ in range(len(nodes)):
        node = nodes.get(node_of(tensor))
        if node is None:
            return None
        if node.op == "RestoreV2" and len(node.data_inputs) == 3:
            names = _strings(nodes, node.data_inputs[1])
            slices = _strings(nodes, node.data_inputs[2])
            index = output_index(tensor)
            if index >= min(len(names), len(slices)):
                raise GraphError("%r has no output %d" % (node.name, index))
            return _place(names[index], slices[index], reshaped)
        if node.op not in _BETWEEN or not node.data_inputs:
            return None
        reshaped = reshaped or node.op == "Reshape"
        tensor = node.data_inputs[0]
    return None


def _place(key: str, text: str, reshaped: bool) -> Place:
    try:
        parsed = parse_shape_and_slice(text)
    except ValueError:
        raise GraphError("the saver reads %r in the slice %r" % (key, text)) from None
    return Place(key, reshaped=reshaped) if parsed is None else Place(key, *parsed, reshaped)


def _strings(nodes: Mapping[str, Node], tensor: str) -> List[str]:
    node = nodes.get(node_of(tensor))
    value = node.attrs.get("value") if node is not None else None
    if not isinstance(value, np.ndarray) or value.dtype != object:
        raise GraphError("%r should be a constant of strings" % tensor)
    return [_text(one) for one in value.ravel()]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
