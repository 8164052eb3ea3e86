"""Keep large weights as 8-bit integers, a quarter of float32's bytes.

Before::

    MatMul(x, Const kernel)                  GatherV2(Const table, ids, 0)

After, where weights are only stored so (``arithmetic=False``)::

    MatMul(x, Cast(Const int8) * Const scales)
    Cast(GatherV2(Const int8, ids, 0)) * GatherV2(Const scales, ids, 0)

and where products are computed in integers (``arithmetic=True``)::

    DynamicQuantMatMul(x * Const balance, Const int8, Const scales)

with the table as above; ``balance`` is there if x is narrower than the result. Products are
quantized with a scale for each output channel, tables with one for each row (``quantization.py``).
Biases and layer normalization stay in float32.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.matching import Edit, constant_of, source
from bert_serving.graph_opt.passes.result import Rewritten
from bert_serving.graph_opt.quantization import (
    DYNAMIC_QUANT_MAT_MUL,
    Quantized,
    balance,
    quantize_columns,
    quantize_rows,
    quantize_weights,
)

__all__ = ["MINIMUM_SIZE", "quantize"]

FLOAT = np.dtype("float32")
INT8 = np.dtype("int8")

#: Elements below which a weight isn't worth it, e.g. a classifier's few columns.
MINIMUM_SIZE = 1 << 14

# The attribute that says whether the left, and whether the right operand is transposed.
_PRODUCTS = {"MatMul": ("transpose_a", "transpose_b"), "BatchMatMulV2": ("adj_x", "adj_y")}
_GATHERS = ("Gather", "GatherV2")
_SLICES = ("Slice", "StridedSlice")


def quantize(graph: Graph, arithmetic: bool = False, minimum_size: int = MINIMUM_SIZE) -> Rewritten:
    """The graph with every large float32 weight as int8.

    ``arithmetic`` is for targets that know DynamicQuantMatMul. Weights of fewer than
    ``minimum_size`` elements stay as they are.
    """
    work = _Quantizing(graph, minimum_size)
    for node in graph:
        if node.op in _GATHERS:
            work.gather(node)
        elif node.op in _PRODUCTS and arithmetic:
            work.product(node)
    for node in graph:
        if node.op == "Const":
            work.store(node)
    return work.result()


class _Quantizing:
    """A graph on its way."""

    def __init__(self, graph: Graph, minimum_size: int) -> None:
        self._graph = graph
        self._minimum = minimum_size
        self._edit = Edit(graph)
        self._readers = graph.consumers()
        self._done: Set[str] = set()  # nodes that read their weights no more
        self._constants: Dict[Tuple[str, str], Tuple[str, str]] = {}
        self._notes: List[str] = []

    def result(self) -> Rewritten:
        graph = self._edit.graph() if self._edit.touched else self._graph
        return Rewritten(graph, tuple(self._notes))

    def gather(self, node: Node) -> None:
        """Rows of a table: gather integers and scales, multiply what was gathered."""
        table = self._weight(node.data_inputs[0], rank=2)
        if table is None or not _takes_rows(self._graph, node):
            return
        values, scales = self._quantized(node.name, table, "rows")
        rest = node.inputs[1:]
        rows, factors = [
            self._edit.add(
                node.name,
                node.op,
                (tensor,) + rest,
                dict(node.attrs, Tparams=dtype),
                "%s/%s" % (node.name, kind),
            )
            for tensor, dtype, kind in ((values, INT8, "int8"), (scales, FLOAT, "scale"))
        ]
        floats = self._cast(node.name, rows, node.name + "/float32")
        self._edit.replace(Node(node.name, "Mul", (floats, factors), {"T": FLOAT}))
        self._done.add(node.name)

    def product(self, node: Node) -> None:
        """A product with constant weights on its right side."""
        left, right = (bool(node.attrs.get(flag)) for flag in _PRODUCTS[node.op])
        weight = self._weight(node.data_inputs[1], rank=2)
        if weight is None:
            if node.op == "MatMul" and constant_of(self._graph, node.data_inputs[1]) is None:
                self._notes.append("%s: computes in float32, its weights vary" % node.name)
            return
        if left:
            self._notes.append("%s: computes in float32, its input is transposed" % node.name)
            return
        x = node.data_inputs[0]
        if right:
            weight = _Weight(weight.name + "/transposed", np.ascontiguousarray(weight.value.T))
        if weight.value.shape[0] < weight.value.shape[1]:
            # Where the input is narrower than the result, another pass over it costs little.
            factors = balance(weight.value)
            weight = _Weight(weight.name + "/balanced", weight.value * factors[:, None])
            divisors = self._edit.constant(node.name, 1 / factors, FLOAT, node.name + "/balance")
            x = self._edit.add(
                node.name, "Mul", (x, divisors), {"T": FLOAT}, node.name + "/balanced"
            )
        values, scales = self._quantized(node.name, weight, "columns")
        control = tuple(name for name in node.inputs if name.startswith("^"))
        inputs = (x, values, scales) + control
        self._edit.replace(Node(node.name, DYNAMIC_QUANT_MAT_MUL, inputs, {}))
        self._done.add(node.name)

    def store(self, node: Node) -> None:
        """Let who still reads a large weight read the product of integers and scales."""
        readers = self._remaining(node.name)
        if not readers and node.name not in self._graph.outputs:
            return
        value = np.asarray(node.attrs["value"])
        if value.dtype != FLOAT or value.ndim < 2:
            return
        reason = self._unfit(value)
        if reason:
            self._notes.append("%s: stays in float32, %s" % (node.name, reason))
            return
        by_rows = value.ndim == 2 and all(_reads_rows(reader) for reader in readers)
        kind = "rows" if by_rows else "last"
        values, scales = self._quantized(node.name, _Weight(node.name, value), kind)
        floats = self._cast(node.name, values, node.name + "/float32")
        whole = self._edit.add(
            node.name, "Mul", (floats, scales), {"T": FLOAT}, node.name + "/scaled"
        )
        self._edit.redirect(node.name, whole, FLOAT)

    def _remaining(self, name: str) -> List[Node]:
        """Who reads a constant, itself or through identities, and isn't converted yet."""
        found: List[Node] = []
        waiting = [name]
        while waiting:
            for reader in self._readers[waiting.pop()]:
                if source(self._graph, reader.name) != reader.name:
                    waiting.append(reader.name)
                elif reader.name not in self._done:
                    found.append(reader)
        return found

    def _weight(self, tensor: str, rank: int) -> Optional[_Weight]:
        """A tensor that is a large weight; None otherwise."""
        value = constant_of(self._graph, tensor)
        if value is None or value.dtype != FLOAT or value.ndim != rank or self._unfit(value):
            return None
        return _Weight(source(self._graph, tensor), value)

    def _unfit(self, value: np.ndarray) -> Optional[str]:
        """Why a weight can't or needn't be quantized."""
        if value.size < self._minimum:
            return "%s is small" % "x".join(map(str, value.shape))
        # The sum of a float32 array can overflow though its elements don't: look at these.
        if not np.isfinite([value.min(), value.max()]).all():
            return "some of it isn't finite"
        return None

    def _quantized(self, anchor: str, weight: _Weight, kind: str) -> Tuple[str, str]:
        """The constants for a weight, values and scales, made once for each kind."""
        key = (weight.name, kind)
        if key not in self._constants:
            values, scales = _convert(weight.value, kind)
            name = "%s/%s" % (weight.name, kind)
            self._constants[key] = (
                self._edit.constant(anchor, values, INT8, name + "/int8"),
                self._edit.constant(anchor, scales, FLOAT, name + "/scale"),
            )
        return self._constants[key]

    def _cast(self, anchor: str, tensor: str, name: str) -> str:
        return self._edit.add(anchor, "Cast", (tensor,), {"SrcT": INT8, "DstT": FLOAT}, name)


class _Weight(NamedTuple):
    """A Const's name and value."""

    name: str
    value: np.ndarray


def _convert(value: np.ndarray, kind: str) -> Quantized:
    if kind == "rows":
        return quantize_rows(value)
    return quantize_columns(value) if kind == "columns" else quantize_weights(value)


def _takes_rows(graph: Graph, node: Node) -> bool:
    """Whether a Gather reads along axis 0, as for embeddings."""
    if node.op == "Gather":
        return True
    axis = constant_of(graph, node.data_inputs[2])
    return axis is not None and int(axis) == 0 and not node.attrs.get("batch_dims")


def _reads_rows(reader: Node) -> bool:
    """Whether each row of a weight is its own channel for a reader."""
    if reader.op in _PRODUCTS:
        return bool(reader.attrs.get(_PRODUCTS[reader.op][1]))
    return reader.op in _SLICES + _GATHERS
