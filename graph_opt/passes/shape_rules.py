"""The shape of each operation's result, from the shapes of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, List, Mapping, Optional, Sequence

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.passes.dimensions import (
    ONE,
    Dim,
    Shape,
    broadcast,
    own_symbol,
    product,
    quotient,
)
from bert_serving.graph_opt.passes.shape_slices import sliced, strided
from bert_serving.graph_opt.signatures import PASS_THROUGH

if TYPE_CHECKING:
    from bert_serving.graph_opt.passes.shapes import Shapes

__all__ = ["BATCH", "BINARY", "UNARY", "tensor_shape"]

# Operations whose result has the shape of their only, or first, operand.
UNARY = PASS_THROUGH + (
    "Abs",
    "BiasAdd",
    "Cast",
    "Ceil",
    "Elu",
    "Erf",
    "Erfc",
    "Exp",
    "Floor",
    "Inv",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LogicalNot",
    "Neg",
    "OnesLike",
    "Reciprocal",
    "Relu",
    "Relu6",
    "Round",
    "Rsqrt",
    "Sigmoid",
    "Sign",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Square",
    "Tanh",
    "ZerosLike",
)
# Elementwise operations of two or more operands that are broadcast.
BINARY = (
    "Add",
    "AddV2",
    "DivNoNan",
    "Equal",
    "FloorDiv",
    "FloorMod",
    "Greater",
    "GreaterEqual",
    "Less",
    "LessEqual",
    "LogicalAnd",
    "LogicalOr",
    "Maximum",
    "Minimum",
    "Mul",
    "NotEqual",
    "Pow",
    "RealDiv",
    "SelectV2",
    "SquaredDifference",
    "Sub",
)
_REDUCTIONS = ("All", "Any", "Max", "Mean", "Min", "Prod", "Sum")
BATCH = "batch"


def tensor_shape(shapes: Shapes, node: Node) -> Optional[Shape]:
    """The shape of a node's first output; ``shapes`` knows those of the inputs."""
    inputs = [shapes.shape(tensor) for tensor in node.data_inputs]
    if node.op in UNARY:
        return inputs[0]
    if node.op in BINARY:
        return _broadcast(node, inputs)
    if node.op in _REDUCTIONS:
        return _reduced(shapes, node, inputs)
    rule = _SHAPES.get(node.op)
    return rule(shapes, node, inputs) if rule else None


def _broadcast(node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    result: List[Dim] = []
    known = [shape for shape in inputs if shape is not None]
    if len(known) < len(inputs):
        return None
    rank = max(len(shape) for shape in known)
    for axis in range(rank):
        size: Optional[Dim] = ONE
        for shape in known:
            place = axis - (rank - len(shape))
            if place >= 0 and size is not None:
                size = broadcast(size, shape[place])
        result.append(own_symbol(node.name, axis) if size is None else size)
    return tuple(result)


def _reduced(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    axes = shapes.numbers(node.data_inputs[1])
    shape = inputs[0]
    if shape is None or axes is None:
        keeps_rank = shape is not None and node.attrs.get("keep_dims")
        return _fresh(node, len(shape or ())) if keeps_rank else None
    places = {axis % len(shape) for axis in axes} if shape else set()
    if node.attrs.get("keep_dims"):
        return tuple(ONE if axis in places else dim for axis, dim in enumerate(shape))
    return tuple(dim for axis, dim in enumerate(shape) if axis not in places)


def _fresh(node: Node, rank: int) -> Shape:
    return tuple(own_symbol(node.name, axis) for axis in range(rank))


def _declared(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    declared = node.attrs.get("shape")
    if declared is None:
        return None
    result = [
        own_symbol(node.name, axis) if size is None else Dim(size)
        for axis, size in enumerate(declared)
    ]
    is_fed = node.op == "Placeholder" and node.name in shapes.graph.inputs
    if is_fed and len(declared) > 1 and declared[0] is None:
        result[0] = Dim(1, (BATCH,))
    return tuple(result)


def _read(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    variable = shapes.graph.variables.get(shapes.graph[node.data_inputs[0]].name)
    return None if variable is None else tuple(Dim(size) for size in variable.shape)


def _matmul(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    left, right = inputs
    if left is None or right is None or min(len(left), len(right)) < 2:
        return None
    flags = ("transpose_a", "transpose_b") if node.op == "MatMul" else ("adj_x", "adj_y")
    rows, inner = left[-2:][::-1] if node.attrs.get(flags[0]) else left[-2:]
    same, columns = right[-2:][::-1] if node.attrs.get(flags[1]) else right[-2:]
    shapes.learn(node, inner, same)
    batch = _broadcast(node, (left[:-2], right[:-2]))
    return None if batch is None else batch + (rows, columns)


def _reshape(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    value = shapes.value(node.data_inputs[1])
    if value is None:
        length = inputs[1]
        return _fresh(node, length[0].factor) if length and length[0].known else None
    if Dim(-1) not in value:
        if inputs[0] is not None:
            shapes.learn(node, product(inputs[0]), product(value))
        return value
    open_axis = value.index(Dim(-1))
    rest = product(dim for dim in value if dim != Dim(-1))
    size = None if inputs[0] is None else quotient(product(inputs[0]), rest)
    return tuple(
        (size or own_symbol(node.name, axis)) if axis == open_axis else dim
        for axis, dim in enumerate(value)
    )


def _transpose(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    perm = shapes.numbers(node.data_inputs[1])
    shape = inputs[0]
    if shape is None:
        return None
    return _fresh(node, len(shape)) if perm is None else tuple(shape[axis] for axis in perm)


def _expand(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    axes = shapes.numbers(node.data_inputs[1])
    if inputs[0] is None or axes is None:
        return None
    place = axes[0] % (len(inputs[0]) + 1)
    return inputs[0][:place] + (ONE,) + inputs[0][place:]


def _squeeze(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    shape = inputs[0]
    if shape is None:
        return None
    axes = {axis % len(shape) for axis in node.attrs.get("squeeze_dims", ())}
    if not axes and not all(dim.known for dim in shape):
        return None  # whether a dimension is 1 shows only at run time
    return tuple(
        dim for axis, dim in enumerate(shape) if not (axis in axes or (not axes and dim == ONE))
    )


def _pack(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    if inputs[0] is None:
        return None
    place = int(node.attrs.get("axis", 0)) % (len(inputs[0]) + 1)
    return inputs[0][:place] + (Dim(len(inputs)),) + inputs[0][place:]


def _concat(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    axes = shapes.numbers(node.data_inputs[-1])
    parts = [shape for shape in inputs[:-1] if shape is not None]
    if axes is None or len(parts) < len(inputs) - 1:
        return None
    place = axes[0] % len(parts[0])
    sizes = [shape[place] for shape in parts]
    total = Dim(sum(size.factor for size in sizes))
    result = list(parts[0])
    result[place] = total if all(size.known for size in sizes) else own_symbol(node.name, place)
    return tuple(result)


def _gather(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    axes = shapes.numbers(node.data_inputs[2])
    params, indices = inputs[0], inputs[1]
    if params is None or indices is None or axes is None or node.attrs.get("batch_dims"):
        return None
    place = axes[0] % len(params)
    return params[:place] + indices + params[place + 1 :]


def _ranged(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    start, limit, delta = map(shapes.value, node.data_inputs)
    # A size isn't negative; a number may be.
    counts = start == (Dim(0),) and delta == (ONE,) and limit is not None
    if counts and limit is not None and limit[0].factor >= 0:
        return limit
    return _fresh(node, 1)


def _filled(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    return shapes.value(node.data_inputs[0])


def _one_hot(shapes: Shapes, node: Node, inputs: Sequence[Optional[Shape]]) -> Optional[Shape]:
    depth = shapes.value(node.data_inputs[1])
    if inputs[0] is None or depth is None or node.attrs.get("axis", -1) != -1:
        return None
    return inputs[0] + depth


_SHAPES: Mapping[str, Callable[[Shapes, Node, Sequence[Optional[Shape]]], Optional[Shape]]] = {
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "ConcatV2": _concat,
    "Const": lambda shapes, node, inputs: tuple(map(Dim, np.shape(node.attrs["value"]))),
    "Cumsum": lambda shapes, node, inputs: inputs[0],
    "ExpandDims": _expand,
    "Fill": _filled,
    "GatherV2": _gather,
    "MatMul": _matmul,
    "OneHot": _one_hot,
    "Pack": _pack,
    "Placeholder": _declared,
    "Range": _ranged,
    "ReadVariableOp": _read,
    "Reshape": _reshape,
    "Shape": lambda shapes, node, inputs: None if inputs[0] is None else (Dim(len(inputs[0])),),
    "Slice": sliced,
    "Squeeze": _squeeze,
    "StridedSlice": strided,
    "Transpose": _transpose,
    "Variable": _declared,
    "VariableV2": _declared,
}
