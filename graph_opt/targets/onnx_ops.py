"""How each operation is said in ONNX, operator set 17: one small function an operation."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence

import numpy as np

from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.ranks import tensor_ranks
from bert_serving.graph_opt.signatures import PASS_THROUGH, tensor_dtypes

__all__ = ["EMITTERS", "Emission", "OnnxNode", "emit_nodes"]

LONG = np.dtype("int64")


class OnnxNode:
    """A node to be: operator, inputs, output, attributes. dtypes in attributes are numpy's."""

    def __init__(self, op: str, inputs: Sequence[str], output: str, attrs: Dict[str, Any]) -> None:
        self.op = op
        self.inputs = list(inputs)
        self.output = output
        self.attrs = attrs


class Emission:
    """The ONNX nodes and initializers so far, and what emitters want to know about the graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: List[OnnxNode] = []
        self.initializers: Dict[str, np.ndarray] = {}
        self.dtypes = tensor_dtypes(graph)
        self.ranks = tensor_ranks(graph)

    def add(self, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        """Add a node; a constant among its inputs becomes an initializer."""
        for tensor in inputs:
            node = self.graph.nodes.get(tensor)
            if node is not None and node.op == "Const":
                self.initializers[tensor] = node.attrs["value"]
        self.nodes.append(OnnxNode(op, inputs, output, attrs))
        return output

    def initializer(self, name: str, value: Any, dtype: Any) -> str:
        """A constant that the graph doesn't have."""
        self.initializers[name] = np.array(value, dtype)
        return name

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
        value: np.ndarray = source.attrs["value"]
        return value

    def as_long(self, node: Node, position: int) -> str:
        """An input as int64, which ONNX demands of shapes and of GatherND's indices."""
        tensor = node.data_inputs[position]
        source = self.graph[tensor]
        if source.op == "Const":
            return self.initializer(tensor + "/int64", source.attrs["value"], LONG)
        if self.dtypes[tensor] == LONG:
            return tensor
        name = tensor + "/int64"
        if all(added.output != name for added in self.nodes):
            self.add("Cast", (tensor,), name, to=LONG)
        return name


Emitter = Callable[[Emission, Node], None]


def emit_nodes(graph: Graph) -> Emission:
    """Translate every node.

    Raises:
        UnsupportedOp: an operation has no emitter.
        GraphError: an operation is used in a way that ONNX can't say.
    """
    emission = Emission(graph)
    for node in graph.topological():
        emitter = EMITTERS.get(node.op)
        if emitter is None:
            raise UnsupportedOp(node.name, node.op, "the ONNX target")
        emitter(emission, node)
    return emission


def _skip(emission: Emission, node: Node) -> None:
    """Inputs are declared, and constants added, by whoever reads them."""


def _plain(op: str, **attrs: Any) -> Emitter:
    """The same inputs under another operator name."""
    return lambda emission, node: _discard(emission.add(op, node.data_inputs, node.name, **attrs))


def _discard(_: str) -> None:
    return None


def _square(emission: Emission, node: Node) -> None:
    """As a power: the form in which onnxruntime recognizes layer normalization."""
    two = emission.initializer(node.name + "/two", 2, emission.dtypes[node.data_inputs[0]])
    emission.add("Pow", (node.data_inputs[0], two), node.name)


def _reduce(op: str) -> Emitter:
    """ReduceMean and ReduceMax take their axes as an attribute until operator set 18."""

    def emit(emission: Emission, node: Node) -> None:
        axes = [int(axis) for axis in np.ravel(emission.constant(node, 1))]
        keep = int(bool(node.attrs.get("keep_dims")))
        emission.add(op, node.data_inputs[:1], node.name, axes=axes, keepdims=keep)

    return emit


def _reduce_sum(emission: Emission, node: Node) -> None:
    axes = emission.initializer(node.name + "/axes", np.ravel(emission.constant(node, 1)), LONG)
    keep = int(bool(node.attrs.get("keep_dims")))
    emission.add("ReduceSum", (node.data_inputs[0], axes), node.name, keepdims=keep)


def _matmul(left: str, right: str) -> Emitter:
    def emit(emission: Emission, node: Node) -> None:
        operands = []
        for tensor, flag in zip(node.data_inputs, (left, right)):
            if node.attrs.get(flag):
                perm = list(range(emission.ranks[emission.graph[tensor].name]))
                perm[-2:] = perm[:-3:-1]
                name = "%s/%s" % (node.name, flag)
                tensor = emission.add("Transpose", (tensor,), name, perm=perm)
            operands.append(tensor)
        emission.add("MatMul", operands, node.name)

    return emit


def _cast(emission: Emission, node: Node) -> None:
    emission.add("Cast", node.data_inputs, node.name, to=np.dtype(node.attrs["DstT"]))


def _shape(emission: Emission, node: Node) -> None:
    out_type = np.dtype(node.attrs["out_type"])
    if out_type == LONG:
        emission.add("Shape", node.data_inputs, node.name)
    else:
        shape = emission.add("Shape", node.data_inputs, node.name + "/int64")
        emission.add("Cast", (shape,), node.name, to=out_type)


def _reshape(emission: Emission, node: Node) -> None:
    emission.add("Reshape", (node.data_inputs[0], emission.as_long(node, 1)), node.name)


def _transpose(emission: Emission, node: Node) -> None:
    perm = [int(axis) for axis in emission.constant(node, 1)]
    emission.add("Transpose", node.data_inputs[:1], node.name, perm=perm)


def _expand_dims(emission: Emission, node: Node) -> None:
    axes = emission.initializer(node.name + "/axes", np.ravel(emission.constant(node, 1)), LONG)
    emission.add("Unsqueeze", (node.data_inputs[0], axes), node.name)


def _concat(emission: Emission, node: Node) -> None:
    axis = int(emission.constant(node, len(node.data_inputs) - 1))
    emission.add("Concat", node.data_inputs[:-1], node.name, axis=axis)


def _pack(emission: Emission, node: Node) -> None:
    axis = int(node.attrs.get("axis", 0))
    axes = emission.initializer(node.name + "/axes", [axis], LONG)
    parts = [
        emission.add("Unsqueeze", (tensor, axes), "%s/part_%d" % (node.name, index))
        for index, tensor in enumerate(node.data_inputs)
    ]
    emission.add("Concat", parts, node.name, axis=axis)


def _gather(emission: Emission, node: Node) -> None:
    if node.attrs.get("batch_dims", 0):
        raise GraphError("GatherV2 %r has batch_dims, which ONNX's Gather hasn't" % node.name)
    axis = int(emission.constant(node, 2))
    emission.add("Gather", node.data_inputs[:2], node.name, axis=axis)


def _gather_nd(emission: Emission, node: Node) -> None:
    emission.add("GatherND", (node.data_inputs[0], emission.as_long(node, 1)), node.name)


def _table() -> Dict[str, Emitter]:
    table: Dict[str, Emitter] = {
        "BatchMatMulV2": _matmul("adj_x", "adj_y"),
        "Cast": _cast,
        "ConcatV2": _concat,
        "ExpandDims": _expand_dims,
        "GatherNd": _gather_nd,
        "GatherV2": _gather,
        "MatMul": _matmul("transpose_a", "transpose_b"),
        "Max": _reduce("ReduceMax"),
        "Mean": _reduce("ReduceMean"),
        "Pack": _pack,
        "Reshape": _reshape,
        "Shape": _shape,
        "Softmax": _plain("Softmax", axis=-1),
        "Square": _square,
        "Sum": _reduce_sum,
        "Transpose": _transpose,
    }
    renamed = {
        "Add": "Add",
        "AddV2": "Add",
        "BiasAdd": "Add",
        "Erf": "Erf",
        "Floor": "Floor",
        "Greater": "Greater",
        "Maximum": "Max",
        "Minimum": "Min",
        "Mul": "Mul",
        "Pow": "Pow",
        "Range": "Range",
        "RealDiv": "Div",
        "Relu": "Relu",
        "SelectV2": "Where",
        "Sqrt": "Sqrt",
        "Sub": "Sub",
        "Tanh": "Tanh",
    }
    table.update((op, _plain(name)) for op, name in renamed.items())
    table.update((op, _plain("Identity")) for op in PASS_THROUGH)
    table.update((op, _skip) for op in ("Const", "Placeholder"))
    return table


EMITTERS: Mapping[str, Emitter] = _table()
