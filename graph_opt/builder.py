"""Adding nodes to a new graph under scoped, unique names."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node, Variable
from bert_serving.graph_opt.signatures import input_slots, output_dtypes

__all__ = ["GraphBuilder"]


class GraphBuilder:
    """Collects nodes; every method that adds one returns the name of its tensor.

    The dtype attributes (``T``, ``Tidx``, ...) are filled in from the inputs, so that the graph
    carries all that a GraphDef needs.
    """

    def __init__(self) -> None:
        self._nodes: Dict[str, Node] = {}
        self._dtypes: Dict[str, np.dtype] = {}
        self._variables: Dict[str, Variable] = {}
        self._reads: Dict[str, str] = {}
        self._scopes: List[str] = []

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Put ``name/`` before the names of what is added inside."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def op(
        self,
        op: str,
        inputs: Sequence[str],
        name: Optional[str] = None,
        dtypes: Optional[Mapping[str, Any]] = None,
        **attrs: Any,
    ) -> str:
        """Add a node. ``dtypes`` names dtype attributes that no input decides, e.g. ``DstT``.

        Raises:
            GraphError: the inputs disagree about a dtype.
        """
        node = Node(self._unique(name or op), op, tuple(inputs))
        merged: Dict[str, Any] = {key: np.dtype(value) for key, value in (dtypes or {}).items()}
        for tensor, slot in input_slots(node):
            found = self._dtypes[tensor]
            expected = merged.setdefault(slot, found) if isinstance(slot, str) else slot
            if expected != found:
                raise GraphError(
                    "%s %r: input %r is %s, not %s" % (op, node.name, tensor, found, expected)
                )
        merged.update(attrs)
        return self._add(node.with_attrs(**merged))

    def placeholder(self, name: str, dtype: Any, shape: Sequence[Optional[int]]) -> str:
        """Add an input of the graph."""
        return self._add(
            Node(self._unique(name), "Placeholder", (), _source(dtype, shape=tuple(shape)))
        )

    def constant(self, value: Any, dtype: Any, name: str = "Const") -> str:
        """Add a Const; the array is made read-only."""
        array = np.array(value, dtype=dtype)
        array.setflags(write=False)
        attrs = _source(dtype, value=array)
        return self._add(Node(self._unique(name), "Const", (), attrs))

    def variable(self, variable: Variable) -> str:
        """The read of a variable, added at its first use under the variable's own name."""
        if variable.name not in self._reads:
            attrs = _source(variable.dtype, shape=variable.shape)
            handle = self._add(Node(variable.name, "VariableV2", (), attrs))
            self._variables[variable.name] = variable
            read = Node(variable.name + "/read", "Identity", (handle,), {"T": variable.dtype})
            self._reads[variable.name] = self._add(read)
        return self._reads[variable.name]

    def build(self, outputs: Union[str, Iterable[str]]) -> Graph:
        """The graph so far, validated.

        Raises:
            GraphError: it is malformed.
        """
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        graph = Graph(self._nodes.values(), names, self._variables)
        graph.validate()
        return graph

    def _unique(self, name: str) -> str:
        base = "/".join(self._scopes + [name])
        unique, count = base, 0
        while unique in self._nodes:
            count += 1
            unique = "%s_%d" % (base, count)
        return unique

    def _add(self, node: Node) -> str:
        if node.name in self._nodes:
            raise GraphError("two nodes are named %r" % node.name)
        self._nodes[node.name] = node
        for index, dtype in enumerate(output_dtypes(node.op, node.attrs)):
            self._dtypes["%s:%d" % (node.name, index) if index else node.name] = dtype
        return node.name


def _source(dtype: Any, **attrs: Any) -> Dict[str, Any]:
    return dict(attrs, dtype=np.dtype(dtype))
