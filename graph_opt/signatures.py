"""Which attribute types each input and output of an operation, as in TensorFlow's op registry.

The table is what lets a pass change a dtype and know what else must change with it: two ends of an
edge always agree, and so do all slots of a node that share an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from bert_serving.graph_opt.dtypes import RESOURCE, Opaque
from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node, output_index

__all__ = [
    "DEFAULT_DTYPES",
    "PASS_THROUGH",
    "SIGNATURES",
    "VARIABLE_OPS",
    "Signature",
    "Slot",
    "check_inputs",
    "input_slots",
    "output_dtypes",
    "output_slots",
    "tensor_dtypes",
]

# Operations whose output is their input.
PASS_THROUGH = ("Identity", "PreventGradient", "Snapshot", "StopGradient")
# Operations that stand for a trained tensor: the last one for a handle of it.
VARIABLE_OPS = ("Variable", "VariableV2", "VarHandleOp")

BOOL = np.dtype("bool")
FLOAT = np.dtype("float32")
INT8 = np.dtype("int8")
SHORT = np.dtype("int32")
# What an attribute is where a graph leaves it out, as GraphDefs may: the op registry's defaults.
DEFAULT_DTYPES: Mapping[str, np.dtype] = {
    "Index": SHORT,
    "TI": np.dtype("int64"),
    "Tdim": SHORT,
    "Tidx": SHORT,
    "Tlen": np.dtype("int64"),
    "Tmultiples": SHORT,
    "Tpaddings": SHORT,
    "Tperm": SHORT,
    "Tshape": SHORT,
    "index_type": SHORT,
    "out_type": SHORT,
    "output_type": np.dtype("int64"),
}
# Either the name of an attribute, or a dtype that never varies.
Slot = Union[str, np.dtype, Opaque]


@dataclass(frozen=True)
class Signature:
    """Slots of the inputs and of the outputs.

    ``repeats``: one input slot, that at index ``repeated``, stands for several inputs. ``count``:
    the attribute that says how many outputs the only output slot stands for. ``types``: the
    attribute that lists the dtypes of the inputs from index ``repeated`` on, and of the outputs, if
    there are any.
    """

    inputs: Tuple[Slot, ...]
    outputs: Tuple[Slot, ...] = ("T",)
    repeats: bool = False
    repeated: int = 0
    count: Optional[str] = None
    types: Optional[str] = None


# By operation. Families of operations that are alike are below.
_OWN = {
    "AddN": Signature(("T",), repeats=True),
    "ArgMax": Signature(("T", "Tidx"), ("output_type",)),
    "ArgMin": Signature(("T", "Tidx"), ("output_type",)),
    "Assert": Signature((BOOL,), (), repeated=1, types="T"),
    "BroadcastTo": Signature(("T", "Tidx")),
    "Cast": Signature(("SrcT",), ("DstT",)),
    "Concat": Signature((SHORT, "T"), repeats=True, repeated=1),
    "ConcatV2": Signature(("T", "Tidx"), repeats=True),
    "Cumsum": Signature(("T", "Tidx")),
    "DynamicQuantMatMul": Signature((FLOAT, INT8, FLOAT), (FLOAT,)),  # ours: quantization.py
    "Einsum": Signature(("T",), repeats=True),
    "ExpandDims": Signature(("T", "Tdim")),
    "Fill": Signature(("index_type", "T")),
    "Gather": Signature(("Tparams", "Tindices"), ("Tparams",)),
    "GatherNd": Signature(("Tparams", "Tindices"), ("Tparams",)),
    "GatherV2": Signature(("Tparams", "Tindices", "Taxis"), ("Tparams",)),
    "IdentityN": Signature((), types="T"),
    "LogicalNot": Signature((BOOL,), (BOOL,)),
    "Merge": Signature(("T",), ("T", SHORT), repeats=True),
    "NoOp": Signature((), ()),
    "OneHot": Signature(("TI", SHORT, "T", "T")),
    "Pack": Signature(("T",), repeats=True),
    "Pad": Signature(("T", "Tpaddings")),
    "PadV2": Signature(("T", "Tpaddings", "T")),
    "PlaceholderWithDefault": Signature(("dtype",), ("dtype",)),
    "RandomUniform": Signature(("T",), ("dtype",)),
    "Range": Signature(("Tidx", "Tidx", "Tidx"), ("Tidx",)),
    "Rank": Signature(("T",), (SHORT,)),
    "ReadVariableOp": Signature((RESOURCE,), ("dtype",)),
    "Reshape": Signature(("T", "Tshape")),
    "ResourceGather": Signature((RESOURCE, "Tindices"), ("dtype",)),
    "Select": Signature((BOOL, "T", "T")),
    "SelectV2": Signature((BOOL, "T", "T")),
    "Shape": Signature(("T",), ("out_type",)),
    "Size": Signature(("T",), ("out_type",)),
    "Slice": Signature(("T", "Index", "Index")),
    "Split": Signature((SHORT, "T"), count="num_split"),
    "SplitV": Signature(("T", "Tlen", SHORT), count="num_split"),
    "StatelessRandomUniform": Signature(("T", "Tseed"), ("dtype",)),
    "StridedSlice": Signature(("T", "Index", "Index", "Index")),
    "Switch": Signature(("T", BOOL), ("T", "T")),
    "Tile": Signature(("T", "Tmultiples")),
    "Transpose": Signature(("T", "Tperm")),
    "Unpack": Signature(("T",), count="num"),
    "VarHandleOp": Signature((), (RESOURCE,)),
}
_UNARY = (
    "Abs Ceil CheckNumerics Cos Elu EnsureShape Erf Erfc Exp Floor Inv LeakyRelu Log Log1p"
    " LogSoftmax Neg OnesLike Reciprocal Relu Relu6 Round Rsqrt Selu Sigmoid Sign Sin Softmax"
    " Softplus Sqrt Square Squeeze Tanh ZerosLike"
)
_BINARY = (
    "Add AddV2 BatchMatMul BatchMatMulV2 BiasAdd Div DivNoNan FloorDiv FloorMod MatMul Maximum"
    " Minimum Mul Pow RealDiv SquaredDifference Sub"
)


def _table() -> Dict[str, Signature]:
    table = dict(_OWN)
    families = (
        (Signature((), ("dtype",)), "Const Placeholder Variable VariableV2"),
        (Signature(("T", "Tidx")), "Max Mean Min Prod Sum"),
        (Signature((BOOL, "Tidx"), (BOOL,)), "All Any"),
        (Signature((BOOL, BOOL), (BOOL,)), "LogicalAnd LogicalOr"),
        (Signature(("T", "T"), (BOOL,)), "Equal Greater GreaterEqual Less LessEqual NotEqual"),
        (Signature(("T",)), _UNARY),
        (Signature(("T", "T")), _BINARY),
    )
    for signature, names in families:
        table.update((op, signature) for op in names.split())
    table.update((op, Signature(("T",))) for op in PASS_THROUGH)
    return table


SIGNATURES: Mapping[str, Signature] = _table()


def _signature(node: Node) -> Signature:
    try:
        return SIGNATURES[node.op]
    except KeyError:
        raise UnsupportedOp(node.name, node.op, "the table of signatures") from None


def input_slots(node: Node) -> List[Tuple[str, Slot]]:
    """Pairs of (tensor, slot) for each data input of a node.

    Raises:
        UnsupportedOp: the operation has no signature.
    """
    signature = _signature(node)
    slots = list(signature.inputs)
    tensors = node.data_inputs
    first = signature.repeated
    if signature.repeats:
        count = len(tensors) - len(slots) + 1
        slots = slots[:first] + slots[first : first + 1] * count + slots[first + 1 :]
    if signature.types is not None:
        slots += list(node.attrs.get(signature.types, ()))
    return list(zip(tensors, slots))


def check_inputs(node: Node) -> None:
    """Raise GraphError if an operation that has a signature has another number of inputs."""
    signature = SIGNATURES.get(node.op)
    if signature is None:
        return
    found, wanted = len(node.data_inputs), len(signature.inputs)
    if signature.types is not None:
        wanted += len(node.attrs.get(signature.types, ()))
    if found < wanted or (found > wanted and not signature.repeats):
        raise GraphError("%s %r has %d inputs, not %d" % (node.op, node.name, found, wanted))


def output_slots(node: Node) -> Tuple[Slot, ...]:
    """The slot of each output of a node.

    Raises:
        UnsupportedOp: the operation has no signature.
    """
    return _outputs(_signature(node), node.attrs)


def output_dtypes(op: str, attrs: Mapping[str, Any]) -> Tuple[Any, ...]:
    """The dtype of each output of an operation with these attributes.

    A dtype is a :class:`numpy.dtype`, or an :class:`Opaque` where numpy has none.
    """
    return tuple(_dtype(attrs, slot) for slot in _outputs(SIGNATURES[op], attrs))


def tensor_dtypes(graph: Graph) -> Dict[str, np.dtype]:
    """Tensor name, written as its readers write it -> dtype; every node's name -> that of output 0.

    Raises:
        UnsupportedOp: an operation has no signature.
        GraphError: a node is asked for an output that it doesn't have.
    """
    dtypes: Dict[str, np.dtype] = {}
    wanted = [tensor for node in graph for tensor in node.data_inputs]
    for tensor in wanted + list(graph.outputs) + list(graph.nodes):
        if tensor in dtypes:
            continue
        node = graph[tensor]
        _signature(node)
        outputs = output_dtypes(node.op, node.attrs)
        index = output_index(tensor)
        if index < len(outputs):
            dtypes[tensor] = outputs[index]
        elif tensor != node.name:
            raise GraphError("node %r has no output %d" % (node.name, index))
    return dtypes


def _outputs(signature: Signature, attrs: Mapping[str, Any]) -> Tuple[Slot, ...]:
    if signature.types is not None and signature.outputs:
        return tuple(attrs[signature.types])
    if signature.count is not None:
        return signature.outputs * int(attrs[signature.count])
    return signature.outputs


def _dtype(attrs: Mapping[str, Any], slot: Slot) -> Any:
    if not isinstance(slot, str):
        return slot
    value = attrs[slot] if slot in attrs else DEFAULT_DTYPES[slot]
    return value if isinstance(value, Opaque) else np.dtype(value)
