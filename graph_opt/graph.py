"""The intermediate representation: nodes with TensorFlow op names, numpy constants, variables.

Nothing here is changed after it is made. A pass builds a new :class:`Graph`; nodes that it leaves
alone are shared between the old graph and the new one.

Tensor names follow TensorFlow's GraphDef: ``"name"`` is output 0 of a node, ``"name:1"`` its output
1, and ``"^name"`` says that a node must have run first (a control input).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.errors import GraphError

__all__ = ["Graph", "Node", "Variable", "node_of", "output_index"]


def node_of(tensor: str) -> str:
    """The name of the node that gives a tensor: ``"a"`` for ``"a"``, ``"a:1"`` and ``"^a"``."""
    return tensor.lstrip("^").split(":", 1)[0]


def output_index(tensor: str) -> int:
    """Which output of its node a tensor is; 0 where the name says nothing."""
    _, _, index = tensor.partition(":")
    return int(index) if index else 0


@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    ``attrs`` holds what TensorFlow holds: dtypes as :class:`numpy.dtype`, shapes as tuples with
    None for an unknown dimension, the value of a Const under ``"value"`` as an ndarray.
    """

    name: str
    op: str
    inputs: Tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))

    @property
    def data_inputs(self) -> Tuple[str, ...]:
        """The inputs without the control inputs."""
        return tuple(name for name in self.inputs if not name.startswith("^"))

    def with_inputs(self, inputs: Iterable[str]) -> Node:
        """The same node on other inputs."""
        return replace(self, inputs=tuple(inputs))

    def with_attrs(self, **attrs: Any) -> Node:
        """The same node with some attributes set anew."""
        merged = dict(self.attrs)
        merged.update(attrs)
        return replace(self, attrs=merged)


@dataclass(frozen=True, eq=False)
class Variable:
    """A trained tensor that is read from its file only when ``load`` is called."""

    name: str
    shape: Tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes that the loaded array takes."""
        size = int(self.dtype.itemsize)
        for dimension in self.shape:
            size *= dimension
        return size


class Graph:
    """Nodes in the order they were added, the tensors asked for, and the variables not yet frozen.

    ``inputs`` declares which placeholders are fed at inference. A training graph has others, e.g.
    for labels or the learning phase; a graph made for inference needs no such declaration.

    Raises:
        GraphError: two nodes have the same name.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        outputs: Iterable[str],
        variables: Optional[Mapping[str, Variable]] = None,
        inputs: Optional[Iterable[str]] = None,
    ) -> None:
        by_name: Dict[str, Node] = {}
        for node in nodes:
            if node.name in by_name:
                raise GraphError("two nodes are named %r" % node.name)
            by_name[node.name] = node
        self._nodes: Mapping[str, Node] = MappingProxyType(by_name)
        self._outputs = tuple(outputs)
        self._variables: Mapping[str, Variable] = MappingProxyType(dict(variables or {}))
        self._inputs = None if inputs is None else tuple(inputs)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Node name -> node."""
        return self._nodes

    @property
    def outputs(self) -> Tuple[str, ...]:
        """Names of the tensors that the graph is there to compute."""
        return self._outputs

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Name of a variable's node (VariableV2, Variable or VarHandleOp) -> what it holds."""
        return self._variables

    @property
    def inputs(self) -> Tuple[str, ...]:
        """Names of the placeholders that are fed at inference: those declared, or else all."""
        if self._inputs is not None:
            return self._inputs
        return tuple(node.name for node in self if node.op == "Placeholder")

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __getitem__(self, tensor: str) -> Node:
        """The node that gives a tensor.

        Raises:
            GraphError: there is none.
        """
        try:
            return self._nodes[node_of(tensor)]
        except KeyError:
            raise GraphError("no node gives the tensor %r" % tensor) from None

    def replaced(
        self,
        nodes: Optional[Iterable[Node]] = None,
        outputs: Optional[Iterable[str]] = None,
        variables: Optional[Mapping[str, Variable]] = None,
    ) -> Graph:
        """A graph that differs from this one only in what is given."""
        return Graph(
            self if nodes is None else nodes,
            self._outputs if outputs is None else outputs,
            self._variables if variables is None else variables,
            self._inputs,
        )

    def consumers(self) -> Dict[str, List[Node]]:
        """Node name -> the nodes that read any of its outputs, each once, in graph order."""
        readers: Dict[str, List[Node]] = {name: [] for name in self._nodes}
        for node in self:
            for name in dict.fromkeys(node_of(tensor) for tensor in node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def topological(self) -> List[Node]:
        """The nodes so that each comes after its inputs; otherwise in graph order.

        Raises:
            GraphError: a cycle, or an input that no node gives.
        """
        done: Dict[str, bool] = {}  # False while the node's inputs are being visited
        order: List[Node] = []
        for root in self:
            stack = [root]
            while stack:
                node = stack[-1]
                if done.get(node.name):
                    stack.pop()
                    continue
                done[node.name] = False
                waiting = [self._input_node(node, name) for name in node.inputs]
                waiting = [parent for parent in waiting if not done.get(parent.name)]
                if not waiting:
                    done[node.name] = True
                    order.append(node)
                    stack.pop()
                for parent in reversed(waiting):
                    if parent.name in done:
                        raise GraphError(
                            "a cycle runs through %r and %r" % (node.name, parent.name)
                        )
                    stack.append(parent)
        return order

    def validate(self) -> None:
        """Check that every name leads somewhere and nothing runs in a circle.

        Raises:
            GraphError: a dangling input or output, a cycle, a variable without a node or a node
                without its variable.
        """
        self.topological()
        for tensor in self._outputs:
            self[tensor]
        for name in self._variables:
            if name not in self._nodes:
                raise GraphError("the variable %r has no node" % name)
        for node in self:
            if node.op == "VariableV2" and node.name not in self._variables:
                raise GraphError("the variable node %r has no value" % node.name)

    def nbytes(self) -> int:
        """Bytes of all constants and variables."""
        constants = sum(
            int(np.asarray(node.attrs["value"]).nbytes) for node in self if node.op == "Const"
        )
        return constants + sum(variable.nbytes for variable in self._variables.values())

    def _input_node(self, reader: Node, tensor: str) -> Node:
        parent = self._nodes.get(node_of(tensor))
        if parent is None:
            raise GraphError("node %r reads %r, which no node gives" % (reader.name, tensor))
        return parent
