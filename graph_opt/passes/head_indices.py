"""The indices that pad packed tokens head by head for attention, and pack them again.

Places are counted in heads. Of a table of tokens, ``stride`` heads are in a row, and those wanted
begin at the head ``start``; a table of padded heads has the axes [row, head, position]::

    padded[row, head, position] = slots[row, position] * stride + start + head
    packed[token, head] = (row * heads + head) * s + position

where s is the length of the longest row and ``places[token] = row * s + position``.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.passes.matching import Edit
from bert_serving.graph_opt.passes.packing import PLACES, SLOTS
from bert_serving.graph_opt.signatures import output_dtypes

__all__ = ["HeadIndices"]

SHORT = np.dtype("int32")


class HeadIndices:
    """Adds the indices to a graph, all int32, each once and beside the node that it is first for.

    ``mask`` is the input of the shape [batch, sequence].
    """

    def __init__(self, edit: Edit, mask: Node) -> None:
        self._edit = edit
        self._mask = mask
        self._made: Dict[Tuple[Any, ...], str] = {}

    def padded(self, anchor: str, stride: int, start: int, heads: int) -> str:
        """The places of heads in a table of tokens, [batch, heads, sequence]."""
        name = SLOTS + "/heads"

        def add() -> str:
            factor = self._constant(anchor, stride, name + "/stride")
            first = self._integers(anchor, "Mul", self._tokens(anchor), factor, name + "/first")
            numbers = np.arange(start, start + heads)[:, None]
            places = self._constant(anchor, numbers, name + "/numbers")
            return self._integers(anchor, "AddV2", first, places, name)

        return self._once((SLOTS, stride, start, heads), add)

    def packed(self, anchor: str, heads: int) -> str:
        """The places of tokens' heads in a table of padded heads, [tokens, heads]."""
        name = PLACES + "/heads"

        def add() -> str:
            # Written with places = row * s + position: places + (row * (heads - 1) + head) * s.
            places = self._expanded(anchor, PLACES)
            length = self._length(anchor)
            row = self._integers(anchor, "FloorDiv", places, length, name + "/row")
            others = self._constant(anchor, heads - 1, name + "/others")
            before = self._integers(anchor, "Mul", row, others, name + "/before")
            numbers = self._constant(anchor, np.arange(heads), name + "/numbers")
            skipped = self._integers(anchor, "AddV2", before, numbers, name + "/skipped")
            shift = self._integers(anchor, "Mul", skipped, length, name + "/shift")
            return self._integers(anchor, "AddV2", places, shift, name)

        return self._once((PLACES, heads), add)

    def axis(self, anchor: str) -> str:
        """A scalar: the axis that is gathered along, the first."""
        return self._once(("axis",), lambda: self._constant(anchor, 0, SLOTS + "/heads/axis"))

    def _tokens(self, anchor: str) -> str:
        """The token at each place of the padded batch, [batch, 1, sequence]."""

        def add() -> str:
            attrs = {"T": SHORT, "Tshape": SHORT}
            inputs = (SLOTS, self._mask_shape(anchor))
            rows = self._edit.add(anchor, "Reshape", inputs, attrs, SLOTS + "/padded")
            return self._expanded(anchor, rows)

        return self._once(("tokens",), add)

    def _length(self, anchor: str) -> str:
        """A scalar: the length of the longest row."""
        name = self._mask.name + "/length"
        place = self._constant(anchor, 1, name + "/place")
        inputs = (self._mask_shape(anchor), place, self.axis(anchor))
        attrs = {"Tparams": SHORT, "Tindices": SHORT, "Taxis": SHORT, "batch_dims": 0}
        return self._edit.add(anchor, "GatherV2", inputs, attrs, name)

    def _mask_shape(self, anchor: str) -> str:
        mask = self._mask
        attrs = {"T": output_dtypes(mask.op, mask.attrs)[0], "out_type": SHORT}

        def add() -> str:
            return self._edit.add(anchor, "Shape", (mask.name,), attrs, mask.name + "/sizes")

        return self._once(("shape",), add)

    def _expanded(self, anchor: str, tensor: str) -> str:
        axis = self._constant(anchor, 1, tensor + "/expanded/axis")
        attrs = {"T": SHORT, "Tdim": SHORT}
        return self._edit.add(anchor, "ExpandDims", (tensor, axis), attrs, tensor + "/expanded")

    def _integers(self, anchor: str, op: str, left: str, right: str, name: str) -> str:
        return self._edit.add(anchor, op, (left, right), {"T": SHORT}, name)

    def _constant(self, anchor: str, value: Any, name: str) -> str:
        return self._edit.constant(anchor, value, SHORT, name)

    def _once(self, key: Tuple[Any, ...], add: Callable[[], str]) -> str:
        if key not in self._made:
            self._made[key] = add()
        return self._made[key]
