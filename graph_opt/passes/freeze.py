"""Turn variables into constants.

Before::

    VariableV2 "kernel" -> Identity "kernel/read" -> MatMul
    VarHandleOp "table" -> ReadVariableOp -> Mul
                        -> ResourceGather(ids) -> y

After::

    Const "kernel" -> Identity "kernel/read" -> MatMul
    Const "table" -> Mul
                  -> GatherV2(ids, axis 0) -> y

Nodes that stand for the same variable share one Const, that of the first of them. Each part of a
partitioned variable is a variable here, and the graph joins them.

A read gives the value in the file, whatever a training step would have assigned before it: such an
order is a control input, which ``prune`` drops. Reading what an assignment returns is an error,
since a constant can't be assigned to.

Every variable of the graph is read, so run this after what drops the variables that nothing needs.
Arrays are taken as they are loaded, not copied.
"""

from __future__ import annotations

import re
from typing import Dict, Hashable, List, Mapping, Set

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node, Variable, node_of
from bert_serving.graph_opt.passes.navigation import (
    constant,
    identity,
    redirected,
    unique_name,
)
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.signatures import VARIABLE_OPS

__all__ = ["freeze"]

_HANDLE = "VarHandleOp"
# Operations that pass a handle, or a reference, on to a branch or a loop -> what passes on a value.
_CARRIERS: Mapping[str, str] = {
    "Enter": "Enter",
    "Identity": "Identity",
    "RefEnter": "Enter",
    "RefIdentity": "Identity",
    "RefSwitch": "Switch",
    "Switch": "Switch",
}
_WRITES = re.compile(
    "(Assign|Apply|SparseApply|CountUpTo|Scatter(Nd)?(Add|Sub|Mul|Div|Min|Max|Update))"
)
_INITIALIZED = ("IsVariableInitialized", "VarIsInitializedOp")


def freeze(graph: Graph) -> Rewritten:
    """The graph with a Const in place of each variable, and plain reads of it.

    What the outputs don't need is dropped rather than frozen.

    Raises:
        GraphError: a variable node without a value, or one of another shape or dtype; something on
            the way to the outputs writes to a variable.
        ModelError: a variable's file is damaged.
    """
    graph = prune(graph).graph
    outputs = {node_of(tensor) for tensor in graph.outputs}
    roots = _roots(graph)
    firsts: Dict[Hashable, str] = {}
    instead: Dict[str, str] = {}
    nodes: List[Node] = []
    for node in graph:
        if node.op in VARIABLE_OPS:
            variable = graph.variables[node.name]
            first = firsts.get(id(variable)) or firsts.get(_resource(node)) or node.name
            firsts[id(variable)] = firsts[_resource(node)] = first
            if first == node.name:
                nodes.append(_frozen(node, variable))
                continue
            instead[node.name] = first
        elif node.op == "ReadVariableOp":
            instead[node.name] = node.data_inputs[0]
        else:
            nodes.extend(_reader(graph, node, roots))
            continue
        if node.name in outputs:
            nodes.append(identity(node, instead[node.name], node.attrs.get("dtype")))
    gone: Set[str] = {name for name in instead if name not in outputs}
    nodes = [redirected(node, instead, gone) for node in nodes]
    return Rewritten(graph.replaced(nodes=nodes, variables={}))


def _resource(node: Node) -> Hashable:
    """What two nodes agree in that TensorFlow gives the same variable."""
    container, name = node.attrs.get("container"), node.attrs.get("shared_name")
    if isinstance(name, bytes):
        name = name.decode("utf-8")
    return node.op == _HANDLE, container or b"", name or node.name


def _roots(graph: Graph) -> Dict[str, Node]:
    """Name of a node that stands for a variable, or passes one on -> the variable's node.

    Raises:
        GraphError: a variable's node without a value.
    """
    readers = graph.consumers()
    roots: Dict[str, Node] = {}
    for node in graph:
        if node.op in VARIABLE_OPS:
            if node.name not in graph.variables:
                raise GraphError("the variable node %r has no value" % node.name)
            roots[node.name] = node
    waiting = list(roots.values())
    while waiting:
        held = waiting.pop()
        for reader in readers[held.name]:
            carries = reader.op in _CARRIERS and node_of(reader.data_inputs[0]) == held.name
            if carries and reader.name not in roots:
                roots[reader.name] = roots[held.name]
                waiting.append(reader)
    return roots


def _frozen(node: Node, variable: Variable) -> Node:
    dtype, shape = np.dtype(node.attrs["dtype"]), node.attrs.get("shape")
    value = variable.load()
    fits = shape is None or (
        len(shape) == value.ndim
        and all(size in (None, actual) for size, actual in zip(shape, value.shape))
    )
    if not fits or value.dtype != dtype:
        raise GraphError(
            "the variable %r is %s %s, its value %s %s"
            % (node.name, dtype, shape, value.dtype, value.shape)
        )
    return Node(node.name, "Const", (), {"dtype": dtype, "value": value})


def _reader(graph: Graph, node: Node, roots: Mapping[str, Node]) -> List[Node]:
    """What becomes of a node that may read variables."""
    read = [roots[node_of(tensor)] for tensor in node.data_inputs if node_of(tensor) in roots]
    if not read:
        return [node]
    variable = graph.variables[read[0].name]
    if node.op in _CARRIERS:
        attrs = dict(node.attrs, T=variable.dtype)
        return [Node(node.name, _CARRIERS[node.op], node.inputs, attrs)]
    if node.op in _INITIALIZED:
        return [constant(node.name, np.array(True))]
    if node.op == "VariableShape":
        dtype = node.attrs.get("out_type", np.dtype("int32"))
        return [constant(node.name, np.array(variable.shape, dtype))]
    indices = {"Tparams": variable.dtype, "Tindices": node.attrs.get("Tindices")}
    if node.op == "ResourceGatherNd":
        return [Node(node.name, "GatherNd", node.inputs, indices)]
    if node.op == "ResourceGather":
        # https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceGather: the batch dimensions
        # come first, then the one that is gathered from.
        batch_dims = int(node.attrs.get("batch_dims", 0))
        axis = constant(unique_name(graph, node.name + "/axis"), np.array(batch_dims, np.int32))
        attrs = dict(indices, Taxis=np.dtype("int32"), batch_dims=batch_dims)
        params, ids = node.data_inputs
        return [axis, Node(node.name, "GatherV2", (params, ids, axis.name), attrs)]
    if _WRITES.match(node.op) or any(root.op == _HANDLE for root in read):
        raise GraphError(
            "%s %r, on the way to the outputs, uses the variable %r other than by reading it:"
            " choose outputs that need no training step" % (node.op, node.name, variable.name)
        )
    return [node]
