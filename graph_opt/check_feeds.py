"""Random input for a graph: token ids that its tables have, masks, texts of mixed lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.errors import OptionError
from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.signatures import PASS_THROUGH

__all__ = ["BATCHES", "Feeds", "random_batches"]

Feeds = Dict[str, np.ndarray]

#: Rows and length of the batches: a single text, a few short ones, longer ones.
BATCHES: Tuple[Tuple[int, int], ...] = ((1, 7), (4, 12), (3, 20))

# Operations that hand on the values of their first input.
_SAME_VALUES = PASS_THROUGH + ("Cast", "Reshape", "ExpandDims", "Squeeze", "Transpose")
_GATHERS = ("Gather", "GatherV2", "ResourceGather")
_READS = PASS_THROUGH + ("ReadVariableOp", "Cast")
_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")


def random_batches(graph: Graph, seed: int = 0) -> List[Feeds]:
    """Feeds for ``graph.inputs``, one dictionary a batch.

    An integer input whose values index a table, or become one-hot, stays within it; any other is
    taken for a mask: ones, then zeros where the text has ended. Rows differ in length; at least
    one is of the full length.

    Raises:
        OptionError: an input of strings, for which nothing can be made up.
    """
    random = np.random.RandomState(seed)
    readers = graph.consumers()
    inputs = [_Input(graph[name], _bound(graph, readers, name)) for name in graph.inputs]
    batches = []
    for rows, length in _sizes(graph, inputs):
        lengths = random.randint(1, length + 1, rows)
        lengths[rows - 1] = length
        attended = np.arange(length) < lengths[:, None]  # [rows, length]
        batches.append({one.node.name: one.values(random, attended) for one in inputs})
    return batches


@dataclass(frozen=True)
class _Input:
    node: Node
    bound: Optional[int]  # the values are below it; None: they index nothing

    def values(self, random: np.random.RandomState, attended: np.ndarray) -> np.ndarray:
        dtype = self.node.attrs["dtype"]
        name = self.node.name.lower()
        shape = self._shape(attended)
        if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf":
            raise OptionError(
                "no values can be made up for the input %r, which is %s" % (self.node.name, dtype)
            )
        if len(shape) == 1 and "len" in name:
            return attended.sum(axis=1).astype(dtype)
        mask = _spread(attended, shape)
        if dtype.kind == "f" and "mask" not in name:
            return random.standard_normal(shape).astype(dtype)
        if self.bound is None:
            return mask.astype(dtype)
        return (random.randint(0, self.bound, shape) * mask).astype(dtype)

    def _shape(self, attended: np.ndarray) -> Tuple[int, ...]:
        """An open first dimension is the batch; every other open one the sequence."""
        rows, length = attended.shape
        shape = self.node.attrs.get("shape")
        if shape is None:
            return rows, length
        return tuple(
            size if size is not None else (rows if axis == 0 else length)
            for axis, size in enumerate(shape)
        )


def _spread(attended: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The mask [rows, length] over an array of this shape; ones where it doesn't fit."""
    rows, length = attended.shape
    axes = [axis for axis in range(1, len(shape)) if shape[axis] == length]
    if not axes or shape[0] != rows:
        return np.ones(shape, bool)
    wanted = [1] * len(shape)
    wanted[0], wanted[axes[0]] = rows, length
    return np.broadcast_to(attended.reshape(wanted), shape)


def _sizes(graph: Graph, inputs: Iterable[_Input]) -> List[Tuple[int, int]]:
    """The batches, cut to what the graph can take: its fixed dimensions, its positions."""
    shapes = [one.node.attrs.get("shape") or () for one in inputs]
    fixed = [[shape[axis] for shape in shapes if len(shape) == 2] for axis in (0, 1)]
    rows, lengths = [[size for size in sizes if size is not None] for sizes in fixed]
    longest = min(_positions(graph) + [max(length for _, length in BATCHES)])
    return [
        (rows[0] if rows else count, lengths[0] if lengths else min(length, longest))
        for count, length in BATCHES
    ]


def _positions(graph: Graph) -> List[int]:
    """Rows of the tables of position embeddings, which bound the length of a text."""
    found = []
    for node in graph:
        if node.name.endswith("position_embeddings"):
            rows = _rows(graph, node.name)
            if rows:
                found.append(rows)
    return found


def _bound(graph: Graph, readers: Dict[str, List[Node]], name: str) -> Optional[int]:
    """The smallest of the tables that a placeholder indexes, directly or in another form."""
    bounds = []
    seen = {name}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        for reader in readers[current]:
            places = [node_of(tensor) for tensor in reader.data_inputs]
            if reader.op in _GATHERS and current in places[1:2]:
                bounds.append(_rows(graph, places[0]))
            elif reader.op == "OneHot" and current == places[0]:
                bounds.append(_scalar(graph, places[1]))
            elif reader.op in _SAME_VALUES and current == places[0] and reader.name not in seen:
                seen.add(reader.name)
                waiting.append(reader.name)
    return min((bound for bound in bounds if bound), default=None)


def _rows(graph: Graph, tensor: str) -> Optional[int]:
    """Rows of a table; those of a partitioned one add up. None where they aren't known."""
    node = graph[tensor]
    if node.op in _READS:
        return _rows(graph, node.data_inputs[0])
    if node.op == "Const":
        shape = np.shape(node.attrs["value"])
    elif node.op in _VARIABLES and node.name in graph.variables:
        shape = graph.variables[node.name].shape
    elif node.op == "ConcatV2" and _scalar(graph, node.data_inputs[-1]) == 0:
        parts = [_rows(graph, part) for part in node.data_inputs[:-1]]
        return sum(part or 0 for part in parts)
    else:
        return None
    return int(shape[0]) if shape else None


def _scalar(graph: Graph, tensor: str) -> Optional[int]:
    node = graph[tensor]
    if node.op in _READS:
        return _scalar(graph, node.data_inputs[0])
    if node.op != "Const" or np.size(node.attrs["value"]) != 1:
        return None
    return int(np.ravel(node.attrs["value"])[0])
