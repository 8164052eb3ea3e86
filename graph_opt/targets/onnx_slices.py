"""How Slice and StridedSlice are said in ONNX, operator set 17."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.targets.onnx_emission import LONG, Emission, Emitter

__all__ = ["SLICE_EMITTERS"]

# To the end of an axis, in either direction: ONNX clamps to it.
_FAR = int(np.iinfo(LONG).max)
_FAR_BACK = int(np.iinfo(LONG).min)


def _slice(emission: Emission, node: Node) -> None:
    """``size`` elements from ``begin`` on; size -1 means all that are left."""
    name = node.name
    begin = emission.as_long(node, 1)
    if emission.is_constant(node, 1) and emission.is_constant(node, 2):
        first, count = (emission.constant(node, position).astype(LONG) for position in (1, 2))
        ends = emission.long(node, "ends", np.where(count == -1, _FAR, first + count))
    else:
        size = emission.as_long(node, 2)
        rest = emission.add("Less", (size, emission.long(node, "zero", 0)), name + ":is_rest")
        last = emission.add("Add", (begin, size), name + ":last")
        ends = emission.add("Where", (rest, emission.long(node, "far", _FAR), last), name + ":ends")
    emission.add("Slice", (node.data_inputs[0], begin, ends), name)


class _Spec:
    """A StridedSlice taken apart: which axis of the input each element of its lists is about."""

    def __init__(self, emission: Emission, node: Node) -> None:
        strides = [int(step) for step in emission.constant(node, 3)]
        self.ranges: List[Tuple[int, int, int]] = []  # position in the lists, axis, stride
        self.picked: List[Tuple[int, int]] = []  # position, axis: one element, the axis goes
        self.added: List[int] = []  # axes of the output
        consuming = [
            not (_bit(node, "ellipsis_mask", position) or _bit(node, "new_axis_mask", position))
            for position in range(len(strides))
        ]
        axis = place = 0
        for position, stride in enumerate(strides):
            if _bit(node, "ellipsis_mask", position):
                skipped = emission.rank(node, 0) - sum(consuming)
                axis, place = axis + skipped, place + skipped
            elif _bit(node, "new_axis_mask", position):
                self.added.append(place)
                place += 1
            elif _bit(node, "shrink_axis_mask", position):
                self.picked.append((position, axis))
                axis += 1
            else:
                masked = _bit(node, "begin_mask", position) and _bit(node, "end_mask", position)
                if not masked or stride != 1:
                    self.ranges.append((position, axis, stride))
                axis, place = axis + 1, place + 1


def _bit(node: Node, mask: str, position: int) -> bool:
    return bool(int(node.attrs.get(mask, 0)) & 1 << position)


def _strided_slice(emission: Emission, node: Node) -> None:
    spec = _Spec(emission, node)
    tensor = node.data_inputs[0]
    steps: List[Tuple[str, List[str], Dict[str, int]]] = []
    if spec.ranges:
        bounds = [_bounds(emission, node, spec, 1), _bounds(emission, node, spec, 2)]
        axes = emission.long(node, "sliced", [axis for _, axis, _ in spec.ranges])
        strides = emission.long(node, "strides", [stride for _, _, stride in spec.ranges])
        steps.append(("Slice", bounds + [axes, strides], {}))
    # From the last axis to the first, so that the numbers of those still to come stay right.
    for position, axis in reversed(spec.picked):
        steps.append(("Gather", [_element(emission, node, position)], {"axis": axis}))
    if spec.added:
        steps.append(("Unsqueeze", [emission.long(node, "added", spec.added)], {}))
    if not steps:
        steps.append(("Identity", [], {}))
    for number, (op, inputs, attrs) in enumerate(steps, 1):
        output = node.name if number == len(steps) else "%s:step_%d" % (node.name, number)
        tensor = emission.add(op, [tensor] + inputs, output, **attrs)


def _bounds(emission: Emission, node: Node, spec: _Spec, position: int) -> str:
    """Where the ranges begin (position 1) or end (position 2), int64 [ranges]."""
    mask, what = ("begin_mask", "begin") if position == 1 else ("end_mask", "end")
    places = [place for place, _, _ in spec.ranges]
    masked = [_bit(node, mask, place) for place in places]
    forward, back = (0, _FAR) if position == 1 else (_FAR, _FAR_BACK)
    ends = [forward if stride > 0 else back for _, _, stride in spec.ranges]
    if emission.is_constant(node, position):
        values = np.ravel(emission.constant(node, position))[places].tolist()
        chosen = [end if skip else value for value, end, skip in zip(values, ends, masked)]
        return emission.long(node, what, chosen)
    where = emission.long(node, what + "_places", places)
    given = emission.add(
        "Gather", (emission.as_long(node, position), where), "%s:%s" % (node.name, what), axis=0
    )
    if not any(masked):
        return given
    mask_name = emission.initializer("%s:%s_mask" % (node.name, what), masked, "bool")
    far = emission.long(node, what + "_far", ends)
    return emission.add("Where", (mask_name, far, given), "%s:%s_masked" % (node.name, what))


def _element(emission: Emission, node: Node, place: int) -> str:
    """The index of the one element taken, of rank 0."""
    if emission.is_constant(node, 1):
        value = int(np.ravel(emission.constant(node, 1))[place])
        return emission.long(node, "pick_%d" % place, value)
    where = emission.long(node, "pick_%d_place" % place, place)
    name = "%s:pick_%d" % (node.name, place)
    return emission.add("Gather", (emission.as_long(node, 1), where), name, axis=0)


SLICE_EMITTERS: Dict[str, Emitter] = {"Slice": _slice, "StridedSlice": _strided_slice}
