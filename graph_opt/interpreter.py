"""Runs a graph in numpy. Slow and plain: the oracle that passes and targets are checked against.

Memory is needed for the values that are still to be read, not for all of them: a variable is loaded
shortly before its first use, and every value is dropped after its last.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np

from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node, node_of, output_index
from bert_serving.graph_opt.kernels import KERNELS
from bert_serving.graph_opt.passes.dropout import find_dropouts
from bert_serving.graph_opt.signatures import SIGNATURES, VARIABLE_OPS, output_dtypes

__all__ = ["inference_feeds", "run"]

Values = Dict[str, Tuple[np.ndarray, ...]]


class _Dead:
    """The value of a tensor in the branch of a conditional that isn't taken."""


# An array, so that all values have one type; recognized by identity.
_DEAD = np.array(_Dead(), object)


def run(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Compute the outputs of a graph.

    ``feeds`` gives a value to every placeholder that is needed, in any dtype that casts safely to
    the placeholder's. As in a TensorFlow session it may also override any other node: what
    :func:`inference_feeds` returns turns the dropout of a training graph off.

    Of a conditional (Switch and Merge) both branches are visited, and the operations of the one
    that isn't taken are skipped. Control inputs matter only there.

    Returns tensor name -> array for each of ``graph.outputs``.

    Raises:
        GraphError: a placeholder has no value, or one of a wrong dtype; an output in a branch that
            isn't taken; an assertion that fails; a malformed graph.
        UnsupportedOp: an operation has no kernel.
        ModelError: the file of a variable is damaged.
    """
    fed = {node_of(name): value for name, value in feeds.items()}
    plan = _Plan(_needed(graph, fed))
    values: Values = {}
    readers = plan.reader_counts()
    for node in plan.order:
        if node.name in fed:
            values[node.name] = (_fed(node, fed[node.name]),)
            continue
        inputs = plan.inputs[node.name]
        arrays = [_value(values, tensor) for tensor in inputs]
        values[node.name] = _compute(graph, node, arrays, len(node.data_inputs))
        del arrays
        for name in {node_of(tensor) for tensor in inputs}:
            readers[name] -= 1
            if not readers[name]:
                del values[name]
    results = {tensor: _value(values, tensor) for tensor in graph.outputs}
    for tensor, value in results.items():
        if value is _DEAD:
            raise GraphError("the output %r is in a branch that isn't taken" % tensor)
    return results


def inference_feeds(graph: Graph) -> Dict[str, np.ndarray]:
    """Feeds that make a training graph behave as at inference: every dropout rate is 0.

    The dropout nodes are still run; at rate 0 they multiply by 1.
    """
    feeds: Dict[str, np.ndarray] = {}
    for dropout in find_dropouts(graph):
        node = graph[dropout.rate]
        value = 1 if dropout.is_keep_probability else 0
        feeds[node.name] = np.array(value, output_dtypes(node.op, node.attrs)[0])
    return feeds


def _needed(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Graph:
    """The part of a graph that the outputs need; what is fed has no inputs there."""
    kept: Dict[str, Node] = {}
    waiting = [graph[tensor].name for tensor in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            node = graph[name]
            kept[name] = node.with_inputs(()) if name in feeds else node
            waiting.extend(node_of(tensor) for tensor in kept[name].inputs)
    return graph.replaced(nodes=kept.values())


class _Plan:
    """Which nodes are run, in which order, and what each reads."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._conditional = _conditional_nodes(graph)
        # The data inputs, then the control inputs that matter.
        self.inputs: Dict[str, List[str]] = {}
        heights: Dict[str, int] = {}
        for node in graph.topological():
            self.inputs[node.name] = self._inputs(node)
            below = [heights[node_of(tensor)] for tensor in self.inputs[node.name]]
            heights[node.name] = 1 + max(below) if below else 0
        self.order = self._depth_first(heights)

    def _inputs(self, node: Node) -> List[str]:
        control = [
            tensor
            for tensor in node.inputs
            if tensor.startswith("^") and node_of(tensor) in self._conditional
        ]
        return list(node.data_inputs) + control

    def _depth_first(self, heights: Mapping[str, int]) -> List[Node]:
        """The nodes that the outputs need, each after its inputs.

        Of the inputs the one that takes most steps comes first, so that the weights, which take
        fewest, are loaded last.
        """
        order: List[Node] = []
        done: Set[str] = set()
        stack = [(self._graph[tensor].name, False) for tensor in reversed(self._graph.outputs)]
        while stack:
            name, ready = stack.pop()
            if name in done:
                continue
            if ready:
                done.add(name)
                order.append(self._graph[name])
                continue
            stack.append((name, True))
            parents = dict.fromkeys(node_of(tensor) for tensor in self.inputs[name])
            stack.extend((one, False) for one in sorted(parents, key=lambda one: heights[one]))
        return order

    def reader_counts(self) -> Dict[str, int]:
        """Node name -> how many nodes, and outputs of the graph, read it."""
        counts: Dict[str, int] = {}
        for node in self.order:
            for name in {node_of(tensor) for tensor in self.inputs[node.name]}:
                counts[name] = counts.get(name, 0) + 1
        for tensor in self._graph.outputs:
            counts[node_of(tensor)] = counts.get(node_of(tensor), 0) + 1
        return counts


def _conditional_nodes(graph: Graph) -> Set[str]:
    """The nodes that a Switch decides about."""
    found: Set[str] = set()
    for node in graph.topological():
        if node.op == "Switch" or any(node_of(tensor) in found for tensor in node.inputs):
            found.add(node.name)
    return found


def _fed(node: Node, value: np.ndarray) -> np.ndarray:
    array = np.asarray(value)
    dtype = output_dtypes(node.op, node.attrs)[0]
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise GraphError("%r takes %s, not %s" % (node.name, dtype, array.dtype))
    return array.astype(dtype)


def _value(values: Mapping[str, Tuple[np.ndarray, ...]], tensor: str) -> np.ndarray:
    outputs = values[node_of(tensor)]
    if tensor.startswith("^"):
        # What a control input tells is whether its node has run.
        return _DEAD if outputs and all(value is _DEAD for value in outputs) else np.empty(0)
    index = output_index(tensor)
    if index >= len(outputs):
        raise GraphError("node %r has no output %d" % (node_of(tensor), index))
    return outputs[index]


def _compute(
    graph: Graph, node: Node, arrays: Sequence[np.ndarray], data_count: int
) -> Tuple[np.ndarray, ...]:
    """The outputs of a node; of ``arrays`` those from ``data_count`` on are control inputs."""
    data = list(arrays[:data_count])
    if node.op == "Merge":
        return _merge(data, arrays[data_count:])
    if any(array is _DEAD for array in arrays):
        # Also for a node without outputs, so that what waits for it is known to be skipped.
        return (_DEAD,) * max(1, _output_count(node))
    if node.op == "Switch":
        return (_DEAD, data[0]) if data[1] else (data[0], _DEAD)
    if node.op in VARIABLE_OPS:
        return (_loaded(graph, node),)
    if node.op == "Placeholder":
        raise GraphError("the placeholder %r has no value" % node.name)
    if node.op not in KERNELS:
        raise UnsupportedOp(node.name, node.op, "the numpy interpreter")
    # Overflow and division by zero are results, as in an engine.
    try:
        with np.errstate(all="ignore"):
            return tuple(np.asarray(array) for array in KERNELS[node.op](node, data))
    except (IndexError, ValueError) as error:
        shapes = ", ".join("%s %s" % (array.dtype, list(array.shape)) for array in data)
        raise GraphError("%s %r of %s: %s" % (node.op, node.name, shapes, error)) from error


def _merge(data: Sequence[np.ndarray], control: Sequence[np.ndarray]) -> Tuple[np.ndarray, ...]:
    """The input that isn't dead, and its number."""
    if not any(array is _DEAD for array in control):
        for index, array in enumerate(data):
            if array is not _DEAD:
                return (array, np.array(index, np.int32))
    return (_DEAD, _DEAD)


def _output_count(node: Node) -> int:
    return len(output_dtypes(node.op, node.attrs)) if node.op in SIGNATURES else 1


def _loaded(graph: Graph, node: Node) -> np.ndarray:
    variable = graph.variables.get(node.name)
    if variable is None:
        raise GraphError("the variable node %r has no value" % node.name)
    return variable.load()
