"""The shapes of slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Sequence

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.passes.dimensions import ONE, Dim, Shape, own_symbol

if TYPE_CHECKING:
    from bert_serving.graph_opt.passes.shapes import Shapes

__all__ = ["sliced", "strided"]


def strided(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    """The shape of a StridedSlice, without the ellipses and new axes that it may have."""
    shape = inputs[0]
    begins, ends, strides = [shapes.numbers(tensor) for tensor in node.data_inputs[1:]]
    if shape is None or begins is None or node.attrs.get("ellipsis_mask"):
        return None
    if node.attrs.get("new_axis_mask") or len(begins) > len(shape):
        return None
    result: List[Dim] = []
    for axis, dim in enumerate(shape):
        bit = 1 << axis
        if axis < len(begins):
            if node.attrs.get("shrink_axis_mask", 0) & bit:
                continue
            whole = node.attrs.get("begin_mask", 0) & node.attrs.get("end_mask", 0) & bit
            stride = strides[axis] if strides else 0
            if not (whole and stride == 1):
                dim = _span(node, axis, dim, begins[axis], ends, stride)
        result.append(dim)
    return tuple(result)


def _span(
    node: Node, axis: int, dim: Dim, begin: int, ends: Optional[List[int]], stride: int
) -> Dim:
    """The length of one axis of a StridedSlice that doesn't take all of it."""
    masks = (node.attrs.get("begin_mask", 0) | node.attrs.get("end_mask", 0)) & (1 << axis)
    if ends is None or masks or stride < 1:
        return own_symbol(node.name, axis)
    if dim.known:
        return Dim(len(range(*slice(begin, ends[axis], stride).indices(dim.factor))))
    # [0:1] of an axis that is surely there; a symbol could be 0, but a batch without tokens has no
    # first token either.
    return ONE if (begin, ends[axis]) == (0, 1) else own_symbol(node.name, axis)


def sliced(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    """The shape of a Slice."""
    begins, sizes = shapes.numbers(node.data_inputs[1]), shapes.value(node.data_inputs[2])
    shape = inputs[0]
    if shape is None or sizes is None:
        return None
    return tuple(
        size
        if size != Dim(-1)
        else (dim if begins is not None and begins[axis] == 0 else own_symbol(node.name, axis))
        for axis, (size, dim) in enumerate(zip(sizes, shape))
    )
