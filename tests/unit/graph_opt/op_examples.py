"""Uses of every operation, for comparing kernels, targets and rules with one another.

An example takes a :class:`Draft` with the inputs below and gives the tensors to look at.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Union

import numpy as np
from unit.graph_opt.draft import Draft

Example = Callable[[Draft], Union[str, Sequence[str]]]

_RANDOM = np.random.RandomState(3)
X = _RANDOM.standard_normal((3, 4)).astype(np.float32)
CUBE = _RANDOM.standard_normal((2, 3, 4)).astype(np.float32)
IDS = np.array([[0, 2, -1], [1, 1, 5]], np.int32)
LONGS = np.array([7, -7, 3, 0], np.int64)
FLAGS = np.array([[True, False, True], [False, False, True]])


def inputs(open_axes: Sequence[int] = (0, 1)) -> Draft:
    """A draft with inputs of the dtypes that models have."""
    draft = Draft()
    for name, value in (("x", X), ("cube", CUBE), ("ids", IDS), ("longs", LONGS), ("flags", FLAGS)):
        draft.input(name, value, [axis for axis in open_axes if axis < value.ndim])
    return draft


def on(op: str, *tensors: str, **attrs: Any) -> Example:
    """An operation on inputs of the draft."""
    return lambda draft: draft.op(op, tensors, **attrs)


def with_const(op: str, tensor: str, value: Any, dtype: Any = "float32", **attrs: Any) -> Example:
    """An operation on an input and a constant."""
    return lambda draft: draft.op(op, (tensor, draft.const(value, dtype)), **attrs)


def with_ints(op: str, tensor: str, *values: Any, **attrs: Any) -> Example:
    """An operation on an input and int32 constants."""
    return lambda draft: draft.op(
        op, (tensor, *[draft.const(value, "int32") for value in values]), **attrs
    )


def positive(op: str) -> Example:
    """An operation on positive numbers."""
    return lambda draft: draft.op(op, (draft.op("Exp", ("x",)),))


def _outputs(draft: Draft, node: str, count: int) -> List[str]:
    return [node] + ["%s:%d" % (node, index) for index in range(1, count)]


def several(op: str, count: int, *tensors: Any, **attrs: Any) -> Example:
    """All outputs of an operation; a tensor may be given as a pair of value and dtype."""

    def example(draft: Draft) -> List[str]:
        names = [one if isinstance(one, str) else draft.const(*one) for one in tensors]
        return _outputs(draft, draft.op(op, names, **attrs), count)

    return example


def mixed(op: str, *tensors: Any, **attrs: Any) -> Example:
    """Output 0 of an operation on inputs and constants."""
    return several(op, 1, *tensors, **attrs)


def strided(tensor: str, begin: Any, end: Any, strides: Any, **masks: int) -> Example:
    return with_ints("StridedSlice", tensor, begin, end, strides, **masks)


def _length(draft: Draft, tensor: str, index: int) -> str:
    """One element of a shape, the way TF1 graphs take it."""
    shape = draft.op("Shape", (tensor,), dtypes={"out_type": "int32"})
    bounds = [draft.const([value], "int32") for value in (index, index + 1, 1)]
    return draft.op("StridedSlice", (shape, *bounds), shrink_axis_mask=1)


def _computed_slice(draft: Draft) -> str:
    """Slice as BERT takes the positions that it needs: a computed size beside a -1."""
    size = draft.op("Pack", (_length(draft, "ids", 1), draft.const(-1, "int32")), axis=0)
    return draft.op("Slice", ("x", draft.const([0, 1], "int32"), size))


def _computed_strided(draft: Draft) -> str:
    size = _length(draft, "ids", 0)
    zero = draft.const(0, "int32")
    begin, end = (draft.op("Pack", pair, axis=0) for pair in ((zero, size), (size, zero)))
    strides = draft.const([1, 1], "int32")
    return draft.op("StridedSlice", ("x", begin, end, strides), begin_mask=1, end_mask=2)


def _computed_pick(draft: Draft) -> str:
    size = _length(draft, "ids", 0)
    begin, one = draft.op("Pack", (size,), axis=0), draft.const([1], "int32")
    end = draft.op("AddV2", (begin, one))
    return draft.op("StridedSlice", ("x", begin, end, one), shrink_axis_mask=1)


def _computed_reshape(draft: Draft) -> str:
    count = draft.op("Mul", (_length(draft, "cube", 0), _length(draft, "cube", 1)))
    shape = draft.op("Pack", (count, draft.const(4, "int32")), axis=0)
    return draft.op("Reshape", ("cube", shape))


def _tensordot_reshape(draft: Draft) -> str:
    """The shape that Keras' dense layers compute: all but the last dimension, then another."""
    shape = draft.op("Shape", ("cube",), dtypes={"out_type": "int32"})
    axis = draft.const(0, "int32")
    free = draft.op("GatherV2", (shape, draft.const([0, 1], "int32"), axis))
    target = draft.op("ConcatV2", (free, draft.const([2, 2], "int32"), axis))
    return draft.op("Reshape", ("cube", target))


def _causal_mask(draft: Draft) -> str:
    zero, one = draft.const(0, "int32"), draft.const(1, "int32")
    numbers = draft.op("Range", (zero, _length(draft, "ids", 1), one))
    column = draft.op("ExpandDims", (numbers, draft.const(1, "int32")))
    return draft.op("LessEqual", (numbers, column))


def _rows(draft: Draft) -> str:
    zero, one = draft.const(0, "int32"), draft.const(1, "int32")
    numbers = draft.op("Range", (zero, _length(draft, "ids", 0), one))
    pairs = draft.op("Pack", (numbers, numbers), axis=1)
    return draft.op("GatherNd", ("x", pairs))


def _flat_ids(draft: Draft) -> str:
    return draft.op("Abs", ("ids",))


def _broadcast(draft: Draft) -> str:
    shape = draft.op("Shape", ("cube",), dtypes={"out_type": "int32"})
    return draft.op("BroadcastTo", ("x", shape))


def _fill(draft: Draft) -> str:
    """The mask that BERT makes for its attention: ones of a computed shape."""
    shape = draft.op(
        "Pack",
        (_length(draft, "ids", 0), _length(draft, "ids", 1), draft.const(1, "int32")),
        axis=0,
    )
    return draft.op("Fill", (shape, draft.const(1.0)), dtypes={"index_type": "int32"})


def _computed_split(draft: Draft) -> List[str]:
    one = draft.const(1, "int32")
    sizes = draft.op("Pack", (one, draft.const(-1, "int32")), axis=0)
    return _outputs(draft, draft.op("SplitV", ("x", sizes, one), num_split=2), 2)


def _computed_pads(draft: Draft) -> str:
    count = _length(draft, "ids", 0)
    pads = draft.op("Pack", (count, count), axis=0)
    both = draft.op("Pack", (pads, pads), axis=0)
    return draft.op("Pad", ("x", both))


def _logic(op: str) -> Example:
    def example(draft: Draft) -> str:
        other = draft.op("Greater", ("ids", draft.const(0, "int32")))
        return draft.op(op, ("flags", other))

    return example


def _select(op: str, tensor: str, flags: Any) -> Example:
    def example(draft: Draft) -> str:
        condition = flags if isinstance(flags, str) else draft.const(flags, "bool")
        return draft.op(op, (condition, tensor, draft.op("Neg", (tensor,))))

    return example


def _select_bool(draft: Draft) -> str:
    return draft.op("SelectV2", ("flags", draft.op("LogicalNot", ("flags",)), "flags"))


def _one_hot(dtype: Any, on_value: Any, off_value: Any, **attrs: Any) -> Example:
    return mixed("OneHot", "ids", (3, "int32"), (on_value, dtype), (off_value, dtype), **attrs)


def _cast_chain(draft: Draft) -> str:
    down = draft.op("Cast", ("x",), dtypes={"DstT": "int32"})
    return draft.op("Cast", (down,), dtypes={"DstT": "float32"})


def _casts(dtype: str) -> Example:
    def example(draft: Draft) -> str:
        return draft.op(
            "Cast",
            (draft.op("Cast", (_flat_ids(draft),), dtypes={"DstT": dtype}),),
            dtypes={"DstT": "float32"},
        )

    return example


def _float_mod(draft: Draft) -> str:
    return draft.op("FloorMod", ("x", draft.const([0.75, -0.75, 1.5, 2.0])))


SIMPLE = (
    "Abs Ceil Cos Elu Erf Erfc Exp Floor Inv LogSoftmax Neg Reciprocal Relu Round Selu Sigmoid"
    " Sign Sin Snapshot Softmax Softplus Square StopGradient Tanh"
)
# Name -> example. Operations that the ONNX target doesn't know are in ONLY_NUMPY.
EXAMPLES: Dict[str, Example] = {
    "Add": with_const("Add", "x", 2.0),
    "AddN": mixed("AddN", "x", "x", "x"),
    "AddN, integers": mixed("AddN", "ids", "ids"),
    "AddN of one": on("AddN", "x"),
    "AddV2": with_const("AddV2", "x", [1, 2, 3, 4]),
    "All": with_ints("All", "flags", [1]),
    "Any": with_ints("Any", "flags", 0, keep_dims=True),
    "ArgMax": with_ints("ArgMax", "x", -1, dtypes={"output_type": "int32"}),
    "ArgMin": with_ints("ArgMin", "x", 0, dtypes={"output_type": "int64"}),
    "BatchMatMul": on("BatchMatMul", "cube", "cube", adj_x=False, adj_y=True),
    "BatchMatMulV2": on("BatchMatMulV2", "cube", "cube", adj_x=True, adj_y=False),
    "BatchMatMulV2, broadcast": on("BatchMatMulV2", "cube", "x", adj_x=False, adj_y=True),
    "BiasAdd": with_const("BiasAdd", "cube", [1, 2, 3, 4], data_format=b"NHWC"),
    "BiasAdd, channels first": with_const("BiasAdd", "cube", [1, 2, 3], data_format=b"NCHW"),
    "BroadcastTo": _broadcast,
    "BroadcastTo, constant": mixed("BroadcastTo", "x", ([2, 3, 4], "int32")),
    "Cast": _cast_chain,
    "Cast, uint8": _casts("uint8"),
    "Cast, int8": _casts("int8"),
    "Cast, bool": _casts("bool"),
    "Cast, float16": _casts("float16"),
    "CheckNumerics": on("CheckNumerics", "x", message=b"not finite"),
    "Concat": mixed("Concat", (1, "int32"), "x", "x"),
    "ConcatV2": mixed("ConcatV2", "x", "x", (-1, "int32")),
    "Cumsum": with_ints("Cumsum", "x", 1),
    "Cumsum, reverse": with_ints("Cumsum", "ids", -1, exclusive=True, reverse=True),
    "Div": with_const("Div", "x", 0.3),
    "Div, integers": with_const("Div", "longs", [2, 2, -2, 5], "int64"),
    "DivNoNan": with_const("DivNoNan", "x", [1, 0, 2, 0]),
    "Einsum, dense": mixed("Einsum", "cube", (X.T, "float32"), equation=b"BFD,DH->BFH"),
    "Einsum, scores": on("Einsum", "cube", "cube", equation=b"btd,bfd->bft"),
    "Einsum, ellipsis": mixed("Einsum", "cube", (X.T, "float32"), equation=b"...d,dh->...h"),
    "Einsum, transpose": on("Einsum", "cube", equation=b"abc->cab"),
    "EnsureShape": on("EnsureShape", "x", shape=(None, 4)),
    "Equal": with_const("Equal", "ids", [0, 1, 5], "int32"),
    "ExpandDims": with_ints("ExpandDims", "x", -1),
    "ExpandDims, vector": with_ints("ExpandDims", "x", [1]),
    "Fill": _fill,
    "FloorDiv": with_const("FloorDiv", "longs", [2, 2, -2, 5], "int64"),
    "FloorDiv, floats": with_const("FloorDiv", "x", 0.3),
    "FloorMod": with_const("FloorMod", "longs", [2, 2, -2, 5], "int64"),
    "FloorMod, floats": _float_mod,
    "Gather": mixed("Gather", "x", ([2, 0], "int32")),
    "GatherNd": _rows,
    "GatherNd, constant": mixed("GatherNd", "x", ([[2, 0], [1, 3]], "int32")),
    "GatherV2": mixed("GatherV2", "x", ([[2, 0], [1, 1]], "int32"), (0, "int32")),
    "GatherV2, scalar": mixed("GatherV2", "x", (1, "int32"), (-1, "int32")),
    "GatherV2, batch": mixed(
        "GatherV2", "cube", ([[2, 0], [1, 1]], "int32"), (1, "int32"), batch_dims=1
    ),
    "GatherV2, batch from the end": mixed(
        "GatherV2", "cube", ([[2], [1]], "int32"), (-2, "int32"), batch_dims=-1
    ),
    "Greater": with_const("Greater", "x", 0.0),
    "GreaterEqual": with_const("GreaterEqual", "ids", 1, "int32"),
    "Identity": on("Identity", "x"),
    "IdentityN": several("IdentityN", 2, "x", "ids", T=(np.dtype("float32"), np.dtype("int32"))),
    "LeakyRelu": on("LeakyRelu", "x", alpha=0.25),
    "Less": with_const("Less", "x", 0.5),
    "LessEqual": _causal_mask,
    "Log": positive("Log"),
    "Log1p": positive("Log1p"),
    "LogicalAnd": _logic("LogicalAnd"),
    "LogicalNot": on("LogicalNot", "flags"),
    "LogicalOr": _logic("LogicalOr"),
    "MatMul": with_const("MatMul", "x", np.eye(4)[:, :2], transpose_a=False, transpose_b=False),
    "MatMul, transposed": with_const(
        "MatMul", "x", np.eye(3, 4)[:, ::-1], transpose_a=False, transpose_b=True
    ),
    "MatMul, both": with_const("MatMul", "x", np.ones((2, 3)), transpose_a=True, transpose_b=True),
    "Max": with_ints("Max", "x", [1]),
    "Max, no axes": with_ints("Max", "x", []),
    "Maximum": with_const("Maximum", "x", 0.5),
    "Mean": with_ints("Mean", "cube", [-1, 0], keep_dims=True),
    "Min": with_ints("Min", "ids", [0, 1]),
    "Minimum": with_const("Minimum", "x", 0.5),
    "Mul": with_const("Mul", "x", 0.5),
    "NotEqual": with_const("NotEqual", "ids", 1, "int32"),
    "OneHot": _one_hot("float32", 1.0, 0.0, axis=-1),
    "OneHot, values": _one_hot("float32", 0.1, -0.2, axis=0),
    "OneHot, inner": _one_hot("int64", 5, 7, axis=1),
    "OneHot, half": _one_hot("float16", 1.0, 0.0),
    "OneHot, bool": _one_hot("bool", False, True),
    "OnesLike": on("OnesLike", "ids"),
    "Pack": on("Pack", "x", "x", axis=1),
    "Pack, last": on("Pack", "x", "x", axis=-1),
    "Pad": with_ints("Pad", "x", [[1, 0], [0, 2]]),
    "Pad, computed": _computed_pads,
    "PadV2": mixed("PadV2", "ids", ([[0, 1], [2, 0]], "int32"), (9, "int32")),
    "PlaceholderWithDefault": mixed("PlaceholderWithDefault", (2.0, "float32"), shape=()),
    "Pow": with_const("Pow", "x", 3.0),
    "PreventGradient": on("PreventGradient", "x"),
    "Prod": with_ints("Prod", "ids", [1]),
    "Range": mixed("Range", (0.0, "float32"), (1.0, "float32"), (0.25, "float32")),
    "Rank": on("Rank", "cube"),
    "RealDiv": with_const("RealDiv", "x", 0.5),
    "Reshape": with_ints("Reshape", "x", [2, -1]),
    "Reshape, computed": _computed_reshape,
    "Reshape, tensordot": _tensordot_reshape,
    "Reshape, to a scalar": lambda draft: draft.op(
        "Reshape", (draft.const([5.0]), draft.const([], "int32"))
    ),
    "Rsqrt": positive("Rsqrt"),
    "Select": _select("Select", "ids", "flags"),
    "Select, rows": _select("Select", "cube", [True, False]),
    "SelectV2": _select("SelectV2", "x", [[True], [False], [True]]),
    "SelectV2, bools": _select_bool,
    "Shape": on("Shape", "cube", dtypes={"out_type": "int64"}),
    "Shape, short": on("Shape", "cube", dtypes={"out_type": "int32"}),
    "Size": on("Size", "cube", dtypes={"out_type": "int32"}),
    "Slice": with_ints("Slice", "cube", [0, 1, 2], [2, 1, -1]),
    "Slice, computed": _computed_slice,
    "Split": several("Split", 2, (1, "int32"), "x", num_split=2),
    "Split, first axis": several("Split", 3, (0, "int32"), "x", num_split=3),
    "SplitV": several("SplitV", 3, "x", ([1, 2, 1], "int64"), (1, "int32"), num_split=3),
    "SplitV, rest": several("SplitV", 2, "x", ([1, -1], "int32"), (-1, "int32"), num_split=2),
    "SplitV, computed": _computed_split,
    "Sqrt": positive("Sqrt"),
    "SquaredDifference": with_const("SquaredDifference", "x", 0.5),
    "Squeeze": lambda draft: draft.op(
        "Squeeze", (with_ints("ExpandDims", "x", 1)(draft),), squeeze_dims=(1,)
    ),
    "Squeeze, all": lambda draft: draft.op("Squeeze", (draft.const([[[2.0], [3.0]]]),)),
    "StridedSlice, first token": strided(
        "cube", [0, 0, 0], [0, 1, 0], [1, 1, 1], begin_mask=5, end_mask=5
    ),
    "StridedSlice, shrink": strided(
        "cube", [0, -1], [0, 0], [1, 1], begin_mask=1, end_mask=1, shrink_axis_mask=2
    ),
    "StridedSlice, shrink first": strided("cube", [1], [2], [1], shrink_axis_mask=1),
    "StridedSlice, new axes": strided(
        "ids", [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], begin_mask=9, end_mask=9, new_axis_mask=6
    ),
    "StridedSlice, new axis of a shrunk one": strided(
        "cube",
        [0, 0, 0],
        [0, 0, 0],
        [1, 1, 1],
        new_axis_mask=1,
        shrink_axis_mask=3,
        begin_mask=4,
        end_mask=4,
    ),
    "StridedSlice, ellipsis": strided("cube", [0, 1], [0, 3], [1, 2], ellipsis_mask=1),
    "StridedSlice, ellipsis inside": strided(
        "cube",
        [1, 0, 0, 0],
        [2, 0, 0, 2],
        [1, 1, 1, 1],
        ellipsis_mask=2,
        new_axis_mask=4,
        shrink_axis_mask=1,
    ),
    "StridedSlice, backwards": strided("cube", [0, -1], [0, 0], [-1, -2], begin_mask=1, end_mask=1),
    "StridedSlice, to before the start": strided("x", [2], [-9], [-1]),
    "StridedSlice, beyond": strided("x", [-9, 2], [9, 99], [1, 1]),
    "StridedSlice, nothing": strided("x", [0], [0], [1], begin_mask=1, end_mask=1),
    "StridedSlice, computed": _computed_strided,
    "StridedSlice, computed place": _computed_pick,
    "Sub": with_const("Sub", "x", 0.5),
    "Sum": with_ints("Sum", "cube", [0, 2], keep_dims=True),
    "Sum, one axis": with_ints("Sum", "ids", 1),
    "Tile": with_ints("Tile", "x", [2, 3]),
    "Transpose": with_ints("Transpose", "cube", [2, 0, 1]),
    "Unpack": several("Unpack", 4, "x", num=4, axis=1),
    "Unpack, last": several("Unpack", 2, "cube", num=2, axis=0),
    "ZerosLike": on("ZerosLike", "x"),
}
EXAMPLES["Relu6"] = lambda draft: draft.op("Relu6", (with_const("Mul", "x", 5.0)(draft),))
EXAMPLES.update((op, on(op, "x")) for op in SIMPLE.split())
