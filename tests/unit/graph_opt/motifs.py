"""What passes look for, and what only looks like it, for random graphs.

A motif adds nodes to a draft, starting from a float32 tensor [b, s, h], and gives its result, which
has the same rank. ``choose(n)`` is a number below n; choice 0 is the true form wherever there are
near misses.
"""

from __future__ import annotations

import math
from typing import Callable, List, Tuple

import numpy as np
from unit.graph_opt.draft import Draft

__all__ = ["MOTIFS", "conditional"]

Choose = Callable[[int], int]
Motif = Callable[[Draft, str, Choose], str]


def layer_norm(draft: Draft, tensor: str, choose: Choose) -> str:
    """Layer normalization in the two forms that TensorFlow models write, or nearly so."""
    width = draft.values[tensor].shape[-1]
    gamma, beta = _vector(draft, width, 2.0), _vector(draft, width, -1.0)
    axes = draft.const([(2,), (-1,), 2, (-1,), 2, (2,), (1, 2), (1,)][choose(8)], "int32", "axes")
    epsilon = draft.const([1e-12, 1e-3, 0.5][choose(3)], name="epsilon")
    mean = draft.op("Mean", (tensor, axes), keep_dims=True)
    centered = draft.op("Sub", (tensor, mean))
    if choose(2):
        # As tf.contrib.layers.layer_norm: x * scale + (beta - mean * scale).
        stopped = draft.op("StopGradient", (mean,))
        squares = draft.op("SquaredDifference", (tensor, stopped))
        variance = draft.op("Mean", (squares, axes), keep_dims=True)
        root = draft.op("Rsqrt", (draft.op("AddV2", (variance, epsilon)),))
        scale = draft.op("Mul", (root, gamma))
        moved = draft.op("Mul", ((mean, centered)[choose(8) == 7], scale))
        shift = draft.op("Sub", (beta, moved))
        return draft.op("AddV2", (draft.op("Mul", (tensor, scale)), shift))
    squares = draft.op("Square", ((centered, tensor)[choose(8) == 7],))
    variance = draft.op("Mean", (squares, axes), keep_dims=True)
    root = draft.op("Sqrt", (draft.op("AddV2", (variance, epsilon)),))
    normal = draft.op("RealDiv", (centered, root))
    return draft.op("AddV2", (draft.op("Mul", (normal, gamma)), beta))


def gelu(draft: Draft, tensor: str, choose: Choose) -> str:
    """Gelu by erf, erfc or tanh, or nearly so."""
    half, one = draft.const(0.25 if choose(8) == 7 else 0.5), draft.const(1.0)
    if choose(2):
        cube = draft.op("Pow", (tensor, draft.const(3.0)))
        factor = draft.const(0.1 if choose(8) == 7 else 0.044715)
        inner = draft.op("AddV2", (tensor, draft.op("Mul", (factor, cube))))
        scale = draft.const(math.sqrt(2 / math.pi))
        inside = draft.op("Tanh", (draft.op("Mul", (scale, inner)),))
    elif choose(3):
        root = draft.const(1.5 if choose(8) == 7 else math.sqrt(2))
        inside = draft.op("Erf", (draft.op("RealDiv", (tensor, root)),))
    else:
        negative = draft.op("Neg", (tensor,))
        ratio = draft.op("Mul", (negative, draft.const(math.sqrt(0.5))))
        return draft.op("Mul", (draft.op("Mul", (tensor, half)), draft.op("Erfc", (ratio,))))
    plus = draft.op("AddV2", (one, inside)[:: (1, -1)[choose(2)]])
    other = tensor if choose(6) else draft.op("Neg", (tensor,))
    if choose(2):
        return draft.op("Mul", (other, draft.op("Mul", (half, plus))))
    return draft.op("Mul", (draft.op("Mul", (other, half)), plus))


def dense(draft: Draft, tensor: str, choose: Choose) -> str:
    """A dense layer on all rows, with or without an activation."""
    width = draft.values[tensor].shape[-1]
    rows = draft.op("Reshape", (tensor, draft.const([-1, width], "int32", "rows")))
    projected = _project(draft, rows, width, choose)
    if choose(2):
        projected = draft.op("Tanh", (projected,))
    shape = draft.op("Shape", (tensor,), dtypes={"out_type": "int32"})
    return draft.op("Reshape", (projected, shape))


def attention(draft: Draft, tensor: str, choose: Choose) -> str:
    """Scaled dot-product attention of two heads as in BERT; now and then two inputs differ."""
    width = draft.values[tensor].shape[-1]
    if width % 2:
        return tensor
    rows = draft.op("Reshape", (tensor, draft.const([-1, width], "int32", "rows")))
    other = rows if choose(5) else draft.op("Neg", (rows,))
    shape = draft.op("Shape", (tensor,), dtypes={"out_type": "int32"})
    sizes = [_element(draft, shape, index) for index in (0, 1)]
    two, half = draft.const(2, "int32"), draft.const(width // 2, "int32")
    split = draft.op("Pack", (*sizes, two, half), axis=0)
    perm = draft.const([0, 2, 1, 3], "int32", "perm")
    heads: List[str] = []
    for source in (rows, other, rows):
        projected = _project(draft, source, width, choose)
        heads.append(draft.op("Transpose", (draft.op("Reshape", (projected, split)), perm)))
    query, key, value = heads
    scores = draft.op("BatchMatMulV2", (query, key), adj_x=False, adj_y=True)
    scale = draft.const(1 / math.sqrt(width / 2), name="scale")
    kind = choose(4)
    if kind == 1:
        scores = draft.op("RealDiv", (scores, draft.const(math.sqrt(width / 2))))
    elif kind == 2:
        scores = draft.op("Mul", (scores, draft.op("Abs", (scores,))))
    else:
        scores = draft.op("Mul", (scores, scale))
    if choose(2):
        scores = dropout(draft, draft.op("Softmax", (scores,)), choose)
    else:
        scores = draft.op("Softmax", (scores,))
    context = draft.op("BatchMatMulV2", (scores, value), adj_x=False, adj_y=False)
    context = draft.op("Transpose", (context, perm))
    return draft.op("Reshape", (context, shape))


def dropout(draft: Draft, tensor: str, choose: Choose) -> str:
    """Dropout as TensorFlow 1.15 (choice 0) and older ones write it.

    Nothing else reads what is inside: it is random, or about to be fed.
    """
    before = len(draft.values)
    shape = draft.op("Shape", (tensor,), dtypes={"out_type": "int32"})
    uniform = draft.op(
        "RandomUniform", (shape,), dtypes={"dtype": "float32"}, seed=choose(9), seed2=choose(9)
    )
    one = draft.const(1.0)
    if choose(2):
        keep = draft.const(0.75, name="keep_prob")
        mask = draft.op("Floor", (draft.op("Add", (keep, uniform)),))
        result = draft.op("Mul", (draft.op("RealDiv", (tensor, keep)), mask))
    else:
        rate = draft.const(0.25, name="rate")
        scale = draft.op("RealDiv", (one, draft.op("Sub", (one, rate))))
        kept = draft.op("GreaterEqual", (uniform, rate))
        mask = draft.op("Cast", (kept,), dtypes={"DstT": "float32"})
        result = draft.op("Mul", (draft.op("Mul", (tensor, scale)), mask))
    draft.hide(list(draft.values)[before:-1])
    draft.values[result] = draft.values[tensor]
    return result


def first_token(draft: Draft, tensor: str, choose: Choose) -> str:
    """The first (or another) token's vector, a dense layer on it, and back to rank 3."""
    width = draft.values[tensor].shape[-1]
    place = 0 if choose(4) else -1
    if choose(2):
        zeros = draft.const([0, place], "int32", "begin")
        ends = draft.const([0, place + 1], "int32", "end")
        ones = draft.const([1, 1], "int32", "strides")
        row = draft.op(
            "StridedSlice",
            (tensor, zeros, ends, ones),
            begin_mask=1,
            end_mask=1,
            shrink_axis_mask=2,
        )
    else:
        last = draft.values[tensor].shape[1] - 1
        index = draft.const(0 if place == 0 else last, "int32", "index")
        row = draft.op("GatherV2", (tensor, index, draft.const(1, "int32", "axis")), batch_dims=0)
    projected = draft.op("Tanh", (_project(draft, row, width, choose),))
    return draft.op("ExpandDims", (projected, draft.const(1, "int32", "dim")))


def mask_scores(draft: Draft, tensor: str, choose: Choose) -> str:
    """What moves the scores of masked tokens, and the mean over those that aren't masked."""
    if "mask" not in draft.values or choose(2):
        return tensor
    floats = draft.op("Cast", ("mask",), dtypes={"DstT": "float32"})
    column = draft.op("ExpandDims", (floats, draft.const(-1, "int32", "dim")))
    if draft.values[column].shape[:2] != draft.values[tensor].shape[:2]:
        return column
    masked = draft.op("Mul", (tensor, column))
    inverse = draft.op("Sub", (draft.const(1.0), column))
    return draft.op("AddV2", (masked, draft.op("Mul", (inverse, draft.const(-100.0)))))


def embedding(draft: Draft, tensor: str, choose: Choose) -> str:
    """Rows of a table at the ids, read straight or as a product with a one-hot matrix."""
    if "ids" not in draft.values:
        return tensor
    table = draft.const(np.arange(12).reshape(3, 4) / 4, name="table")
    if choose(2):
        zero = draft.const(0, "int32", "axis")
        return draft.op("GatherV2", (table, "ids", zero), batch_dims=0)
    flat = draft.op("Reshape", ("ids", draft.const([-1], "int32", "flat")))
    on, off = draft.const(1.0), draft.const(0.0)
    hot = draft.op("OneHot", (flat, draft.const(3, "int32", "depth"), on, off), axis=-1)
    rows = draft.op("MatMul", (hot, table), transpose_a=False, transpose_b=False)
    shape = draft.op("Shape", ("ids",), dtypes={"out_type": "int32"})
    sizes = [_element(draft, shape, index) for index in (0, 1)]
    target = draft.op("Pack", (*sizes, draft.const(4, "int32")), axis=0)
    return draft.op("Reshape", (rows, target))


def conditional(draft: Draft, tensor: str, choose: Choose) -> str:
    """tf.cond on a constant, as TensorFlow 1 writes it: one of two functions of the tensor."""
    taken = choose(2)
    predicate = draft.const(bool(taken), "bool", "predicate")
    switch = draft.op("Switch", (tensor, predicate))
    draft.values[switch + ":1"] = draft.values[switch] = draft.values[tensor]
    ends = (draft.op("Neg", (switch,)), draft.op("Tanh", (switch + ":1",)))
    merge = draft.op("Merge", ends)
    draft.values[merge] = draft.values[ends[taken]]
    # What is inside may be dead, so nothing else is to read it.
    draft.hide((switch, switch + ":1", *ends))
    return merge


def _element(draft: Draft, shape: str, index: int) -> str:
    bounds = [draft.const([value], "int32", "bound") for value in (index, index + 1, 1)]
    return draft.op("StridedSlice", (shape, *bounds), shrink_axis_mask=1)


def _vector(draft: Draft, width: int, start: float) -> str:
    return draft.const(np.linspace(start, 1.0, width), name="vector")


def _project(draft: Draft, rows: str, width: int, choose: Choose) -> str:
    seed = np.random.RandomState(choose(99))
    kernel = draft.const(seed.standard_normal((width, width)) / 2, name="kernel")
    product = draft.op("MatMul", (rows, kernel), transpose_a=False, transpose_b=False)
    if not choose(5):
        return product
    return draft.op("BiasAdd", (product, _vector(draft, width, 0.5)), data_format=b"NHWC")


MOTIFS: Tuple[Motif, ...] = (
    attention,
    dense,
    dropout,
    embedding,
    first_token,
    gelu,
    layer_norm,
    mask_scores,
    conditional,
)
