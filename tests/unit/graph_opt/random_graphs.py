"""Small random graphs that are valid by construction, for checking passes and targets.

Every operation is computed as it is drawn, so that its operands fit; what overflows, or is nothing
that a tolerance can be asked of, is left out. Besides single operations there are motifs that
passes look for, and near misses of them.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from hypothesis import strategies as st
from unit.graph_opt.draft import Draft
from unit.graph_opt.motifs import MOTIFS
from unit.graph_opt.support import held

from bert_serving.graph_opt.graph import Graph, Node

__all__ = ["RandomGraph", "random_graphs"]

FLOAT, INT, LONG = np.dtype("float32"), np.dtype("int32"), np.dtype("int64")
BOOL = np.dtype("bool")
# Beyond that, float32 leaves too few digits after the point for one tolerance to fit all.
LARGEST = 1e3
MOST_ELEMENTS = 400

UNARY = (
    "Abs Ceil Elu Erf Exp Floor Neg Relu Sigmoid Softplus Square Tanh Selu Relu6 Sign Sin"
    " OnesLike ZerosLike"
)
Draw = Callable[[Any], Any]


class RandomGraph(NamedTuple):
    """A graph and what its inputs are fed."""

    graph: Graph
    feeds: Dict[str, np.ndarray]


class _Writer:
    """A draft, and the choices of hypothesis about it."""

    def __init__(self, draw: Draw, draft: Draft) -> None:
        self.draw = draw
        self.draft = draft
        self.random = np.random.RandomState(draw(st.integers(0, 2**16)))

    def pick(self, *dtypes: np.dtype, ranks: Sequence[int] = (0, 1, 2, 3, 4)) -> str:
        """A tensor there is; a new constant if none fits."""
        found = [
            tensor
            for tensor, value in self.draft.values.items()
            if value.dtype in dtypes and value.ndim in ranks
        ]
        if not found:
            return self.constant(dtypes[0], (2,) * ranks[0])
        # Later ones more often: graphs are to be deep rather than broad.
        index = min(self.draw(st.integers(0, len(found) - 1)) for _ in range(2))
        return self.spelled(found[len(found) - 1 - index])

    def spelled(self, tensor: str) -> str:
        """The tensor, sometimes with the index that may be left out."""
        if ":" in tensor or self.draw(st.integers(0, 5)):
            return tensor
        return tensor + ":0"

    def value(self, tensor: str) -> np.ndarray:
        return self.draft.values[tensor]

    def choose(self, count: int) -> int:
        return int(self.draw(st.integers(0, count - 1)))

    def axis(self, tensor: str) -> int:
        rank = self.value(tensor).ndim
        return int(self.draw(st.integers(-rank, rank - 1)))

    def ints(self, value: Any) -> str:
        return self.draft.const(value, self.draw(st.sampled_from(["int32", "int64"])), "ints")

    def short(self, value: Any) -> str:
        return self.draft.const(value, "int32", "short")

    def constant(self, dtype: np.dtype, shape: Sequence[int]) -> str:
        if dtype == BOOL:
            return self.draft.const(self.random.rand(*shape) < 0.5, dtype, "flags")
        if dtype in (INT, LONG):
            return self.draft.const(self.random.randint(-3, 9, shape), dtype, "numbers")
        value = np.asarray(self.random.standard_normal(shape), np.float32)
        if self.draw(st.booleans()):
            return self.draft.const(value, dtype, "weights")
        name = self.draft.unique("variable")
        node = Node(name, "VariableV2", (), {"dtype": FLOAT, "shape": value.shape})
        self.draft.nodes[name] = node
        self.draft.variables[name] = held(name, value)
        self.draft.values[name] = value
        return self.draft.op("Identity", (name,), name + "/read")

    def operand_for(self, tensor: str) -> str:
        """Something to combine with a tensor elementwise: of its shape, or of a part of it."""
        value = self.value(tensor)
        fitting = [
            name
            for name, other in self.draft.values.items()
            if other.dtype == value.dtype and _broadcasts(value.shape, other.shape)
        ]
        if self.draw(st.booleans()):
            return self.spelled(self.draw(st.sampled_from(fitting)))
        shape = value.shape[int(self.draw(st.integers(0, value.ndim))) :]
        return self.constant(value.dtype, shape)


def _broadcasts(one: Tuple[int, ...], other: Tuple[int, ...]) -> bool:
    return all(1 in pair or pair[0] == pair[1] for pair in zip(one[::-1], other[::-1]))


def _unary(writer: _Writer) -> None:
    op = writer.draw(st.sampled_from(UNARY.split()))
    writer.draft.op(op, (writer.pick(FLOAT),))


def _softmax(writer: _Writer) -> None:
    op = writer.draw(st.sampled_from(["Softmax", "LogSoftmax"]))
    writer.draft.op(op, (writer.pick(FLOAT, ranks=(1, 2, 3, 4)),))


def _binary(writer: _Writer) -> None:
    floats = ["Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", "SquaredDifference"]
    tensor = writer.pick(FLOAT, FLOAT, INT, LONG)
    op = writer.draw(st.sampled_from(floats))
    pair = [tensor, writer.operand_for(tensor)]
    writer.draft.op(op, pair if writer.draw(st.booleans()) else pair[::-1])


def _divide(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT)
    below = writer.draft.const(writer.draw(st.sampled_from([0.5, 2.0, -1.5, 8.0])))
    writer.draft.op(writer.draw(st.sampled_from(["RealDiv", "Div"])), (tensor, below))


def _integer_division(writer: _Writer) -> None:
    tensor = writer.pick(INT, LONG)
    below = writer.draft.const(writer.draw(st.sampled_from([2, 3, -2])), writer.value(tensor).dtype)
    op = writer.draw(st.sampled_from(["FloorDiv", "FloorMod", "Div"]))
    writer.draft.op(op, (tensor, below))


def _compare(writer: _Writer) -> None:
    tensor = writer.pick(INT, LONG)
    ops = ["Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"]
    writer.draft.op(writer.draw(st.sampled_from(ops)), (tensor, writer.operand_for(tensor)))


def _logic(writer: _Writer) -> None:
    tensor = writer.pick(BOOL)
    op = writer.draw(st.sampled_from(["LogicalAnd", "LogicalOr"]))
    writer.draft.op(op, (writer.draft.op("LogicalNot", (tensor,)), writer.operand_for(tensor)))


def _select(writer: _Writer) -> None:
    condition = writer.pick(BOOL)
    dtype = writer.draw(st.sampled_from([FLOAT, LONG, INT]))
    shape = writer.value(condition).shape
    other = writer.constant(dtype, shape)
    writer.draft.op("SelectV2", (condition, other, writer.operand_for(other)))


def _cast(writer: _Writer) -> None:
    tensor = writer.pick(BOOL, INT, LONG)
    target = writer.draw(st.sampled_from(["float32", "int32", "int64"]))
    writer.draft.op("Cast", (tensor,), dtypes={"DstT": target})


def _reduce(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, FLOAT, LONG, ranks=(1, 2, 3, 4))
    ops = ["Sum", "Max", "Min"] + (["Mean"] if writer.value(tensor).dtype == FLOAT else [])
    axis = writer.axis(tensor)
    axes = writer.ints(axis if writer.draw(st.booleans()) else [axis])
    keep = writer.draw(st.booleans())
    writer.draft.op(writer.draw(st.sampled_from(ops)), (tensor, axes), keep_dims=keep)


def _matmul(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, ranks=(2,))
    width = writer.value(tensor).shape[-1]
    turned = writer.draw(st.booleans())
    columns = writer.draw(st.sampled_from([1, 2, 4]))
    weights = writer.constant(FLOAT, (columns, width) if turned else (width, columns))
    attrs = {"transpose_a": False, "transpose_b": turned}
    writer.draft.op("MatMul", (tensor, weights), **attrs)


def _batch_matmul(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, ranks=(3, 4))
    attrs = {"adj_x": False, "adj_y": True}
    writer.draft.op("BatchMatMulV2", (tensor, tensor), **attrs)


def _transpose(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, LONG, ranks=(2, 3, 4))
    perm = writer.draw(st.permutations(range(writer.value(tensor).ndim)))
    writer.draft.op("Transpose", (tensor, writer.ints(perm)))


def _expand(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, LONG, BOOL, ranks=(0, 1, 2, 3))
    rank = writer.value(tensor).ndim
    axis = int(writer.draw(st.integers(-rank - 1, rank)))
    added = writer.draft.op("ExpandDims", (tensor, writer.ints(axis)))
    if writer.draw(st.booleans()):
        writer.draft.op("Squeeze", (added,), squeeze_dims=(axis,))


def _concat(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, LONG, ranks=(1, 2, 3, 4))
    kind = writer.draw(st.sampled_from(["ConcatV2", "Pack", "AddN"]))
    if kind == "ConcatV2":
        writer.draft.op(kind, (tensor, tensor, writer.ints(writer.axis(tensor))))
    else:
        attrs = {"axis": writer.axis(tensor)} if kind == "Pack" else {}
        writer.draft.op(kind, (tensor, tensor), **attrs)


def _split(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, ranks=(1, 2, 3, 4))
    axis = writer.axis(tensor)
    size = writer.value(tensor).shape[axis]
    if size % 2:
        writer.draft.op("Unpack", (tensor,), axis=axis, num=size)
    else:
        writer.draft.op("Split", (writer.short(axis), tensor), num_split=2)


def _gather(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, LONG, ranks=(1, 2, 3))
    axis = writer.axis(tensor)
    size = writer.value(tensor).shape[axis]
    indices = writer.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3))
    picked = writer.ints(indices if writer.draw(st.booleans()) else indices[0])
    writer.draft.op("GatherV2", (tensor, picked, writer.ints(axis)), batch_dims=0)


def _slice(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, LONG, ranks=(1, 2, 3, 4))
    shape = writer.value(tensor).shape
    places = [int(writer.draw(st.integers(0, size - 1))) for size in shape]
    if writer.draw(st.booleans()):
        sizes = [-1 if writer.draw(st.booleans()) else 1 for _ in shape]
        writer.draft.op("Slice", (tensor, writer.short(places), writer.short(sizes)))
        return
    spec, attrs = [], dict.fromkeys(("begin_mask", "end_mask", "shrink_axis_mask"), 0)
    added = 0
    for place in places:
        if not writer.draw(st.integers(0, 3)):
            added |= 1 << len(spec)
            spec.append(0)
        for mask in attrs:
            attrs[mask] |= int(writer.draw(st.booleans())) << len(spec)
        spec.append(place)
    ends = [place + 1 for place in spec]
    bounds = [writer.short(value) for value in (spec, ends, [1] * len(spec))]
    attrs["new_axis_mask"] = added
    writer.draft.op("StridedSlice", (tensor, *bounds), ellipsis_mask=0, **attrs)


def _reshape(writer: _Writer) -> None:
    """To a computed shape: that of the batch's rows, or of all there is."""
    tensor = writer.pick(FLOAT, LONG, ranks=(2, 3, 4))
    dtype = writer.draw(st.sampled_from(["int32", "int64"]))
    shape = writer.draft.op("Shape", (tensor,), dtypes={"out_type": dtype})
    if writer.draw(st.booleans()):
        target = writer.draft.const([-1, writer.value(tensor).shape[-1]], dtype)
    else:
        zero, one = writer.short([0]), writer.short([1])
        first = writer.draft.op("StridedSlice", (shape, zero, one, one), shrink_axis_mask=1)
        rest = writer.draft.const(-1, dtype)
        target = writer.draft.op("Pack", (first, rest), axis=0)
    flat = writer.draft.op("Reshape", (tensor, target))
    if writer.draw(st.booleans()):
        writer.draft.op("Reshape", (flat, shape))


def _positions(writer: _Writer) -> None:
    tensor = writer.pick(FLOAT, LONG, ranks=(1, 2, 3))
    dtype = writer.draw(st.sampled_from(["int32", "int64"]))
    count = writer.draft.op("Size", (tensor,), dtypes={"out_type": dtype})
    zero, one = writer.draft.const(0, dtype), writer.draft.const(1, dtype)
    writer.draft.op("Range", (zero, count, one))


def _one_hot(writer: _Writer) -> None:
    tensor = writer.pick(INT, LONG, ranks=(0, 1, 2))
    on, off = writer.draft.const(1.0), writer.draft.const(0.0)
    writer.draft.op("OneHot", (tensor, writer.short(3), on, off), axis=-1)


def _fill(writer: _Writer) -> None:
    shape = writer.draft.op(
        "Shape", (writer.pick(FLOAT, ranks=(1, 2, 3)),), dtypes={"out_type": "int32"}
    )
    writer.draft.op("Fill", (shape, writer.draft.const(0.5)))


def _identity(writer: _Writer) -> None:
    op = writer.draw(st.sampled_from(["Identity", "StopGradient", "Snapshot", "PreventGradient"]))
    writer.draft.op(op, (writer.pick(FLOAT, LONG, BOOL),))


def _identities(writer: _Writer) -> None:
    pair = (writer.pick(FLOAT), writer.pick(LONG))
    writer.draft.op("IdentityN", pair, T=(FLOAT, LONG))


def _again(writer: _Writer) -> None:
    """The same operation on the same operands: a common subexpression."""
    draft = writer.draft
    again = [
        node
        for node in draft.nodes.values()
        if node.data_inputs
        and node.op not in ("Merge", "RandomUniform", "Switch")
        and all(tensor in draft.values for tensor in node.data_inputs)
    ]
    if again:
        node = writer.draw(st.sampled_from(again))
        attrs = {key: value for key, value in node.attrs.items() if key != "N"}
        draft.op(node.op, node.data_inputs, node.name, **attrs)


def _constants(writer: _Writer) -> None:
    """An operation on constants alone, to be folded."""
    one = writer.constant(FLOAT, (2,))
    writer.draft.op("Mul", (one, writer.operand_for(one)))


def _motif(writer: _Writer) -> None:
    """Up to three motifs, one on top of the other."""
    tensor = writer.pick(FLOAT, ranks=(3,))
    for motif in writer.draw(st.lists(st.sampled_from(MOTIFS), min_size=1, max_size=3)):
        if writer.value(tensor).ndim == 3 and writer.value(tensor).size <= MOST_ELEMENTS:
            tensor = motif(writer.draft, tensor, writer.choose)


_STEPS: Sequence[Callable[[_Writer], None]] = (
    _again,
    _batch_matmul,
    _binary,
    _binary,
    _cast,
    _compare,
    _concat,
    _constants,
    _divide,
    _expand,
    _fill,
    _gather,
    _identities,
    _identity,
    _integer_division,
    _logic,
    _matmul,
    _motif,
    _one_hot,
    _positions,
    _reduce,
    _reshape,
    _select,
    _slice,
    _softmax,
    _split,
    _transpose,
    _unary,
)


def _inputs(writer: _Writer) -> None:
    """Those of a BERT, in int64 or int32, and the vectors of its tokens."""
    batch, length = (int(writer.draw(st.integers(1, 3))) for _ in range(2))
    dtype = writer.draw(st.sampled_from([INT, LONG]))
    open_axes = writer.draw(st.sampled_from([(), (0,), (0, 1)]))
    ids = writer.random.randint(0, 3, (batch, length)).astype(dtype)
    writer.draft.input("ids", ids, open_axes)
    mask = (writer.random.rand(batch, length) < 0.7).astype(dtype)
    writer.draft.input("mask", mask, open_axes)
    x = writer.random.standard_normal((batch, length, 4)).astype(np.float32)
    writer.draft.input("x", x, open_axes)


def _controlled(draw: Draw, draft: Draft) -> List[Node]:
    """Some nodes get a control input from a node before them, but not from within a branch."""
    result: List[Node] = []
    before: List[str] = []
    for node in draft.nodes.values():
        if before and node.op != "Placeholder" and not draw(st.integers(0, 9)):
            first = draw(st.sampled_from(before))
            node = node.with_inputs(node.inputs + ("^" + first,))
        if node.name in draft.values:
            before.append(node.name)
        result.append(node)
    return result


def _fits(before: int, draft: Draft) -> bool:
    """Whether what was added can be compared within a tolerance, and is small."""
    for value in list(draft.values.values())[before:]:
        if not 0 < value.size <= MOST_ELEMENTS or value.ndim > 4:
            return False
        if value.dtype == FLOAT and not np.abs(value).max() <= LARGEST:
            return False
        if value.dtype in (INT, LONG) and np.abs(value).max() > 2**20:
            return False
    return True


def _take_back(draft: Draft, nodes: int, values: int) -> None:
    for name in list(draft.nodes)[nodes:]:
        del draft.nodes[name]
        draft.variables.pop(name, None)
    for name in list(draft.values)[values:]:
        del draft.values[name]


@st.composite
def random_graphs(draw: Draw, most_steps: int = 12, control: bool = True) -> RandomGraph:
    """Graphs of up to ``most_steps`` operations and motifs, with one to three outputs.

    Dropout is in its training form: run the graph with ``inference_feeds``. ``control``: some nodes
    have control inputs.
    """
    writer = _Writer(draw, Draft())
    draft = writer.draft
    _inputs(writer)
    step_or_motif = st.one_of(st.just(_motif), st.sampled_from(_STEPS), st.sampled_from(_STEPS))
    for step in draw(st.lists(step_or_motif, min_size=2, max_size=most_steps)):
        nodes, values = len(draft.nodes), len(draft.values)
        step(writer)
        if not _fits(values, draft):
            _take_back(draft, nodes, values)
    # What TensorFlow can fetch but ONNX can't: a node's value, not the variable itself.
    fetched = [name for name in draft.values if name not in draft.variables]
    outputs = draw(st.lists(st.sampled_from(fetched[::-1]), max_size=2, unique=True))
    if not outputs or draw(st.booleans()):
        # The end of the longest chain, as a rule.
        outputs = list(dict.fromkeys([fetched[-1], *outputs]))
    written = list(draft.nodes.values())
    if control:
        written = _controlled(draw, draft)
    graph = Graph(written, outputs, draft.variables, inputs=("ids", "mask", "x"))
    graph.validate()
    return RandomGraph(graph, draft.feeds)
