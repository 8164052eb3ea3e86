"""Which operations can work on packed tokens, and what they then need of their operands.

A tensor has a vector (or number) a token if its first two dimensions are [batch, sequence], or its
first is [batch * sequence]. Packed, either becomes one dimension of tokens without padding::

    [batch, sequence, 12, 64] -> [tokens, 12, 64] <- [batch * sequence, 12, 64]
"""

from __future__ import annotations

from typing import Callable, Container, Dict, List, NamedTuple, Optional

from bert_serving.graph_opt.graph import Node, output_index
from bert_serving.graph_opt.passes.dimensions import ONE, Dim, Shape, product
from bert_serving.graph_opt.passes.matching import plain
from bert_serving.graph_opt.passes.shape_rules import BINARY, UNARY
from bert_serving.graph_opt.passes.shapes import Shapes

__all__ = [
    "BY_PLACE",
    "BY_POSITION",
    "FLATTENED",
    "PACKED",
    "REDUCTIONS",
    "WHOLE",
    "Tokens",
    "operand_forms",
]

#: In what form an operation on packed tokens takes an operand: packed; as it is, for it doesn't
#: depend on the token; as it is, but without its first dimension, which is 1; the rows at the
#: tokens' positions, for it depends on the position alone; the rows at the tokens' places in the
#: padded batch.
PACKED, WHOLE, FLATTENED, BY_POSITION, BY_PLACE = range(5)

_CHANNELS_FIRST = ("NCHW", b"NCHW")
REDUCTIONS = ("All", "Any", "Max", "Mean", "Min", "Prod", "Sum")


class Tokens(NamedTuple):
    """What is known of a graph's tokens; ``packed``: names of the nodes computed packed so far."""

    shapes: Shapes
    rows: Dim
    length: Dim
    packed: Container[str]

    def axes(self, shape: Optional[Shape]) -> int:
        """How many first dimensions stand for the tokens: 2, 1, or 0 if none do."""
        if shape and shape[0] == product((self.rows, self.length)):
            return 1
        return 2 if shape and shape[:2] == (self.rows, self.length) else 0

    def inner(self, tensor: str) -> Optional[List[int]]:
        """The dimensions after those of the tokens; None if there are no tokens, or not known."""
        shape = self.shapes.shape(tensor)
        axes = self.axes(shape)
        if not axes or shape is None or not all(dim.known for dim in shape[axes:]):
            return None
        return [dim.factor for dim in shape[axes:]]

    def is_packed(self, tensor: str) -> bool:
        """Whether a tensor is computed packed."""
        return not output_index(tensor) and plain(tensor) in self.packed


Rule = Callable[[Tokens, Node, int], Optional[List[int]]]


def operand_forms(tokens: Tokens, node: Node) -> Optional[List[int]]:
    """The form in which a node takes each data input if it is computed packed.

    None if it can't be: it mixes tokens, it isn't known, its shape isn't, or no operand is packed.
    """
    if tokens.inner(node.name) is None:
        return None
    axes = tokens.axes(tokens.shapes.shape(node.name))
    if node.op in UNARY:
        return _unary(tokens, node, axes)
    if node.op in BINARY:
        return _broadcast(tokens, node, axes)
    rule = _RULES.get(node.op)
    return rule(tokens, node, axes) if rule else None


def _first(tokens: Tokens, node: Node) -> Optional[List[int]]:
    """The first operand packed, the others as they are."""
    others = node.data_inputs[1:]
    if not tokens.is_packed(node.data_inputs[0]) or any(map(tokens.is_packed, others)):
        return None
    return [PACKED] + [WHOLE] * len(others)


def _unary(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
    mixes_last = node.op in ("BiasAdd", "LogSoftmax", "Softmax")
    if mixes_last and tokens.shapes.rank(node.name) == axes:
        return None
    return _first(tokens, node) if node.attrs.get("data_format") not in _CHANNELS_FIRST else None


def _broadcast(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
    shape = tokens.shapes.shape(node.name)
    assert shape is not None
    forms = [_broadcast_form(tokens, tensor, shape, axes) for tensor in node.data_inputs]
    known = [form for form in forms if form is not None]
    return known if len(known) == len(forms) and PACKED in known else None


def _broadcast_form(tokens: Tokens, tensor: str, shape: Shape, axes: int) -> Optional[int]:
    operand = tokens.shapes.shape(tensor)
    if operand is None:
        return None
    missing = len(shape) - len(operand)
    if tokens.is_packed(tensor):
        return PACKED if not missing and tokens.axes(operand) == axes else None
    # What stands at the dimensions of the tokens, where one that is absent counts as 1.
    leading = ((ONE,) * missing + operand)[:axes]
    known = all(dim.known for dim in operand[max(0, axes - missing) :])
    if all(dim == ONE for dim in leading):
        is_longer = axes == 2 and not missing
        return (FLATTENED if known else None) if is_longer else WHOLE
    if not known:
        return None
    if leading == shape[:axes]:
        return BY_PLACE
    return BY_POSITION if leading == (ONE, tokens.length) else None


def _product(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
    """A product with weights, which are the same for all tokens."""
    left, right = node.data_inputs
    transposed = node.attrs.get("transpose_a") or node.attrs.get("adj_x")
    weights = tokens.shapes.shape(right)
    if transposed or weights is None or len(weights) != 2 or tokens.shapes.rank(left) != axes + 1:
        return None
    return _first(tokens, node) if all(dim.known for dim in weights) else None


def _reshaped(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
    """The tokens stay apart and in order if as many elements belong to each."""
    before, after = tokens.inner(node.data_inputs[0]), tokens.inner(node.name)
    if before is None or after is None or _size(before) != _size(after) or 0 in after:
        return None
    return _first(tokens, node)


def _size(numbers: List[int]) -> int:
    return product(map(Dim, numbers)).factor


def _transposed(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
    perm = tokens.shapes.numbers(node.data_inputs[1])
    stays = perm is not None and perm[:axes] == list(range(axes))
    return _first(tokens, node) if stays else None


def _along(position: int) -> Rule:
    """Of operations along the axes that the input at ``position`` names, none the tokens' own."""

    def rule(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
        named = tokens.shapes.numbers(node.data_inputs[position])
        # Of ExpandDims the axes are the result's, of reductions the operand's.
        ranked = node.name if node.op == "ExpandDims" else node.data_inputs[0]
        rank = tokens.shapes.rank(ranked)
        if named is None or rank is None or any(axis % rank < axes for axis in named):
            return None
        if tokens.axes(tokens.shapes.shape(node.data_inputs[0])) != axes:
            return None
        return _first(tokens, node)

    return rule


def _concatenated(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
    parts = node.data_inputs[:-1]
    named, rank = tokens.shapes.numbers(node.data_inputs[-1]), tokens.shapes.rank(node.name)
    if named is None or rank is None or named[0] % rank < axes:
        return None
    alike = all(tokens.axes(tokens.shapes.shape(part)) == axes for part in parts)
    packed = all(map(tokens.is_packed, parts))
    return [PACKED] * len(parts) + [WHOLE] if alike and packed else None


def _looked_up(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
    """Rows of a table that is the same for all tokens."""
    table, indices, axis = node.data_inputs
    shape = tokens.shapes.shape(table)
    if tokens.shapes.numbers(axis) != [0] or node.attrs.get("batch_dims") or shape is None:
        return None
    fits = all(dim.known for dim in shape) and tokens.is_packed(indices)
    return [WHOLE, PACKED, WHOLE] if fits else None


def _one_hot(tokens: Tokens, node: Node, axes: int) -> Optional[List[int]]:
    return _first(tokens, node) if node.attrs.get("axis", -1) == -1 else None


_RULES: Dict[str, Rule] = {
    "BatchMatMul": _product,
    "BatchMatMulV2": _product,
    "ConcatV2": _concatenated,
    "ExpandDims": _along(1),
    "GatherV2": _looked_up,
    "MatMul": _product,
    "OneHot": _one_hot,
    "Reshape": _reshaped,
    "Transpose": _transposed,
}
_RULES.update((op, _along(1)) for op in REDUCTIONS)
