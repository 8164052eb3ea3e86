"""Writing graphs for tests, with a sample value for every tensor."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Optional, Sequence

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.signatures import SIGNATURES, input_slots, output_dtypes

# Operations whose outputs the sample values can't tell without a graph.
_UNSAMPLED = ("Switch", "Merge")


class _Values(Dict[str, np.ndarray]):
    """Output 0 of a node may be asked for with and without its index."""

    def __missing__(self, tensor: str) -> np.ndarray:
        if tensor.endswith(":0"):
            return self[tensor[:-2]]
        raise KeyError(tensor)


class Draft:
    """A graph in the making. What is added is computed at once, so shapes and dtypes are known.

    ``values`` has every tensor, output 0 under its node's name; ``feeds`` those of the inputs.
    """

    def __init__(self) -> None:
        self.nodes: Dict[str, Node] = {}
        self.values: Dict[str, np.ndarray] = _Values()
        self.feeds: Dict[str, np.ndarray] = {}
        self.variables: Dict[str, Any] = {}

    def input(self, name: str, value: Any, open_axes: Iterable[int] = ()) -> str:
        """A placeholder and what it is fed; its dimensions are known but for ``open_axes``."""
        array = np.asarray(value)
        shape = tuple(
            None if axis in tuple(open_axes) else size for axis, size in enumerate(array.shape)
        )
        self.feeds[name] = self.values[name] = array
        self._put(Node(name, "Placeholder", (), {"dtype": array.dtype, "shape": shape}))
        return name

    def const(self, value: Any, dtype: Any = "float32", name: str = "Const") -> str:
        array = np.array(value, dtype)
        array.setflags(write=False)
        node = Node(self.unique(name), "Const", (), {"dtype": array.dtype, "value": array})
        self.values[node.name] = array
        return self._put(node)

    def op(
        self,
        op: str,
        inputs: Sequence[str],
        name: Optional[str] = None,
        dtypes: Optional[Mapping[str, Any]] = None,
        **attrs: Any,
    ) -> str:
        """Add a node; ``dtypes`` names the dtype attributes that no input decides."""
        merged: Dict[str, Any] = {key: np.dtype(value) for key, value in (dtypes or {}).items()}
        merged.update(attrs)
        node = Node(self.unique(name or op), op, tuple(inputs), merged)
        for tensor, slot in input_slots(node):
            found = self.values[tensor].dtype
            expected = merged.setdefault(slot, found) if isinstance(slot, str) else slot
            assert expected == found, (node, tensor, expected, found)
        if SIGNATURES[op].repeats:
            merged["N"] = len(node.data_inputs) - len(SIGNATURES[op].inputs) + 1
        node = node.with_attrs(**merged)
        if op not in _UNSAMPLED:
            self._sample(node)
        return self._put(node)

    def graph(self, outputs: Sequence[str]) -> Graph:
        graph = Graph(self.nodes.values(), outputs, self.variables)
        graph.validate()
        return graph

    def unique(self, name: str) -> str:
        count, result = 0, name
        while result in self.nodes:
            count += 1
            result = "%s_%d" % (name, count)
        return result

    def hide(self, tensors: Iterable[str]) -> None:
        """Forget values, so that nothing else is made of these tensors."""
        for tensor in tensors:
            del self.values[tensor]

    def _put(self, node: Node) -> str:
        assert node.name not in self.nodes
        self.nodes[node.name] = node
        return node.name

    def _sample(self, node: Node) -> None:
        inputs = {
            name: Node(
                name,
                "Placeholder",
                (),
                {"dtype": self.values[tensor].dtype, "shape": self.values[tensor].shape},
            )
            for name, tensor in zip("abcdefghijkl", node.data_inputs)
        }
        count = len(output_dtypes(node.op, node.attrs))
        outputs = ["%s:%d" % (node.name, index) for index in range(count)]
        nodes = [*inputs.values(), node.with_inputs(inputs)]
        feeds = {name: self.values[t] for name, t in zip(inputs, node.data_inputs)}
        results = run(Graph(nodes, outputs), feeds)
        for index, output in enumerate(outputs):
            self.values[node.name if not index else output] = results[output]
