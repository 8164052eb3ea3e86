"""The ONNX nodes and tensors that a graph is turned into, one emitter after another."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.ranks import tensor_ranks
from bert_serving.graph_opt.signatures import tensor_dtypes

__all__ = ["LONG", "Emission", "Emitter", "OnnxNode", "canonical", "inference_nodes"]

LONG = np.dtype("int64")


class OnnxNode:
    """A node to be: operator, inputs, outputs, attributes. dtypes in attributes are numpy's."""

    def __init__(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], attrs: Dict[str, Any]
    ) -> None:
        self.op = op
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.attrs = attrs


class Emission:
    """The ONNX nodes and initializers so far, and what emitters want to know about the graph.

    ``graph`` has only what its outputs need, no control inputs, and no ``:0`` in its tensor names.
    A tensor that an emitter makes on the way gets a name that has a colon and a word, which no
    tensor of a graph has.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: List[OnnxNode] = []
        self.initializers: Dict[str, np.ndarray] = {}
        self.dtypes = tensor_dtypes(graph)
        self.ranks = tensor_ranks(graph)
        self._made: Set[str] = set()

    def add(self, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        """Add a node of one output; a constant among its inputs becomes an initializer."""
        self.add_several(op, inputs, (output,), **attrs)
        return output

    def add_several(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any
    ) -> Tuple[str, ...]:
        """Add a node of any number of outputs."""
        for tensor in inputs:
            self.use(tensor)
        self.nodes.append(OnnxNode(op, inputs, outputs, attrs))
        self._made.update(outputs)
        return tuple(outputs)

    def use(self, tensor: str) -> None:
        """Make sure that a tensor is there if it is a constant.

        Raises:
            GraphError: a placeholder that isn't an input of the graph.
        """
        node = self.graph.nodes.get(tensor)
        if node is None:
            return
        if node.op == "Const":
            self.initializers[tensor] = np.asarray(node.attrs["value"])
        elif node.op == "Placeholder" and tensor not in self.graph.inputs:
            raise GraphError(
                "the outputs need the placeholder %r, which isn't among the graph's inputs %s"
                % (tensor, list(self.graph.inputs))
            )

    def initializer(self, name: str, value: Any, dtype: Any) -> str:
        """A constant that the graph doesn't have."""
        self.initializers[name] = np.array(value, dtype)
        return name

    def long(self, node: Node, name: str, value: Any) -> str:
        """An int64 constant for a node, e.g. axes."""
        return self.initializer("%s:%s" % (node.name, name), value, LONG)

    def scalar(self, node: Node, name: str, value: Any, position: int = 0) -> str:
        """A constant of rank 0 for a node, in the dtype of one of its inputs."""
        dtype = self.dtypes[node.data_inputs[position]]
        return self.initializer("%s:%s" % (node.name, name), value, dtype)

    def is_constant(self, node: Node, position: int) -> bool:
        """Whether an input is a Const."""
        return self.graph[node.data_inputs[position]].op == "Const"

    def constant(self, node: Node, position: int) -> np.ndarray:
        """The value of an input that ONNX wants as a constant.

        Raises:
            GraphError: it isn't one.
        """
        source = self.graph[node.data_inputs[position]]
        if source.op != "Const":
            raise GraphError(
                "%s %r: ONNX needs its input %r to be constant" % (node.op, node.name, source.name)
            )
        return np.asarray(source.attrs["value"])

    def rank(self, node: Node, position: int) -> int:
        """The number of dimensions of an input.

        Raises:
            GraphError: it can't be told from the graph.
        """
        tensor = node.data_inputs[position]
        if tensor not in self.ranks:
            raise GraphError(
                "%s %r: the number of dimensions of its input %r can't be told"
                % (node.op, node.name, tensor)
            )
        return self.ranks[tensor]

    def as_long(self, node: Node, position: int) -> str:
        """An input as int64, which ONNX demands of shapes and of GatherND's indices."""
        tensor = node.data_inputs[position]
        source = self.graph[tensor]
        if self.dtypes[tensor] == LONG:
            return tensor
        name = tensor + ":int64"
        if source.op == "Const":
            return self.initializer(name, source.attrs["value"], LONG)
        if name not in self._made:
            self.add("Cast", (tensor,), name, to=LONG)
        return name


Emitter = Callable[[Emission, Node], None]


def inference_nodes(graph: Graph) -> Graph:
    """The nodes that the outputs need, their inputs by canonical names, no control inputs.

    The outputs' names stay as they are.

    Raises:
        GraphError: an input or output that no node gives.
    """
    kept: Dict[str, Node] = {}
    waiting = [graph[tensor].name for tensor in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name in kept:
            continue
        node = graph[name]
        inputs = tuple(canonical(tensor) for tensor in node.data_inputs)
        kept[name] = node if inputs == node.inputs else node.with_inputs(inputs)
        waiting.extend(graph[tensor].name for tensor in inputs)
    # A declared input stays, needed or not: whoever feeds it counts on it.
    for name in graph.inputs:
        kept.setdefault(name, graph[name])
    return Graph(
        [kept[node.name] for node in graph if node.name in kept],
        graph.outputs,
        inputs=graph.inputs,
    )


def canonical(tensor: str) -> str:
    """``"a"`` for ``"a:0"``, which is the same tensor."""
    return tensor[:-2] if tensor.endswith(":0") else tensor
