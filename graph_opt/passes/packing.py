"""Writing the nodes of a graph whose tokens are packed: what the pass unpad puts in their place."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.passes.matching import Edit, plain
from bert_serving.graph_opt.passes.tokens import (
    BY_PLACE,
    BY_POSITION,
    FLATTENED,
    PACKED,
    REDUCTIONS,
    Tokens,
)
from bert_serving.graph_opt.signatures import DEFAULT_DTYPES, output_dtypes

__all__ = ["PLACES", "POSITIONS", "SLOTS", "Packing"]

#: The placeholders that are added where they are read: see the pass unpad.
POSITIONS, PLACES, SLOTS = "positions", "places", "slots"
SHORT = np.dtype("int32")


class Packing:
    """Nodes on packed tokens, and the gathers that pack and pad.

    ``tokens`` knows which nodes are packed; ``mask`` is an input of the shape [batch, sequence].
    What several nodes need is made once.
    """

    def __init__(self, edit: Edit, tokens: Tokens, mask: str) -> None:
        self._edit = edit
        self._tokens = tokens
        self._shapes = tokens.shapes
        self._graph = tokens.shapes.graph
        self._mask = mask
        self._made: Dict[Tuple[str, str], str] = {}

    def node(self, node: Node, forms: Sequence[int]) -> Node:
        """A node on packed tokens, its operands in these forms."""
        if node.op == "Placeholder":
            return node.with_attrs(shape=(None,))
        makers: Dict[int, Callable[[str], str]] = {
            PACKED: self._packed,
            BY_PLACE: self._by_place,
            BY_POSITION: self._by_position,
            FLATTENED: self._flattened,
        }
        inputs = [
            makers[form](tensor) if form in makers else tensor
            for tensor, form in zip(node.data_inputs, forms)
        ]
        return self._on_own_axes(node, inputs)

    def reader(self, node: Node) -> Node:
        """Shape, GatherV2 or GatherNd of a packed tensor, with the result that it had before."""
        if node.op == "Shape":
            return self._shape(node)
        operand = node.data_inputs[0]
        # What is done to the rows of the padded batch tells which tokens are chosen.
        slots = self._once("slots", self._mask, self._padded_slots)
        inputs = (slots,) + node.data_inputs[1:]
        attrs = dict(node.attrs, Tparams=SHORT)
        chosen = self._edit.add(node.name, node.op, inputs, attrs, node.name + "/tokens")
        inputs, attrs = self._gathering(self._packed(operand), chosen, self._dtype(operand))
        return Node(node.name, "GatherV2", inputs, attrs)

    def padded(self, tensor: str) -> str:
        """A packed tensor with the shape that it had before."""
        return self._once("padded", plain(tensor), self._add_padded)

    # ------------------------------------------------------------------- forms of operands

    def _packed(self, tensor: str) -> str:
        node = self._graph[tensor]
        # Nothing to do where [b, s, h] became [b*s, h] or the other way round.
        while node.op == "Reshape":
            tensor = node.data_inputs[0]
            if self._tokens.inner(node.name) != self._tokens.inner(tensor):
                break
            node = self._graph[tensor]
        return node.name

    def _by_place(self, tensor: str) -> str:
        def add(name: str) -> str:
            merged = name
            if self._axes(name) == 2:
                merged = self._reshape(name, [-1] + self._inner(name), name + "/merged")
            return self._gather(name, merged, self._placeholder(PLACES), name + "/packed")

        return self._once("by place", plain(tensor), add)

    def _by_position(self, tensor: str) -> str:
        def add(name: str) -> str:
            shape = self._shapes.shape(name) or ()
            table = name
            if shape[0] != self._tokens.length:  # it is 1
                sizes = [dim.factor for dim in shape[2:]]
                table = self._reshape(name, [-1] + sizes, name + "/row")
            return self._gather(name, table, self._placeholder(POSITIONS), name + "/packed")

        return self._once("by position", plain(tensor), add)

    def _flattened(self, tensor: str) -> str:
        def add(name: str) -> str:
            sizes = [dim.factor for dim in (self._shapes.shape(name) or ())[1:]]
            return self._reshape(name, sizes, name + "/row")

        return self._once("flattened", plain(tensor), add)

    def _add_padded(self, name: str) -> str:
        node = self._graph[name]
        if node.op == "Reshape":
            inputs = (self.padded(node.data_inputs[0]), node.data_inputs[1])
            return self._edit.add(name, "Reshape", inputs, node.attrs, name + "/padded")
        packed = self._packed(name)
        merged = self._gather(name, packed, self._placeholder(SLOTS), name + "/padded")
        if self._axes(name) == 1:
            return merged
        attrs = {"T": self._dtype(name), "Tshape": SHORT}
        inputs = (merged, self._sizes(name, SHORT))
        return self._edit.add(name, "Reshape", inputs, attrs, name + "/rows")

    # -------------------------------------------------------------------------- the pieces

    def _once(self, kind: str, name: str, add: Callable[[str], str]) -> str:
        key = (kind, name)
        if key not in self._made:
            self._made[key] = add(name)
        return self._made[key]

    def _axes(self, tensor: str) -> int:
        return self._tokens.axes(self._shapes.shape(tensor))

    def _inner(self, tensor: str) -> List[int]:
        inner = self._tokens.inner(tensor)
        assert inner is not None
        return inner

    def _dtype(self, tensor: str) -> np.dtype:
        node = self._graph[tensor]
        return np.dtype(output_dtypes(node.op, node.attrs)[0])

    def _placeholder(self, name: str) -> str:
        def add(_: str) -> str:
            attrs = {"dtype": SHORT, "shape": (None,)}
            return self._edit.add(self._mask, "Placeholder", (), attrs, name)

        return self._once("placeholder", name, add)

    def _reshape(self, tensor: str, shape: Sequence[int], name: str) -> str:
        sizes = self._edit.constant(tensor, shape, SHORT, name + "/shape")
        attrs = {"T": self._dtype(tensor), "Tshape": SHORT}
        return self._edit.add(tensor, "Reshape", (tensor, sizes), attrs, name)

    def _gather(self, like: str, table: str, indices: str, name: str) -> str:
        """Rows of a table that has the dtype of the tensor ``like``."""
        inputs, attrs = self._gathering(table, indices, self._dtype(like))
        return self._edit.add(like, "GatherV2", inputs, attrs, name)

    def _gathering(
        self, table: str, indices: str, dtype: np.dtype
    ) -> Tuple[Tuple[str, str, str], Dict[str, Any]]:
        axis = self._once("axis", self._mask, self._first_axis)
        attrs = {"Tparams": dtype, "Tindices": SHORT, "Taxis": SHORT, "batch_dims": 0}
        return (table, indices, axis), attrs

    def _first_axis(self, anchor: str) -> str:
        return self._edit.constant(anchor, 0, SHORT, SLOTS + "/axis")

    def _padded_slots(self, anchor: str) -> str:
        """int32 [b, s]: the token at each place of the padded batch."""
        attrs = {"T": SHORT, "Tshape": SHORT}
        inputs = (self._placeholder(SLOTS), self._mask_shape(SHORT))
        return self._edit.add(anchor, "Reshape", inputs, attrs, SLOTS + "/rows")

    def _mask_shape(self, dtype: np.dtype) -> str:
        def add(name: str) -> str:
            attrs = {"T": self._dtype(name), "out_type": dtype}
            return self._edit.add(name, "Shape", (name,), attrs, name + "/shape")

        return self._once("shape in %s" % dtype, self._mask, add)

    def _sizes(self, tensor: str, dtype: np.dtype) -> str:
        """The shape [b, s, ...] of a padded tensor."""
        sizes = self._mask_shape(dtype)
        inner = self._inner(tensor)
        if not inner:
            return sizes

        def add(name: str) -> str:
            rest = self._edit.constant(self._mask, inner, dtype, self._mask + "/inner")
            axis = self._edit.constant(self._mask, 0, SHORT, self._mask + "/axis")
            attrs = {"T": dtype, "Tidx": SHORT}
            return self._edit.add(self._mask, "ConcatV2", (sizes, rest, axis), attrs, name)

        return self._once(
            "sizes %s" % dtype, "_".join(map(str, [self._mask + "/sizes", *inner])), add
        )

    def _shape(self, node: Node) -> Node:
        """What the shape of a packed operand was."""
        dtype = np.dtype(node.attrs.get("out_type", DEFAULT_DTYPES["out_type"]))
        operand = node.data_inputs[0]
        if self._axes(operand) == 2 and not self._inner(operand):
            attrs = {"T": self._dtype(self._mask), "out_type": dtype}
            return Node(node.name, "Shape", (self._mask,), attrs)
        if self._axes(operand) == 2:
            return Node(node.name, "Identity", (self._sizes(operand, dtype),), {"T": dtype})
        attrs = {"T": SHORT, "out_type": dtype}
        count = (self._placeholder(SLOTS),)
        if not self._inner(operand):
            return Node(node.name, "Shape", count, attrs)
        first = self._edit.add(node.name, "Shape", count, attrs, node.name + "/first")
        rest = self._edit.constant(node.name, self._inner(operand), dtype, node.name + "/inner")
        axis = self._edit.constant(node.name, 0, SHORT, node.name + "/axis")
        attrs = {"T": dtype, "Tidx": SHORT}
        return Node(node.name, "ConcatV2", (first, rest, axis), attrs)

    def _on_own_axes(self, node: Node, inputs: List[str]) -> Node:
        """A node whose constants name axes, with those that it has in packed form."""
        control = [tensor for tensor in node.inputs if tensor.startswith("^")]
        changed = node.with_inputs(inputs + control)
        axes = self._axes(node.name)
        if node.op == "Reshape":
            return self._with_constant(changed, 1, [-1] + self._inner(node.name), "Tshape")
        if axes == 1 or node.op not in _AXES:
            return changed
        place, attribute = _AXES[node.op]
        named = self._shapes.numbers(node.data_inputs[place])
        assert named is not None
        if node.op == "Transpose":
            return self._with_constant(changed, 1, [0] + [one - 1 for one in named[2:]], attribute)
        ranked = node.data_inputs[0] if node.op in REDUCTIONS else node.name
        rank = self._shapes.rank(ranked)
        assert rank is not None
        moved = [axis % rank - 1 for axis in named]
        scalar = self._shapes.rank(node.data_inputs[place]) == 0
        return self._with_constant(changed, place, moved[0] if scalar else moved, attribute)

    def _with_constant(self, node: Node, place: int, value: Any, attribute: str) -> Node:
        constant = self._edit.constant(node.name, value, SHORT, node.name + "/packed/constant")
        inputs = list(node.inputs)
        inputs[place] = constant
        return node.with_inputs(inputs).with_attrs(**{attribute: SHORT})


#: Of operations whose constants name axes: the constant's place, and the attribute of its dtype.
_AXES: Dict[str, Tuple[int, str]] = {
    "ConcatV2": (-1, "Tidx"),
    "ExpandDims": (1, "Tdim"),
    "Transpose": (1, "Tperm"),
}
_AXES.update((op, (1, "Tidx")) for op in REDUCTIONS)
