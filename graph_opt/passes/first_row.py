"""Compute for the first token only what nobody reads of the others.

Before, where only the first token of the last layer is pooled or classified::

    hidden [b*s, h] -> query, key, value -> attention -> dense -> ... -> [b, s, h] -> first token

After::

    hidden [b*s, h] -> key, value ---------+
           |                               v
           first rows [b, h] -> query -> attention -> dense -> ... -> [b, 1, h] -> first token

The selection is moved up through operations that treat each token by itself (``rows.py``): products
with weights, the left side of the attention's products, softmax, layer normalization, activations,
and reshapes and transpositions, as far as it can be proven that the tokens stay apart
(``shapes.py``). It stops where somebody reads the other tokens too: there the rows are gathered.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, node_of, output_index
from bert_serving.graph_opt.passes.dimensions import ONE, Dim, Shape
from bert_serving.graph_opt.passes.matching import Edit, plain
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.passes.rows import Demand, Rows, operand_demands, selected_shape
from bert_serving.graph_opt.passes.shapes import Shapes
from bert_serving.graph_opt.signatures import SIGNATURES, output_dtypes

__all__ = ["first_row"]

SHORT = np.dtype("int32")
_PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "MatMul")


class _Plan(NamedTuple):
    """Which nodes are computed for one row only, and what they demand of their operands."""

    narrowed: Dict[str, Rows]
    demands: Dict[str, List[Demand]]

    def gathered(self, graph: Graph) -> List[Tuple[str, Rows]]:
        """The tensors that are computed whole, but of which only a row is demanded."""
        found: Dict[Tuple[str, Rows], None] = {}
        for name, demands in self.demands.items():
            for tensor, rows in zip(graph[name].data_inputs, demands):
                if rows is not None and plain(tensor) not in self.narrowed:
                    found[plain(tensor), rows] = None
        return list(found)


def first_row(graph: Graph) -> Rewritten:
    """The graph with the last layer computed for the first token, where that is all that is read.

    Raises:
        GraphError: a malformed graph.
    """
    shapes = Shapes(graph)
    selectors: Dict[str, Rows] = {}
    for node in graph:
        rows = _selected(shapes, node)
        if rows is not None:
            selectors[node.name] = rows
    plan = _plan(shapes, selectors)
    notes = [
        "%s: other tokens of %s are read too, or can't be told apart" % (name, tensor)
        for name in selectors
        for tensor in [plain(graph[name].data_inputs[0])]
        if tensor not in plan.narrowed
    ]
    if not any(graph[name].op in _PRODUCTS for name in plan.narrowed):
        return Rewritten(graph, tuple(notes))
    edit = Edit(graph)
    gathers: Dict[Tuple[str, Rows], str] = {}
    lengths = _Lengths(shapes, plan, edit)
    for tensor, rows in plan.gathered(graph):
        gather = _gather(edit, shapes, lengths, tensor, rows)
        if gather is None:
            return Rewritten(graph, ("%s: its first row can't be gathered" % tensor,))
        gathers[tensor, rows] = gather
    for name in plan.narrowed:
        edit.replace(_narrowed(edit, shapes, graph[name], plan, gathers))
    return Rewritten(edit.graph(), tuple(notes))


def _selected(shapes: Shapes, node: Node) -> Optional[Rows]:
    """The rows of its first input of which a node reads the first one only."""
    if node.op not in ("GatherV2", "Slice", "StridedSlice"):
        return None
    shape = shapes.shape(node.data_inputs[0])
    if shape is None or len(shape) < 2 or shape[1] == ONE:
        return None
    numbers = [shapes.numbers(tensor) for tensor in node.data_inputs[1:]]
    if node.op == "GatherV2":
        first = numbers == [[0], [1]] and not node.attrs.get("batch_dims")
    elif node.op == "Slice":
        sizes = shapes.value(node.data_inputs[2])
        first = bool(numbers[0] and sizes and numbers[0][1] == 0 and sizes[1] == ONE)
    else:
        first = _is_first_slice(node, numbers)
    return Rows(1, shape[1]) if first else None


def _is_first_slice(node: Node, numbers: List[Optional[List[int]]]) -> bool:
    """Whether a StridedSlice takes ``[:, 0]`` or ``[:, 0:1]``, whatever it takes of other axes."""
    begins, ends, strides = numbers
    if begins is None or ends is None or strides is None or len(begins) < 2:
        return False
    if node.attrs.get("ellipsis_mask") or node.attrs.get("new_axis_mask"):
        return False
    starts = begins[1] == 0 or bool(node.attrs.get("begin_mask", 0) & 2)
    if node.attrs.get("shrink_axis_mask", 0) & 2:
        return begins[1] == 0
    return starts and ends[1] == 1 and strides[1] == 1 and not node.attrs.get("end_mask", 0) & 2


def _plan(shapes: Shapes, selectors: Dict[str, Rows]) -> _Plan:
    """Move what is demanded of each tensor from the end of the graph to its beginning."""
    graph = shapes.graph
    plan = _Plan({}, {})
    outputs = {node_of(tensor) for tensor in graph.outputs}
    demanded: Dict[str, List[Demand]] = {}
    for node in reversed(graph.topological()):
        asked = demanded.get(node.name, [])
        demands: List[Demand] = []
        if node.name in selectors:
            demands = [selectors[node.name]]
        elif asked and asked[0] and node.name not in outputs and len(set(asked)) == 1:
            found = operand_demands(shapes, node, asked[0])
            if found is not None:
                plan.narrowed[node.name] = asked[0]
                plan.demands[node.name] = demands = found
        for index, tensor in enumerate(node.inputs):
            whole = index >= len(demands) or output_index(tensor) > 0
            demanded.setdefault(node_of(tensor), []).append(None if whole else demands[index])
    return plan


def _narrowed(
    edit: Edit,
    shapes: Shapes,
    node: Node,
    plan: _Plan,
    gathers: Dict[Tuple[str, Rows], str],
) -> Node:
    """The node on one row of its operands."""
    inputs = []
    for tensor, rows in zip(node.data_inputs, plan.demands[node.name]):
        if rows is not None and plain(tensor) not in plan.narrowed:
            tensor = gathers[plain(tensor), rows]
        inputs.append(tensor)
    if node.op == "Reshape":
        shape = selected_shape(shapes.shape(node.name) or (), plan.narrowed[node.name])
        inputs[1] = edit.constant(node.name, shape, np.int32, node.name + "/first_row/shape")
        node = node.with_attrs(Tshape=SHORT)
    return node.with_inputs(inputs)


def _gather(
    edit: Edit, shapes: Shapes, lengths: _Lengths, tensor: str, rows: Rows
) -> Optional[str]:
    """Add the first row of a tensor; None if its sequence length is nowhere to be had."""
    node = shapes.graph[tensor]
    if node.op not in SIGNATURES:
        return None
    dtype = output_dtypes(node.op, node.attrs)[0]
    name = node.name + "/first_row"
    axis = rows.axis
    if rows.outer != ONE:
        shape = lengths.unmerged(tensor, rows)
        if shape is None:
            return None
        attrs = {"T": dtype, "Tshape": shape[1]}
        tensor = edit.add(node.name, "Reshape", (tensor, shape[0]), attrs, name + "/rows")
        axis += 1
    # An axis of its own is kept, with length 1.
    position = edit.constant(
        node.name, [0] if rows.outer == ONE else 0, np.int32, name + "/position"
    )
    place = edit.constant(node.name, axis, np.int32, name + "/axis")
    attrs = {"Tparams": dtype, "Tindices": SHORT, "Taxis": SHORT, "batch_dims": 0}
    return edit.add(node.name, "GatherV2", (tensor, position, place), attrs, name)


class _Lengths:
    """Finds the shapes and sequence lengths that a graph computes, upstream of what changes."""

    def __init__(self, shapes: Shapes, plan: _Plan, edit: Edit) -> None:
        self._shapes = shapes
        self._edit = edit
        changed = set(plan.narrowed)
        self._nodes: List[Node] = []
        for node in shapes.graph.topological():
            if changed.intersection(map(node_of, node.inputs)):
                changed.add(node.name)
            elif node.name not in changed and shapes.value(node.name) is not None:
                self._nodes.append(node)

    def unmerged(self, tensor: str, rows: Rows) -> Optional[Tuple[str, np.dtype]]:
        """A shape that gives the tokens of a tensor an axis of their own, and the shape's dtype."""
        shape = self._shapes.shape(tensor) or ()
        wanted = shape[: rows.axis] + (rows.outer, rows.length) + shape[rows.axis + 1 :]
        open_dims = [dim for dim in wanted if not dim.known]
        if len(open_dims) <= 1:
            numbers = [dim.factor if dim.known else -1 for dim in wanted]
            name = tensor + "/first_row/rows/shape"
            return self._edit.constant(tensor, numbers, np.int32, name), SHORT
        for node in self._nodes:
            if self._shapes.value(node.name) == wanted and self._shapes.rank(node.name) == 1:
                return node.name, self._dtype(node)
        return self._packed(tensor, rows, wanted) if len(open_dims) == 2 else None

    def _packed(self, tensor: str, rows: Rows, wanted: Shape) -> Optional[Tuple[str, np.dtype]]:
        """The shape made of numbers, -1 for what is beside the sequence, and the sequence."""
        length = self._length(tensor, rows.length)
        if length is None:
            return None
        name = tensor + "/first_row/rows/shape"
        sizes = [
            length[0]
            if place == rows.axis + 1
            else self._edit.constant(
                tensor, dim.factor if dim.known else -1, length[1], name + "/size"
            )
            for place, dim in enumerate(wanted)
        ]
        attrs = {"T": length[1], "axis": 0}
        return self._edit.add(tensor, "Pack", sizes, attrs, name), length[1]

    def _length(self, anchor: str, count: Dim) -> Optional[Tuple[str, np.dtype]]:
        """A tensor of rank 0 that holds a size, and its dtype."""
        for node in self._nodes:
            value, dtype = self._shapes.value(node.name) or (), self._dtype(node)
            if count not in value:
                continue
            if self._shapes.rank(node.name) == 0:
                return node.name, dtype
            name = anchor + "/first_row/length"
            inputs = (
                node.name,
                self._edit.constant(anchor, value.index(count), np.int32, name + "/position"),
                self._edit.constant(anchor, 0, np.int32, name + "/axis"),
            )
            attrs = {"Tparams": dtype, "Tindices": SHORT, "Taxis": SHORT, "batch_dims": 0}
            return self._edit.add(anchor, "GatherV2", inputs, attrs, name), dtype
        return None

    def _dtype(self, node: Node) -> np.dtype:
        return np.dtype(output_dtypes(node.op, node.attrs)[0])
