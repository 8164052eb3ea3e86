"""The elements of integer tensors that hold shapes, as sizes that may be symbolic.

TensorFlow's graphs compute shapes by Shape, StridedSlice, Pack and the like; these are followed for
tensors of rank 0 and 1. Anything else has no known value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.passes.dimensions import Dim, product
from bert_serving.graph_opt.signatures import PASS_THROUGH

if TYPE_CHECKING:
    from bert_serving.graph_opt.passes.shapes import Shapes

__all__ = ["shape_value"]

# Longer integer tensors aren't shapes.
_LONGEST_SHAPE = 16


def shape_value(shapes: Shapes, node: Node) -> Optional[Tuple[Dim, ...]]:
    """The elements of a node's first output; ``shapes`` knows those of the inputs."""
    rule = _VALUES.get(node.op)
    return rule(shapes, node) if rule else None


def _constant_value(shapes: Shapes, node: Node) -> Optional[Tuple[Dim, ...]]:
    value = np.asarray(node.attrs["value"])
    if value.dtype.kind not in "iu" or value.ndim > 1 or value.size > _LONGEST_SHAPE:
        return None
    return tuple(Dim(int(element)) for element in value.ravel())


def _packed_value(shapes: Shapes, node: Node) -> Optional[Tuple[Dim, ...]]:
    parts = [shapes.value(tensor) for tensor in node.data_inputs]
    scalar = all(shapes.rank(tensor) == 0 for tensor in node.data_inputs)
    known = [part for part in parts if part is not None]
    if not scalar or len(known) < len(parts) or len(known) > _LONGEST_SHAPE:
        return None
    return sum(known, ())


def _concat_value(shapes: Shapes, node: Node) -> Optional[Tuple[Dim, ...]]:
    parts = [shapes.value(tensor) for tensor in node.data_inputs[:-1]]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or any(shapes.rank(part) != 1 for part in node.data_inputs[:-1]):
        return None
    return sum(known, ())


def _gather_value(shapes: Shapes, node: Node) -> Optional[Tuple[Dim, ...]]:
    elements, places = shapes.value(node.data_inputs[0]), shapes.numbers(node.data_inputs[1])
    if elements is None or places is None or shapes.rank(node.data_inputs[0]) != 1:
        return None
    if node.attrs.get("batch_dims") or not all(0 <= place < len(elements) for place in places):
        return None
    return tuple(elements[place] for place in places)


def _slice_value(shapes: Shapes, node: Node) -> Optional[Tuple[Dim, ...]]:
    """StridedSlice of a vector."""
    elements = shapes.value(node.data_inputs[0])
    places = [shapes.numbers(tensor) for tensor in node.data_inputs[1:]]
    if elements is None or shapes.rank(node.data_inputs[0]) != 1 or None in places:
        return None
    begin, end, stride = [place[0] if place else 0 for place in places]
    if node.attrs.get("ellipsis_mask") or node.attrs.get("new_axis_mask") or stride < 1:
        return None
    if node.attrs.get("shrink_axis_mask"):
        return elements[begin : begin + 1 or None]
    first = None if node.attrs.get("begin_mask") else begin
    return elements[first : None if node.attrs.get("end_mask") else end : stride]


def _product_value(shapes: Shapes, node: Node) -> Optional[Tuple[Dim, ...]]:
    factors = [shapes.value(tensor) for tensor in node.data_inputs]
    known = [factor for factor in factors if factor is not None and len(factor) == 1]
    if len(known) < len(factors) or any(shapes.rank(tensor) for tensor in node.data_inputs):
        return None
    return (product(factor[0] for factor in known),)


def _same_value(shapes: Shapes, node: Node) -> Optional[Tuple[Dim, ...]]:
    """Cast and Identity; a cast to a small integer or a float isn't followed."""
    if node.op == "Cast" and np.dtype(node.attrs["DstT"]) not in (np.int32, np.int64):
        return None
    return shapes.value(node.data_inputs[0])


_VALUES: Dict[str, Callable[[Shapes, Node], Optional[Tuple[Dim, ...]]]] = {
    "Cast": _same_value,
    "ConcatV2": _concat_value,
    "Const": _constant_value,
    "GatherV2": _gather_value,
    "Mul": _product_value,
    "Pack": _packed_value,
    "Shape": lambda shapes, node: shapes.shape(node.data_inputs[0]),
    "StridedSlice": _slice_value,
}
_VALUES.update((op, _same_value) for op in PASS_THROUGH)
