"""Pad and pack attention head by head, so that nothing is copied to split and to transpose it.

Before, as ``unpad`` and ``fuse_qkv`` leave it, with n heads of d numbers each::

    fused [tokens, 3nd] -> Split -> Gather by slots [b*s, nd] -> Reshape [b, s, n, d]
        -> Transpose [b, n, s, d] -> ... -> context [b, n, s, d]
    context -> Transpose [b, s, n, d] -> Reshape [b*s, nd] -> Gather by places [tokens, nd]

After, with the d numbers of one head of one token as the elements that are gathered::

    fused -> Reshape [tokens*3n, d] -> Gather by heads [b, n, s, d] -> ... -> context [b, n, s, d]
    context -> Reshape [b*n*s, d] -> Gather by heads [tokens, n, d] -> Reshape [tokens, nd]

What isn't fused has n heads a token in place of 3n. The indices are computed once for a batch and
used by all layers: see ``head_indices.py``. What is read in between, or isn't proven to be heads,
is left as it is.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node, output_index
from bert_serving.graph_opt.passes.dimensions import Shape, product
from bert_serving.graph_opt.passes.head_indices import HeadIndices
from bert_serving.graph_opt.passes.matching import Edit, Readers, plain
from bert_serving.graph_opt.passes.packing import PLACES, SLOTS
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.passes.shapes import Shapes

__all__ = ["gather_heads"]

MASK = "input_mask"
SHORT = np.dtype("int32")
_SWAP = [0, 2, 1, 3]


class _Heads(NamedTuple):
    """``number`` heads of ``size`` numbers, in the columns of ``table`` from ``start`` on.

    Places are counted in heads: ``stride`` of them are in a row of the table.
    """

    number: int
    size: int
    table: str
    stride: int
    start: int


class _Misfit(Exception):
    """Why something that looks like attention is left alone."""


def gather_heads(graph: Graph) -> Rewritten:
    """The graph with attention's heads gathered one by one; only one on packed tokens has any.

    Raises:
        GraphError: a malformed graph.
    """
    if not _is_packed(graph):
        return Rewritten(graph, ("the tokens aren't packed",))
    finder, edit = _Finder(graph), Edit(graph)
    writer = _Writer(edit, HeadIndices(edit, graph[MASK]))
    notes: List[str] = []
    counts = [0, 0]
    for node in graph:
        try:
            to_heads = finder.padding(node)
            from_heads = None if to_heads else finder.packing(node)
        except _Misfit as misfit:
            notes.append("%s: %s" % (node.name, misfit))
            continue
        if to_heads:
            edit.replace(writer.padded(node, to_heads))
        elif from_heads:
            edit.replace(writer.packed(node, *from_heads))
        counts[0] += to_heads is not None
        counts[1] += from_heads is not None
    if not edit.touched:
        return Rewritten(graph, tuple(notes))
    notes.insert(0, "%d gathers to heads, %d from heads" % tuple(counts))
    return Rewritten(edit.graph(), tuple(notes))


def _is_packed(graph: Graph) -> bool:
    """Whether the inputs are those that the pass unpad makes: ``places`` only where it is read."""
    ranks = {MASK: 2, SLOTS: 1}
    if PLACES in graph:
        ranks[PLACES] = 1
    return all(
        name in graph
        and graph[name].op == "Placeholder"
        and graph[name].attrs.get("shape") == (None,) * rank
        for name, rank in ranks.items()
    )


class _Finder:
    """Recognizes attention's way from packed tokens to heads, and back."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._shapes = Shapes(graph)
        self._readers = Readers(graph)
        self._batch: Shape = self._shapes.shape(MASK) or ()

    def padding(self, node: Node) -> Optional[_Heads]:
        """What a Transpose makes heads of, if that was padded; None of other nodes.

        Raises:
            _Misfit: it does more than that.
        """
        if node.op != "Transpose":
            return None
        path = self._reshapes(node.data_inputs[0])
        if len(path) < 2 or not self._gathers_by(path[-1], SLOTS):
            return None
        shape = self._swapped(node, path)
        if len(shape) != 4 or shape[:2] != self._batch or not all(dim.known for dim in shape[2:]):
            raise _Misfit("what it transposes isn't known to be [batch, sequence, heads, size]")
        return self._heads(path[-1].data_inputs[0], shape[2].factor, shape[3].factor)

    def packing(self, node: Node) -> Optional[Tuple[_Heads, List[int]]]:
        """The heads that a Gather packs the tokens of, and the shape of a token in its result.

        None of other nodes.

        Raises:
            _Misfit: more is done on the way.
        """
        if not self._gathers_by(node, PLACES):
            return None
        path = self._reshapes(node.data_inputs[0])
        if len(path) < 2 or path[-1].op != "Transpose":
            return None
        self._swapped(path[-1], path)
        heads = plain(path[-1].data_inputs[0])
        shape = self._shapes.shape(heads) or ()
        if len(shape) != 4 or shape[::2] != self._batch or not (shape[1].known and shape[3].known):
            raise _Misfit("%s isn't known to be [batch, heads, sequence, size]" % heads)
        count, size = shape[1].factor, shape[3].factor
        result = self._shapes.shape(path[0].name) or ()
        inner = [dim.factor for dim in result[1:] if dim.known]
        rows = product(self._batch)
        if result[:1] != (rows,) or len(inner) < len(result) - 1 or np.prod(inner) != count * size:
            raise _Misfit("the rows of %s aren't known to be tokens" % path[0].name)
        return _Heads(count, size, heads, count, 0), inner

    def _reshapes(self, tensor: str) -> List[Node]:
        """From the node of a tensor up through Reshapes to the one before them."""
        path = [self._graph[tensor]]
        while path[-1].op == "Reshape":
            path.append(self._graph[path[-1].data_inputs[0]])
        return path

    def _gathers_by(self, node: Node, name: str) -> bool:
        """Whether a node gathers rows by a placeholder of this name."""
        if node.op != "GatherV2" or plain(node.data_inputs[1]) != name:
            return False
        return self._shapes.numbers(node.data_inputs[2]) == [0] and not node.attrs.get("batch_dims")

    def _swapped(self, transpose: Node, path: Sequence[Node]) -> Shape:
        """The shape of what a Transpose swaps the inner axes of, if nobody reads what is between.

        Empty if it isn't known.

        Raises:
            _Misfit: it does something else, or somebody does.
        """
        perm = self._shapes.numbers(transpose.data_inputs[1])
        if perm != _SWAP:
            raise _Misfit("%s transposes by %s, not %s" % (transpose.name, perm, _SWAP))
        for node in path:
            if self._readers.only(node.name) is None:
                raise _Misfit("%s is read elsewhere" % node.name)
        return self._shapes.shape(transpose.data_inputs[0]) or ()

    def _heads(self, tensor: str, count: int, size: int) -> _Heads:
        """Where the heads of packed tokens lie: in the whole of a tensor or in a part of another.

        Raises:
            _Misfit: they aren't all the numbers that a token has there.
        """
        node = self._graph[tensor]
        table, parts = plain(tensor), None
        if node.op in ("Split", "SplitV"):
            table, parts = self._parts(node)
        shape = self._shapes.shape(table) or ()
        width = product(shape[1:])
        widths = [width.factor] if parts is None else parts
        place = output_index(tensor) if parts is not None else 0
        start = sum(widths[:place])
        fits = len(shape) > 1 and width.known and widths[place] == count * size > 0
        if not fits or width.factor % size or start % size:
            raise _Misfit("%s isn't known to hold %d heads of %d a token" % (tensor, count, size))
        return _Heads(count, size, table, width.factor // size, start // size)

    def _parts(self, node: Node) -> Tuple[str, List[int]]:
        """What a Split or SplitV divides, and the widths of the parts.

        Raises:
            _Misfit: it doesn't divide columns, or not by numbers.
        """
        operand, axis = (1, 0) if node.op == "Split" else (0, 2)
        table = plain(node.data_inputs[operand])
        shape = self._shapes.shape(table) or ()
        columns = self._shapes.numbers(node.data_inputs[axis]) in ([1], [-1])
        if not columns or len(shape) != 2 or not shape[1].known:
            raise _Misfit("%s isn't known to split columns" % node.name)
        if node.op == "Split":
            count = int(node.attrs["num_split"])
            return table, [shape[1].factor // count] * count
        sizes = self._shapes.numbers(node.data_inputs[1]) or []
        if min(sizes, default=-1) < 0:
            raise _Misfit("%s isn't split by numbers" % node.name)
        return table, sizes


class _Writer:
    """The nodes in place of those recognized."""

    def __init__(self, edit: Edit, indices: HeadIndices) -> None:
        self._edit = edit
        self._indices = indices
        self._tables: Dict[Tuple[str, int], str] = {}

    def padded(self, node: Node, heads: _Heads) -> Node:
        """A Gather in place of the Transpose that gave heads, [b, n, s, d]."""
        dtype = node.attrs["T"]
        index = self._indices.padded(node.name, heads.stride, heads.start, heads.number)
        table = self._table(node.name, heads, dtype)
        inputs = (table, index, self._indices.axis(node.name)) + _control(node)
        return Node(node.name, "GatherV2", inputs, _gathering(dtype))

    def packed(self, node: Node, heads: _Heads, inner: Sequence[int]) -> Node:
        """A Reshape in place of the Gather that packed tokens, [tokens, ...]."""
        dtype = node.attrs["Tparams"]
        index = self._indices.packed(node.name, heads.number)
        table = self._table(node.name, heads, dtype)
        inputs = (table, index, self._indices.axis(node.name))
        name = node.name + "/heads"
        gathered = self._edit.add(node.name, "GatherV2", inputs, _gathering(dtype), name)
        shape = self._edit.constant(node.name, [-1, *inner], SHORT, node.name + "/shape")
        attrs = {"T": dtype, "Tshape": SHORT}
        return Node(node.name, "Reshape", (gathered, shape) + _control(node), attrs)

    def _table(self, anchor: str, heads: _Heads, dtype: np.dtype) -> str:
        """A tensor as rows of one head each."""
        key = (heads.table, heads.size)
        if key not in self._tables:
            name = heads.table.replace(":", "_") + "/heads"
            shape = self._edit.constant(anchor, [-1, heads.size], SHORT, name + "/shape")
            attrs = {"T": dtype, "Tshape": SHORT}
            self._tables[key] = self._edit.add(anchor, "Reshape", (heads.table, shape), attrs, name)
        return self._tables[key]


def _gathering(dtype: np.dtype) -> Dict[str, Any]:
    return {"Tparams": dtype, "Tindices": SHORT, "Taxis": SHORT, "batch_dims": 0}


def _control(node: Node) -> Tuple[str, ...]:
    return tuple(tensor for tensor in node.inputs if tensor.startswith("^"))
