"""Keep weights in 16 bits, and compute in 16 bits where that is safe.

Before::

    MatMul(x, Const kernel)                  GatherV2(Const table, ids, 0)

After, where weights are only stored so (``arithmetic=False``, for CPUs)::

    MatMul(x, Cast(Const float16))           Cast(GatherV2(Const float16, ids, 0))

and where products are computed so (``arithmetic=True``, for GPUs)::

    Cast(MatMul(Cast(x), Const float16))     as above

Layer normalization, softmax and pooling stay in float32 (``half_regions.py``), and so do the
outputs. A weight whose values don't fit, because the largest is too large for the dtype or is so
small that its digits would be lost, stays as it is.
"""

from __future__ import annotations

from typing import Dict, List, Set

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.passes.half_regions import FLOAT, Limits, float_inputs, half_nodes
from bert_serving.graph_opt.passes.matching import plain, source
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["MINIMUM_SIZE", "downcast"]

#: Elements below which a constant isn't worth it, unless it is read in 16 bits.
MINIMUM_SIZE = 1 << 10

_GATHERS = ("Gather", "GatherV2")


def downcast(
    graph: Graph, dtype: np.dtype, arithmetic: bool = False, minimum_size: int = MINIMUM_SIZE
) -> Rewritten:
    """The graph with its float32 weights of two or more dimensions in ``dtype``, 16 bits wide.

    ``dtype`` is float16 or bfloat16. ``arithmetic`` is for devices that compute in it. Weights of
    fewer than ``minimum_size`` elements stay as they are.
    """
    limits = Limits(dtype)
    half = half_nodes(graph, limits) if arithmetic else set()
    return _Downcast(graph, np.dtype(dtype), limits, half, minimum_size).run()


class _Downcast:
    """A graph on its way: nodes are added in the order in which they are needed."""

    def __init__(
        self, graph: Graph, dtype: np.dtype, limits: Limits, half: Set[str], minimum_size: int
    ) -> None:
        self._graph, self._dtype, self._limits = graph, dtype, limits
        self._half, self._minimum = half, minimum_size
        self._nodes: Dict[str, Node] = {}
        self._taken: Set[str] = set(graph.nodes)
        self._made: Dict[str, str] = {}  # tensor, and what it is in the other dtype
        self._notes: List[str] = []
        self._stored = {node.name for node in graph if self._is_stored(node)}

    def run(self) -> Rewritten:
        for node in self._graph.topological():
            if node.op in _GATHERS and self._weight(node.data_inputs[0]) in self._stored:
                self._gather(node)
            elif node.name in self._half:
                self._in_half(node)
            elif node.name in self._stored:
                self._store(node)
            else:
                self._put(node.with_inputs(self._read(node, tensor) for tensor in node.inputs))
        graph = self._graph.replaced(nodes=self._nodes.values(), outputs=self._graph.outputs)
        return Rewritten(graph, tuple(self._notes))

    def _is_stored(self, node: Node) -> bool:
        if node.op != "Const" or node.attrs["dtype"] != FLOAT:
            return False
        value = np.asarray(node.attrs["value"])
        if value.ndim < 2 or value.size < self._minimum:
            return False
        if self._limits.fit(value):
            return True
        self._notes.append(
            "%s: stays in float32, its values from %g to %g don't fit into %s"
            % (node.name, value.min(), value.max(), self._dtype)
        )
        return False

    def _weight(self, tensor: str) -> str:
        """The node that a tensor comes from, seen through identities such as a variable's read."""
        return node_of(source(self._graph, tensor))

    def _put(self, node: Node) -> str:
        self._nodes[node.name] = node
        return node.name

    def _fresh(self, name: str) -> str:
        unique, count = name, 0
        while unique in self._taken:
            count += 1
            unique = "%s_%d" % (name, count)
        self._taken.add(unique)
        return unique

    def _name(self, tensor: str) -> str:
        return self._fresh("%s/%s" % (plain(tensor).replace(":", "_"), self._dtype))

    def _constant(self, name: str) -> str:
        """A constant in 16 bits."""
        if name not in self._made:
            value = np.asarray(self._graph[name].attrs["value"]).astype(self._dtype)
            value.setflags(write=False)
            attrs = {"dtype": self._dtype, "value": value}
            self._made[name] = self._put(Node(self._name(name), "Const", (), attrs))
        return self._made[name]

    def _store(self, node: Node) -> None:
        """A weight in 16 bits, and under its own name in float32 for who reads it so."""
        attrs = {"SrcT": self._dtype, "DstT": FLOAT}
        self._put(Node(node.name, "Cast", (self._constant(node.name),), attrs))

    def _gather(self, node: Node) -> None:
        """Rows of a table: gathered in 16 bits, computed with in float32."""
        table = self._constant(self._weight(node.data_inputs[0]))
        rest = tuple(self._read(node, tensor) for tensor in node.inputs[1:])
        attrs = dict(node.attrs, Tparams=self._dtype)
        rows = self._put(Node(self._name(node.name), node.op, (table,) + rest, attrs))
        attrs = {"SrcT": self._dtype, "DstT": FLOAT}
        self._put(Node(node.name, "Cast", (rows,), attrs))

    def _in_half(self, node: Node) -> None:
        floats = set(float_inputs(node))
        inputs = [
            self._halved(tensor) if tensor in floats else self._read(node, tensor)
            for tensor in node.inputs
        ]
        changed = node.with_inputs(inputs).with_attrs(T=self._dtype)
        outputs = [tensor for tensor in self._graph.outputs if node_of(tensor) == node.name]
        if not outputs:
            self._put(changed)
            return
        # The name is for the float32 tensor that the graph is asked for.
        renamed = self._name(node.name)
        self._put(Node(renamed, changed.op, changed.inputs, changed.attrs))
        self._made[node.name] = renamed
        attrs = {"SrcT": self._dtype, "DstT": FLOAT}
        self._put(Node(node.name, "Cast", (renamed,), attrs))

    def _halved(self, tensor: str) -> str:
        """What a node in 16 bits reads in place of a float32 tensor."""
        name = plain(tensor)
        node = self._graph[name]
        if node.name in self._half:
            return self._made.get(name, name)
        if self._graph[self._weight(name)].op == "Const":
            return self._constant(self._weight(name))
        key = name + " in half"
        if key not in self._made:
            attrs = {"SrcT": FLOAT, "DstT": self._dtype}
            self._made[key] = self._put(Node(self._name(name), "Cast", (name,), attrs))
        return self._made[key]

    def _read(self, reader: Node, tensor: str) -> str:
        """What a node in float32 reads: what was computed in 16 bits is cast back."""
        name = plain(tensor)
        if tensor.startswith("^") or node_of(name) not in self._half or name in self._made:
            return tensor
        key = name + " in float32"
        if key not in self._made:
            attrs = {"SrcT": self._dtype, "DstT": FLOAT}
            back = self._fresh(name.replace(":", "_") + "/float32")
            self._made[key] = self._put(Node(back, "Cast", (name,), attrs))
        return self._made[key]
