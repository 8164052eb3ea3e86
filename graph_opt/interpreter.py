"""Runs a graph in numpy. Slow and plain: the oracle that passes and targets are checked against."""

from __future__ import annotations

from typing import Dict, Mapping, Tuple

import numpy as np

from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node, node_of, output_index
from bert_serving.graph_opt.kernels import KERNELS
from bert_serving.graph_opt.passes.dropout import find_dropouts

__all__ = ["inference_feeds", "run"]


def run(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Compute the outputs of a graph.

    ``feeds`` gives a value to every placeholder that is needed, in any dtype that casts safely to
    the placeholder's. As in a TensorFlow session it may also override any other node: what
    :func:`inference_feeds` returns turns the dropout of a training graph off.

    Returns tensor name -> array for each of ``graph.outputs``.

    Raises:
        GraphError: a placeholder has no value, or one of a wrong dtype; a malformed graph.
        UnsupportedOp: an operation has no kernel.
    """
    values: Dict[str, Tuple[np.ndarray, ...]] = {}
    needed = _needed(graph, feeds)
    for node in graph.topological():
        if node.name not in needed:
            continue
        if node.name in feeds:
            values[node.name] = (_fed(node, feeds[node.name]),)
            continue
        arrays = [_value(values, tensor) for tensor in node.data_inputs]
        values[node.name] = _compute(graph, node, arrays)
    return {tensor: _value(values, tensor) for tensor in graph.outputs}


def inference_feeds(graph: Graph) -> Dict[str, np.ndarray]:
    """Feeds that make a training graph behave as at inference: every dropout rate is 0.

    The dropout nodes are still run; at rate 0 they multiply by 1.
    """
    feeds: Dict[str, np.ndarray] = {}
    for dropout in find_dropouts(graph):
        name = node_of(dropout.rate)
        value = 1 if dropout.is_keep_probability else 0
        feeds[name] = np.array(value, graph[name].attrs["dtype"])
    return feeds


def _needed(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Dict[str, bool]:
    needed: Dict[str, bool] = {}
    waiting = [node_of(tensor) for tensor in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed[name] = True
        if name not in feeds:
            waiting.extend(node_of(tensor) for tensor in graph[name].inputs)
    return needed


def _fed(node: Node, value: np.ndarray) -> np.ndarray:
    array = np.asarray(value)
    dtype = np.dtype(node.attrs["dtype"])
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise GraphError("%r takes %s, not %s" % (node.name, dtype, array.dtype))
    return array.astype(dtype)


def _value(values: Mapping[str, Tuple[np.ndarray, ...]], tensor: str) -> np.ndarray:
    outputs = values[node_of(tensor)]
    index = output_index(tensor)
    if index >= len(outputs):
        raise GraphError("node %r has no output %d" % (node_of(tensor), index))
    return outputs[index]


def _compute(graph: Graph, node: Node, arrays: list) -> Tuple[np.ndarray, ...]:
    if node.op == "VariableV2":
        return (graph.variables[node.name].load(),)
    if node.op == "Placeholder":
        raise GraphError("the placeholder %r has no value" % node.name)
    if node.op not in KERNELS:
        raise UnsupportedOp(node.name, node.op, "the numpy interpreter")
    return tuple(np.asarray(array) for array in KERNELS[node.op](node, arrays))
