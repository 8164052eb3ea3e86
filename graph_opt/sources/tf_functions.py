"""Putting the bodies of library functions in the place of the nodes that call them.

Before: ``PartitionedCall "f" (x) {f: body}``, or a node whose operation is the function's name.

After: the nodes of the body under ``f/``, and an Identity (IdentityN of several results) "f".

``If`` becomes what ``tf.cond`` of TensorFlow 1 writes, as TensorFlow itself does before it runs a
graph (tensorflow/core/common_runtime/lower_if_op.cc): a Switch for each input, both bodies, and a
Merge for each result. Handles of variables aren't switched, as reading them is what matters.

Inputs within a body are ``argument``, ``node:output argument:index`` or ``^node``, see
tensorflow/core/framework/function.proto.
"""

from __future__ import annotations

from typing import Any, Container, Dict, Iterable, List, Mapping, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.dtypes import RESOURCE, DataType
from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Node, node_of
from bert_serving.graph_opt.graph_def import AttrReference, Function, node_of_def
from bert_serving.graph_opt.sources.op_defs import OpDefs, argument_dtypes
from bert_serving.graph_opt.tensor_proto import Room

__all__ = ["inline_functions"]

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_CONDITIONALS = ("If", "StatelessIf")
_BOOL = np.dtype("bool")
# A body that calls itself would go on for ever.
_DEPTH = 64
# Nodes that calls become, and the names of their outputs. A function that calls another one twice,
# which does the same with a third, and so on, would have any number.
_MOST = 20000


def inline_functions(
    nodes: Iterable[Node], outputs: Sequence[str], functions: Mapping[str, Any], op_defs: OpDefs
) -> Tuple[Node, ...]:
    """The nodes with each call inlined that the outputs need; names of other nodes stay.

    Raises:
        GraphError: a function is malformed, missing, or calls itself.
    """
    by_name = {node.name: node for node in nodes}
    inliner = _Inliner(by_name, functions, op_defs)
    depths: Dict[str, int] = {}
    waiting, seen = [node_of(tensor) for tensor in outputs], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        if inliner.is_call(by_name[name]):
            depth = depths.get(name, 0) + 1
            if depth > _DEPTH:
                raise GraphError("the function that %r calls, calls itself" % name)
            depths.update((one, depth) for one in inliner.inline(by_name[name]))
        waiting.extend(node_of(tensor) for tensor in by_name[name].inputs)
    return tuple(by_name.values())


class _Inliner:
    def __init__(
        self, nodes: Dict[str, Node], functions: Mapping[str, Any], op_defs: OpDefs
    ) -> None:
        self._nodes = nodes
        self._functions = functions
        self._op_defs = op_defs
        self._added: List[str] = []
        self._left = _MOST
        self._room = Room()
        self._counts: Dict[str, int] = {}  # by names that had to be made unique

    def is_call(self, node: Node) -> bool:
        """Whether a node runs a function of the library."""
        return node.op in _CALLS + _CONDITIONALS or node.op in self._functions

    def inline(self, node: Node) -> List[str]:
        """Replace a call; returns the names of the nodes added."""
        before = len(self._added)
        control = tuple(name for name in node.inputs if name.startswith("^"))
        if node.op in _CONDITIONALS:
            results, dtypes, last = self._conditional(node, control)
        else:
            function = node.attrs["f"] if node.op in _CALLS else Function(node.op)
            attrs = {**node.attrs, **dict(function.attrs)}
            results, dtypes, last = self._body(
                node, node.name, function.name, attrs, node.data_inputs, control
            )
        self._nodes[node.name] = _gathered(node.name, results, dtypes, last)
        return self._added[before:]

    def _conditional(
        self, node: Node, control: Tuple[str, ...]
    ) -> Tuple[List[str], List[DataType], Tuple[str, ...]]:
        types = node.attrs["Tin"]
        if len(node.data_inputs) != 1 + len(types):
            raise GraphError("%r should have %d inputs" % (node.name, 1 + len(types)))
        predicate, arguments = node.data_inputs[0], node.data_inputs[1:]
        attrs = {"T": _BOOL}
        switch = self._add(node.name + "/Switch", "Switch", (predicate, predicate) + control, attrs)
        handles = {tensor for tensor, dtype in zip(arguments, types) if dtype is RESOURCE}
        name = node.name + "/Switch_1"
        switched = [
            tensor
            if tensor in handles
            else self._add(name, "Switch", (tensor, predicate), {"T": dtype})
            for tensor, dtype in zip(arguments, types)
        ]
        branches = []
        for branch, output, scope in (("else_branch", 0, "else"), ("then_branch", 1, "then")):
            function = node.attrs[branch]
            scope = "%s/%s" % (node.name, scope)
            pivot = self._add(scope + "/pivot", "Identity", (_output(switch, output),), attrs)
            tensors = [
                tensor if tensor in handles else _output(tensor, output) for tensor in switched
            ]
            own = {**node.attrs, **dict(function.attrs)}
            branches.append(
                self._body(node, scope, function.name, own, tensors, ("^" + pivot,), handles)
            )
        (other, dtypes, _), (then, _, _) = branches
        if len(other) != len(then):
            raise GraphError("the branches of %r give different numbers of results" % node.name)
        merged = [
            self._add("%s/Merge_%d" % (node.name, index), "Merge", pair, {"T": dtype, "N": 2})
            for index, (pair, dtype) in enumerate(zip(zip(other, then), dtypes))
        ]
        return merged, dtypes, ()

    def _body(
        self,
        call: Node,
        scope: str,
        name: str,
        attrs: Mapping[str, Any],
        arguments: Sequence[str],
        control: Tuple[str, ...],
        free: Container[str] = (),
    ) -> Tuple[List[str], List[DataType], Tuple[str, ...]]:
        """Add the nodes of a function; returns its results, their dtypes, and what runs last.

        A node whose inputs are all ``free`` must itself wait for the call, or for its branch: it
        gets the control inputs.
        """
        function = self._functions.get(name)
        if function is None:
            raise GraphError("%r calls the function %r, which isn't there" % (call.name, name))
        tensors = _bound(call, function, attrs, arguments)
        nodes = [self._concrete(proto, attrs) for proto in function.node_def]
        names = {one.name: self._add("%s/%s" % (scope, one.name), one.op, (), {}) for one in nodes}
        for one in nodes:
            outputs = self._outputs(one, names[one.name])
            self._take(len(outputs))
            tensors.update(outputs)
        for one in nodes:
            inputs = [self._resolved(call, tensors, names, tensor) for tensor in one.inputs]
            if all(tensor in free or tensor.startswith("^") for tensor in inputs):
                inputs += control
            self._nodes[names[one.name]] = Node(names[one.name], one.op, tuple(inputs), one.attrs)
        signature = function.signature
        results, dtypes = [], []
        for argument in signature.output_arg:
            first = function.ret[argument.name]
            own = argument_dtypes(argument, attrs)
            dtypes += own
            for index in range(len(own)):
                tensor = first if index == 0 else "%s:%d" % (first.rsplit(":", 1)[0], index)
                results.append(self._resolved(call, tensors, names, tensor))
        last = tuple("^" + names[one] for one in function.control_ret.values() if one in names)
        return results, dtypes, last

    def _outputs(self, node: Node, name: str) -> Dict[str, str]:
        """How a body writes a node's outputs -> the tensors, the node being named ``name``.

        ``node::index`` stands for those of an operation that has only one output argument, and
        ``node::`` for all, if nothing is known of the operation: it can't be served anyway.
        """
        arguments = self._op_defs.outputs(node)
        if arguments is None:
            return {node.name + "::": name}
        found: Dict[str, str] = {}
        for argument, dtypes in arguments:
            for index in range(len(dtypes)):
                found["%s:%s:%d" % (node.name, argument, index)] = _output(name, len(found))
        return found

    def _resolved(
        self, call: Node, tensors: Mapping[str, str], names: Mapping[str, str], tensor: str
    ) -> str:
        if tensor.startswith("^"):
            waited_for = names.get(tensor[1:]) or tensors.get(tensor[1:])
            if waited_for is not None:
                return "^" + node_of(waited_for)
        node, _, rest = tensor.partition(":")
        index = rest.rpartition(":")[2]
        for key in (tensor, "%s::%s" % (node, index), tensor + ":0"):
            if key in tensors:
                return tensors[key]
        if node + "::" in tensors and index.isdigit():
            return _output(tensors[node + "::"], int(index))
        raise GraphError(
            "the function that %r calls reads %r, which isn't there" % (call.name, tensor)
        )

    def _concrete(self, proto: Any, attrs: Mapping[str, Any]) -> Node:
        """A node of a body with the attributes that the caller decides filled in."""
        node = node_of_def(proto, self._room)
        filled = {name: _filled(node, value, attrs) for name, value in node.attrs.items()}
        return self._op_defs.completed(node.with_attrs(**filled))

    def _unique(self, name: str) -> str:
        unique, count = name, self._counts.get(name, 0)
        while unique in self._nodes:
            count += 1
            unique = "%s_%d" % (name, count)
        self._counts[name] = count
        return unique

    def _add(self, name: str, op: str, inputs: Tuple[str, ...], attrs: Mapping[str, Any]) -> str:
        unique = self._unique(name)
        self._nodes[unique] = Node(unique, op, inputs, attrs)
        self._added.append(unique)
        self._take(1)
        return unique

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise GraphError("its functions call each other too often: they have too many nodes")


def _bound(
    call: Node, function: Any, attrs: Mapping[str, Any], arguments: Sequence[str]
) -> Dict[str, str]:
    """The tensors that a function's arguments stand for, by ``argument`` or ``argument:index``."""
    tensors: Dict[str, str] = {}
    position = 0
    for argument in function.signature.input_arg:
        for index in range(len(argument_dtypes(argument, attrs))):
            if position >= len(arguments):
                raise GraphError("%r has too few inputs for its function" % call.name)
            tensors["%s:%d" % (argument.name, index)] = arguments[position]
            if index == 0:
                tensors[argument.name] = arguments[position]
            position += 1
    if position != len(arguments):
        raise GraphError(
            "%r has %d inputs, its function %d" % (call.name, len(arguments), position)
        )
    return tensors


def _filled(node: Node, value: Any, attrs: Mapping[str, Any]) -> Any:
    if isinstance(value, tuple):
        return tuple(_filled(node, one, attrs) for one in value)
    if not isinstance(value, AttrReference):
        return value
    if value.name not in attrs:
        raise GraphError("%r needs the attribute %s of its function" % (node.name, value.name))
    return attrs[value.name]


def _gathered(
    name: str, results: Sequence[str], dtypes: Sequence[DataType], last: Tuple[str, ...]
) -> Node:
    """A node that gives the results under the name of the call."""
    inputs = tuple(results) + last
    if not results:
        return Node(name, "NoOp", inputs)
    if len(results) == 1:
        return Node(name, "Identity", inputs, {"T": dtypes[0]})
    return Node(name, "IdentityN", inputs, {"T": tuple(dtypes)})


def _output(node: str, index: int) -> str:
    return "%s:%d" % (node, index) if index else node
