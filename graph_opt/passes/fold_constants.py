"""Compute beforehand what doesn't depend on the inputs.

Before::

    RealDiv(x, Sqrt(2))          ConcatV2(part_0, part_1)           x * 1, x + 0, Cast to the same
    Reshape(Reshape(x, a), b)    Pack(StridedSlice(Shape(x)), 64)   where x is [batch, 12, 64]

After::

    RealDiv(x, 1.41421356)       Const                              x
    Reshape(x, b)                Const [-1, 64], where it's the shape of a Reshape

A result is kept as a constant if it takes no more than a megabyte, or no more than the constants
that it is made of. Shapes are followed symbolically (``shapes.py``), so a dimension that is known
becomes a number even though the whole shape isn't one, and sizes that are computed from several
tensors are computed once, from the first. Adding 0 turns -0.0 into 0.0, leaving it out
doesn't: the only value that differs.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.errors import GraphError
from bert_serving.graph_opt.graph import Graph, Node, node_of
from bert_serving.graph_opt.kernels import KERNELS
from bert_serving.graph_opt.passes.dimensions import Shape
from bert_serving.graph_opt.passes.matching import Edit, constant_of, plain
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.passes.shape_rules import BINARY
from bert_serving.graph_opt.passes.shapes import Shapes
from bert_serving.graph_opt.signatures import SIGNATURES, output_dtypes

__all__ = ["SIZE_LIMIT", "fold_constants"]

# Bytes of a result that is larger than what it is made of, e.g. of a Fill or a Tile.
SIZE_LIMIT = 1000 * 1000

_RANDOM = (
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "TruncatedNormal",
)
_NEUTRAL = {"Add": 0, "AddV2": 0, "Mul": 1, "RealDiv": 1, "Sub": 0}
_COMMUTATIVE = ("Add", "AddV2", "Mul")
# What tells whether two tensors hold the same sizes: elements, rank, dtype.
_Key = Tuple[Shape, int, np.dtype]


def fold_constants(graph: Graph) -> Rewritten:
    """The graph with constant arithmetic done, and operations that change nothing left out.

    Raises:
        GraphError: a constant operation can't be computed.
    """
    folded, notes = _computed(graph)
    return Rewritten(_simplified(folded), notes)


def _computed(graph: Graph) -> Tuple[Graph, Tuple[str, ...]]:
    """Every node whose inputs are constants becomes one."""
    notes: List[str] = []
    outputs = {node_of(tensor) for tensor in graph.outputs}
    unread = {name: len(readers) for name, readers in graph.consumers().items()}
    constants: Dict[str, np.ndarray] = {}
    # What is folded is held only until it is consumed, so that the results of a chain are never in
    # memory all together.
    folded: Dict[str, Node] = {}
    needed = set(outputs)
    for node in graph.topological():
        parents = list(dict.fromkeys(node_of(tensor) for tensor in node.inputs))
        operands = _operands(node, constants)
        result = None
        if operands:
            size = _expected_bytes(node, operands)
            if size > max(SIZE_LIMIT, sum(operand.nbytes for operand in operands)):
                notes.append("%s: %d bytes are too many to fold" % (node.name, size))
            else:
                result = _result(node, operands)
        if node.op == "Const":
            constants[node.name] = np.asarray(node.attrs["value"])
        elif result is not None:
            constants[node.name] = result
            folded[node.name] = _constant(node.name, result)
        else:
            needed.update(parents)
        for parent in parents:
            unread[parent] -= 1
            if not unread[parent]:
                constants.pop(parent, None)
                if parent not in needed:
                    folded.pop(parent, None)
    edit = Edit(graph)
    for constant in folded.values():
        edit.replace(constant)
    return (edit.graph() if edit.touched else graph), tuple(notes)


def _operands(node: Node, constants: Mapping[str, np.ndarray]) -> List[np.ndarray]:
    """The inputs of a node that can be computed from constants; none of any other."""
    if node.op not in KERNELS or node.op in _RANDOM:
        return []
    known = all(plain(tensor) in constants for tensor in node.inputs)
    return [constants[plain(tensor)] for tensor in node.inputs] if known else []


def _expected_bytes(node: Node, operands: List[np.ndarray]) -> int:
    """How large the result will be, where it may be larger than all operands; 0 elsewhere."""
    if node.op in BINARY:
        return int(np.broadcast(*operands).size * max(one.itemsize for one in operands))
    if node.op == "Fill":
        return _product(operands[0]) * operands[1].itemsize
    if node.op == "BroadcastTo":
        return _product(operands[1]) * operands[0].itemsize
    if node.op == "Tile":
        return operands[0].nbytes * _product(operands[1])
    if node.op == "OneHot":
        return int(operands[0].size) * int(operands[1]) * operands[2].itemsize
    if node.op == "Range":
        start, limit, delta = [one.item() for one in operands]
        return int(abs((limit - start) / (delta or 1)) + 1) * operands[0].itemsize
    return 0


def _product(sizes: np.ndarray) -> int:
    product = 1
    for size in np.ravel(sizes):
        product *= int(size)
    return product


def _result(node: Node, operands: List[np.ndarray]) -> Optional[np.ndarray]:
    """The value of a node, read-only; None if it has several.

    Raises:
        GraphError: it can't be computed.
    """
    try:
        with np.errstate(all="ignore"):
            results = KERNELS[node.op](node, operands)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise GraphError("%s %r can't be computed: %s" % (node.op, node.name, error)) from error
    if len(results) != 1:
        return None
    result = np.asarray(results[0]).astype(output_dtypes(node.op, node.attrs)[0], copy=False)
    # A slice must not keep alive the table that it is cut from.
    cut = result.base is not None and result.base.nbytes > result.nbytes
    result = np.array(result, order="C") if cut else np.asarray(result, order="C").view()
    result.setflags(write=False)
    return result


def _constant(name: str, value: np.ndarray) -> Node:
    return Node(name, "Const", (), {"dtype": value.dtype, "value": value})


def _simplified(graph: Graph) -> Graph:
    """What shapes and neutral operands allow, once constants are computed."""
    shapes, edit = Shapes(graph), Edit(graph)
    first: Dict[_Key, str] = {}
    for node in graph.topological():
        if node.op == "Const" or len(node.data_inputs) < len(node.inputs):
            continue
        number = _known_shape(shapes, node)
        same = _same_tensor(graph, shapes, node) or _same_sizes(shapes, node, first)
        if number is not None:
            edit.replace(_constant(node.name, number))
        elif same is not None:
            edit.redirect(node.name, same, output_dtypes(node.op, node.attrs)[0])
        elif node.op == "Reshape":
            _simplify_reshape(edit, shapes, node)
    return edit.graph() if edit.touched else graph


def _known_shape(shapes: Shapes, node: Node) -> Optional[np.ndarray]:
    """The value of an integer tensor that is known although its inputs aren't constants."""
    numbers, rank = shapes.numbers(node.name), shapes.rank(node.name)
    if numbers is None or rank is None or node.op not in SIGNATURES or not node.inputs:
        return None
    value = np.array(numbers, output_dtypes(node.op, node.attrs)[0])
    value = value if rank else value.reshape(())
    value.setflags(write=False)
    return value


def _same_sizes(shapes: Shapes, node: Node, first: Dict[_Key, str]) -> Optional[str]:
    """The first node that computes the sizes that a node computes; None if that is itself."""
    value, rank = shapes.value(node.name), shapes.rank(node.name)
    if value is None or rank is None or not node.inputs or node.op not in SIGNATURES:
        return None
    earlier = first.setdefault((value, rank, output_dtypes(node.op, node.attrs)[0]), node.name)
    return None if earlier == node.name else earlier


def _same_tensor(graph: Graph, shapes: Shapes, node: Node) -> Optional[str]:
    """The input that a node merely hands on."""
    if node.op == "Cast":
        same = np.dtype(node.attrs["SrcT"]) == np.dtype(node.attrs["DstT"])
        return node.data_inputs[0] if same else None
    if node.op == "Reshape":
        shape = shapes.shape(node.name)
        same = shape is not None and shape == shapes.shape(node.data_inputs[0])
        return node.data_inputs[0] if same else None
    if node.op in _NEUTRAL:
        left, right = node.data_inputs
        pairs = [(left, right), (right, left)] if node.op in _COMMUTATIVE else [(left, right)]
        for kept, neutral in pairs:
            if _is_neutral(graph, shapes, kept, neutral, _NEUTRAL[node.op]):
                return kept
    return None


def _is_neutral(graph: Graph, shapes: Shapes, kept: str, neutral: str, number: int) -> bool:
    """Whether a tensor is one number, by its rank unable to change the shape of the other."""
    value = constant_of(graph, neutral)
    if value is None or value.size != 1 or value.dtype.kind not in "fiu":
        return False
    rank = shapes.rank(kept)
    return bool(value.ndim <= (rank or 0) and value.ravel()[0] == number)


def _simplify_reshape(edit: Edit, shapes: Shapes, node: Node) -> None:
    """Read past other reshapes, and take a constant shape if one dimension is open at most."""
    graph = shapes.graph
    tensor, shape = plain(node.data_inputs[0]), plain(node.data_inputs[1])
    while ":" not in tensor and graph[tensor].op == "Reshape":
        tensor = plain(graph[tensor].data_inputs[0])
    sizes = _with_one_open(shapes, shape)
    if sizes is not None:
        shape = edit.constant(
            node.name, sizes, node.attrs.get("Tshape", np.int32), node.name + "/shape"
        )
    if (tensor, shape) != tuple(map(plain, node.data_inputs)):
        edit.replace(node.with_inputs((tensor, shape)))


def _with_one_open(shapes: Shapes, shape: str) -> Optional[List[int]]:
    """The elements of a computed shape with -1 for the only one that isn't a number."""
    value = shapes.value(shape)
    if shapes.graph[shape].op == "Const" or value is None:
        return None
    # Beside a 0, and beside another -1, -1 means nothing.
    if any(dim.factor <= 0 for dim in value) or sum(not dim.known for dim in value) != 1:
        return None
    return [dim.factor if dim.known else -1 for dim in value]
