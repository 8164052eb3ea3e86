"""What a graph file says of the operations in it: their outputs, and defaults of attributes.

A ``.meta`` and a SavedModel bring the definitions (OpDef) of the operations that they use, except
some of those in functions. A bare GraphDef doesn't. Then the optimizer's own table of signatures
has to do.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.dtypes import DataType, Opaque, dtype_of
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.graph_def import Function, attr_of
from bert_serving.graph_opt.signatures import DEFAULT_DTYPES, SIGNATURES, output_dtypes
from bert_serving.graph_opt.tensor_proto import Room

__all__ = ["OpDefs", "argument_dtypes"]

# Outputs that have names of their own, for graphs that bring no definitions. All other operations
# in the table of signatures have one output argument, if a list.
_OUTPUT_NAMES: Mapping[str, Tuple[str, ...]] = {
    "Merge": ("output", "value_index"),
    "Switch": ("output_false", "output_true"),
}


_MOST_OUTPUTS = 1 << 16


def _is_dtype(value: Any) -> bool:
    return isinstance(value, (np.dtype, Opaque))


def _is_dtypes(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_dtype, value))


def _is_shape(value: Any) -> bool:
    return value is None or isinstance(value, tuple)


def _is_function(value: Any) -> bool:
    return isinstance(value, Function)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < _MOST_OUTPUTS


# What is looked at before a graph is pruned: operation -> attributes that it must have.
_SOURCE: Mapping[str, Callable[[Any], bool]] = {"dtype": _is_dtype, "shape": _is_shape}
_CONDITIONAL: Mapping[str, Callable[[Any], bool]] = {
    "Tin": _is_dtypes,
    "then_branch": _is_function,
    "else_branch": _is_function,
}
_DEMANDED: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "Const": {"dtype": _is_dtype, "value": lambda value: isinstance(value, np.ndarray)},
    "If": _CONDITIONAL,
    "IteratorGetNext": {
        "output_types": _is_dtypes,
        "output_shapes": lambda value: isinstance(value, tuple) and all(map(_is_shape, value)),
    },
    "PartitionedCall": {"f": _is_function},
    "Placeholder": _SOURCE,
    "PlaceholderV2": _SOURCE,
    "PlaceholderWithDefault": _SOURCE,
    "StatefulPartitionedCall": {"f": _is_function},
    "StatelessIf": _CONDITIONAL,
    "VarHandleOp": _SOURCE,
    "Variable": _SOURCE,
    "VariableV2": _SOURCE,
}


class OpDefs:
    """Operations and functions by name, as OpDef messages."""

    def __init__(self, definitions: Any = ()) -> None:
        self._definitions: Dict[str, Any] = {one.name: one for one in definitions}
        self._room = Room()

    def completed(self, node: Node) -> Node:
        """The node with the attributes that the file leaves out because they have their default.

        Raises:
            GraphError: an attribute is missing that matters here, or has another type.
        """
        definition = self._definitions.get(node.op)
        if definition is not None:
            missing = {
                one.name: attr_of(one.default_value, self._room)
                for one in definition.attr
                if one.HasField("default_value") and one.name not in node.attrs
            }
            node = node.with_attrs(**missing) if missing else node
        if node.op == "Placeholder" and "shape" not in node.attrs:
            node = node.with_attrs(shape=None)
        for name, is_right in _demanded(node.op).items():
            if name not in node.attrs and name in DEFAULT_DTYPES:
                continue
            if name not in node.attrs or not is_right(node.attrs[name]):
                raise GraphError("%s %r: it needs the attribute %s" % (node.op, node.name, name))
        return node

    def outputs(self, node: Node) -> Optional[List[Tuple[str, List[DataType]]]]:
        """(name, dtypes) of each output argument of a node; None if that isn't known.

        Raises:
            GraphError: an attribute that says it is missing, or has another type.
        """
        definition = self._definitions.get(node.op)
        if definition is not None:
            return _limited(definition.output_arg, node)
        if node.op not in SIGNATURES:
            return None
        dtypes = list(output_dtypes(node.op, node.attrs))
        if node.op in _OUTPUT_NAMES:
            return [(name, [dtype]) for name, dtype in zip(_OUTPUT_NAMES[node.op], dtypes)]
        return [("", dtypes)]

    def dtypes(self, node: Node) -> Optional[List[DataType]]:
        """The dtype of each output of a node; None if they aren't known.

        Raises:
            GraphError: an attribute that says it is missing, or has another type.
        """
        outputs = self.outputs(node)
        if outputs is None and _is_dtypes(node.attrs.get("output_types")):
            return list(node.attrs["output_types"])  # of iterators
        return None if outputs is None else [one for _, dtypes in outputs for one in dtypes]


def _limited(arguments: Any, node: Node) -> List[Tuple[str, List[DataType]]]:
    """(name, dtypes) of each argument, as long as there aren't more outputs than one may have."""
    found = []
    left = _MOST_OUTPUTS
    for argument in arguments:
        dtypes = argument_dtypes(argument, node.attrs)
        left -= len(dtypes)
        if left < 0:
            raise GraphError("%s %r has too many outputs" % (node.op, node.name))
        found.append((argument.name, dtypes))
    return found


def argument_dtypes(argument: Any, attrs: Mapping[str, Any]) -> List[DataType]:
    """The dtypes of an ArgDef: one, or as many as an attribute says.

    Raises:
        GraphError: the attribute is missing, or has another type.
    """
    if argument.type_list_attr:
        types: Any = attrs.get(argument.type_list_attr)
        if not _is_dtypes(types):
            raise GraphError("the attribute %s should list types" % argument.type_list_attr)
        return list(types)
    dtype = attrs.get(argument.type_attr) if argument.type_attr else dtype_of(argument.type)
    count = attrs.get(argument.number_attr) if argument.number_attr else 1
    if dtype is None or not _is_dtype(dtype) or not _is_count(count):
        raise GraphError("the type or number of %r isn't known" % argument.name)
    return [dtype] * int(count or 0)


def _demanded(op: str) -> Dict[str, Callable[[Any], bool]]:
    """Attribute -> whether a value is right for it."""
    demanded = dict(_DEMANDED.get(op, {}))
    signature = SIGNATURES.get(op)
    if signature is not None:
        for slot in signature.inputs + signature.outputs:
            if isinstance(slot, str) and slot != "*":
                demanded[slot] = _is_dtype
        if signature.types is not None:
            demanded[signature.types] = _is_dtypes
        if signature.count is not None:
            demanded[signature.count] = _is_count
    return demanded
