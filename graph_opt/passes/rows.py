"""How a selection of tokens passes through operations, from a result to its operands.

A tensor's rows are the places along the axis of its tokens, either an axis of its own, as in
[batch, sequence, width], or one in which it is the inner part, as in [batch * sequence, width].
"""

from __future__ import annotations

from typing import Callable, List, Mapping, NamedTuple, Optional, Tuple

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.passes.dimensions import ONE, Dim, Shape, product, quotient
from bert_serving.graph_opt.passes.shape_rules import BINARY, UNARY
from bert_serving.graph_opt.passes.shapes import Shapes

__all__ = ["Demand", "Rows", "operand_demands", "selected_shape"]


class Rows(NamedTuple):
    """The axis of the tokens, and how many there are; ``outer``: what stands before them in it."""

    axis: int
    length: Dim
    outer: Dim = ONE


# Of an operand: the rows of it that are enough, or None if it must be whole.
Demand = Optional[Rows]
Rule = Callable[[Shapes, Node, Shape, Rows], Optional[List[Demand]]]


def operand_demands(shapes: Shapes, node: Node, rows: Rows) -> Optional[List[Demand]]:
    """What a node needs of each data input to compute one of its rows in place of all.

    None if the node can't: it mixes rows, it isn't known, or its shape isn't.
    """
    shape = shapes.shape(node.name)
    if shape is None or rows.axis >= len(shape):
        return None
    if node.op in UNARY:
        # Softmax mixes along its last axis; a bias lies along it.
        whole: List[Demand] = [None] * (len(node.data_inputs) - 1)
        last_is_mixed = node.op in ("BiasAdd", "LogSoftmax", "Softmax")
        if last_is_mixed and rows.axis == len(shape) - 1:
            return None
        first: List[Demand] = [rows]
        return first + whole if node.attrs.get("data_format") not in _CHANNELS_FIRST else None
    if node.op in BINARY:
        return _broadcast(shapes, node, shape, rows)
    rule = _RULES.get(node.op)
    return rule(shapes, node, shape, rows) if rule else None


_CHANNELS_FIRST = ("NCHW", b"NCHW")


def _broadcast(shapes: Shapes, node: Node, shape: Shape, rows: Rows) -> Optional[List[Demand]]:
    demands: List[Demand] = []
    for tensor in node.data_inputs:
        operand = shapes.shape(tensor)
        if operand is None:
            return None
        axis = rows.axis - (len(shape) - len(operand))
        if axis < 0 or operand[axis] == ONE:
            demands.append(None)  # the same for every row
        elif operand[axis] == shape[rows.axis]:
            demands.append(rows._replace(axis=axis))
        else:
            return None
    return demands


def _product(shapes: Shapes, node: Node, shape: Shape, rows: Rows) -> Optional[List[Demand]]:
    """A row of a matrix product needs that row of the left operand."""
    transposed = node.attrs.get("transpose_a") or node.attrs.get("adj_x")
    left = shapes.shape(node.data_inputs[0])
    if transposed or left is None or rows.axis != len(shape) - 2:
        return None
    return [rows._replace(axis=len(left) - 2), None]


def _reduced(shapes: Shapes, node: Node, shape: Shape, rows: Rows) -> Optional[List[Demand]]:
    axes = shapes.numbers(node.data_inputs[1])
    if axes is None or not node.attrs.get("keep_dims"):
        return None
    mixed = rows.axis in {axis % len(shape) for axis in axes}
    return None if mixed else [rows, None]


def _transposed(shapes: Shapes, node: Node, shape: Shape, rows: Rows) -> Optional[List[Demand]]:
    perm = shapes.numbers(node.data_inputs[1])
    return None if perm is None else [rows._replace(axis=perm[rows.axis]), None]


def _expanded(shapes: Shapes, node: Node, shape: Shape, rows: Rows) -> Optional[List[Demand]]:
    axes = shapes.numbers(node.data_inputs[1])
    if axes is None or axes[0] % len(shape) == rows.axis:
        return None
    return [rows._replace(axis=rows.axis - (axes[0] % len(shape) < rows.axis)), None]


def _concatenated(shapes: Shapes, node: Node, shape: Shape, rows: Rows) -> Optional[List[Demand]]:
    axes = shapes.numbers(node.data_inputs[-1])
    if axes is None or axes[0] % len(shape) == rows.axis:
        return None
    parts = node.data_inputs[:-1]
    alike = all((shapes.shape(part) or shape)[rows.axis] == shape[rows.axis] for part in parts)
    known = all(shapes.rank(part) == len(shape) for part in parts)
    return [rows] * len(parts) + [None] if alike and known else None


def _reshaped(shapes: Shapes, node: Node, shape: Shape, rows: Rows) -> Optional[List[Demand]]:
    """The rows stay whole and in order if what follows them in memory stays the same."""
    source = shapes.shape(node.data_inputs[0])
    if source is None or selected_shape(shape, rows) is None:
        return None
    inner = product(shape[rows.axis + 1 :])
    before = product(shape[: rows.axis] + (rows.outer,))
    for axis, size in enumerate(source):
        outer = quotient(size, rows.length)
        if outer is None or product(source[axis + 1 :]) != inner:
            continue
        if product(source[:axis] + (outer,)) == before:
            return [Rows(axis, rows.length, outer), None]
    return None


def selected_shape(shape: Shape, rows: Rows) -> Optional[Tuple[int, ...]]:
    """The shape of one row's part, with -1 for a dimension that isn't a number; None if two are."""
    dims = shape[: rows.axis] + (rows.outer,) + shape[rows.axis + 1 :]
    numbers = tuple(dim.factor if dim.known else -1 for dim in dims)
    return numbers if numbers.count(-1) <= 1 and 0 not in numbers else None


_RULES: Mapping[str, Rule] = {
    "BatchMatMul": _product,
    "BatchMatMulV2": _product,
    "ConcatV2": _concatenated,
    "ExpandDims": _expanded,
    "MatMul": _product,
    "Max": _reduced,
    "Mean": _reduced,
    "Min": _reduced,
    "Reshape": _reshaped,
    "Sum": _reduced,
    "Transpose": _transposed,
}
