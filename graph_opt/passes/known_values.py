"""Values of tensors that are the same at every inference: of switches, rates and the like.

Known are small constants, defaults of placeholders that aren't fed, that variables are initialized
(they come from a checkpoint), and what the operations below compute from these.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.kernels import KERNELS
from bert_serving.graph_opt.passes.navigation import PASSING_ON, declared_inputs

__all__ = ["KnownValues"]

# Predicates and rates are scalars; weights are not worth computing with.
_LARGEST = 64
_COMPUTED = frozenset(
    ("Add", "AddV2", "All", "Any", "Cast", "Equal", "ExpandDims", "Greater", "GreaterEqual", "Less")
    + ("LessEqual", "Maximum", "Minimum", "Mul", "NotEqual", "Pack", "RealDiv")
    + ("Reciprocal", "Reshape", "Squeeze", "Sub")
)
_INITIALIZED = ("IsVariableInitialized", "VarIsInitializedOp")
# Whichever output of a switch has a value at all has its input's.
_SAME_VALUE = PASSING_ON | {"PlaceholderWithDefault", "RefSwitch", "Switch"}
_DECISIVE: Mapping[str, bool] = {"LogicalAnd": False, "LogicalOr": True}


class KnownValues:
    """What is known of a graph's tensors."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._inputs = frozenset(declared_inputs(graph))
        self._values = self._propagate()

    def get(self, tensor: str) -> Optional[np.ndarray]:
        """The value of a tensor, or None if it may differ from one inference to the next."""
        return self._values.get(node_of(tensor))

    def scalar(self, tensor: str) -> Optional[float]:
        """The value of a tensor of one number; None if it isn't one or isn't known."""
        value = self.get(tensor)
        if value is None or value.size != 1:
            return None
        # To numpy, bfloat16 is of no kind that it knows.
        if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
            return None
        return float(value.reshape(()))

    def _propagate(self) -> Dict[str, np.ndarray]:
        """From the constants on to their readers: loops are no obstacle, nor is depth."""
        readers = self._graph.consumers()
        values: Dict[str, np.ndarray] = {}
        waiting = [node for node in self._graph if not node.data_inputs or node.op in _INITIALIZED]
        while waiting:
            node = waiting.pop()
            if node.name in values or node.name in self._inputs:
                continue
            value = _value(node, [values.get(node_of(name)) for name in node.data_inputs])
            if value is not None and value.size <= _LARGEST:
                values[node.name] = value
                waiting.extend(readers[node.name])
        return values


def _value(node: Node, inputs: List[Optional[np.ndarray]]) -> Optional[np.ndarray]:
    if node.op == "Const":
        return np.asarray(node.attrs["value"])
    if node.op in _INITIALIZED:
        return np.array(True)
    if node.op in _SAME_VALUE:
        return inputs[0]
    if node.op == "IdentityN":
        # Of two outputs that differ, neither would be the node's value.
        return inputs[0] if len(set(node.data_inputs)) == 1 else None
    if node.op == "LogicalNot":
        return None if inputs[0] is None else ~inputs[0]
    if node.op in _DECISIVE:
        return _logical(_DECISIVE[node.op], inputs)
    arrays = [value for value in inputs if value is not None]
    if node.op not in _COMPUTED or node.op not in KERNELS or len(arrays) < len(inputs):
        return None
    with np.errstate(all="ignore"):
        return np.asarray(KERNELS[node.op](node, arrays)[0])


def _logical(decisive: bool, inputs: List[Optional[np.ndarray]]) -> Optional[np.ndarray]:
    """And, or: one operand may be enough."""
    for value in inputs:
        if value is not None and value.size == 1 and bool(value.reshape(())) is decisive:
            return np.array(decisive)
    left, right = inputs
    if left is None or right is None:
        return None
    return np.asarray(left | right if decisive else left & right)
