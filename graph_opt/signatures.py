"""Which attribute types each input and output of an operation, as in TensorFlow's op registry.

The table is what lets a pass change a dtype and know what else must change with it: two ends of an
edge always agree, and so do all slots of a node that share an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple, Union

import numpy as np

from bert_serving.graph_opt.errors import UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node, output_index

__all__ = [
    "PASS_THROUGH",
    "SIGNATURES",
    "Signature",
    "input_slots",
    "output_dtypes",
    "output_slots",
    "tensor_dtypes",
]

# Operations whose output is their input.
PASS_THROUGH = ("Identity", "PreventGradient", "Snapshot", "StopGradient")

BOOL = np.dtype("bool")
# Either the name of an attribute, or a dtype that never varies.
Slot = Union[str, np.dtype]


@dataclass(frozen=True)
class Signature:
    """Slots of the inputs and of the outputs; ``repeats`` if the first input stands for several."""

    inputs: Tuple[Slot, ...]
    outputs: Tuple[Slot, ...] = ("T",)
    repeats: bool = False


def _table() -> Dict[str, Signature]:
    source = Signature((), ("dtype",))
    unary = Signature(("T",))
    binary = Signature(("T", "T"))
    compare = Signature(("T", "T"), (BOOL,))
    reduction = Signature(("T", "Tidx"))
    table = {
        "Cast": Signature(("SrcT",), ("DstT",)),
        "ConcatV2": Signature(("T", "Tidx"), repeats=True),
        "ExpandDims": Signature(("T", "Tdim")),
        "GatherNd": Signature(("Tparams", "Tindices"), ("Tparams",)),
        "GatherV2": Signature(("Tparams", "Tindices", "Taxis"), ("Tparams",)),
        "NoOp": Signature((), ()),
        "Pack": Signature(("T",), repeats=True),
        "RandomUniform": Signature(("T",), ("dtype",)),
        "Range": Signature(("Tidx", "Tidx", "Tidx"), ("Tidx",)),
        "Reshape": Signature(("T", "Tshape")),
        "SelectV2": Signature((BOOL, "T", "T")),
        "Shape": Signature(("T",), ("out_type",)),
        "Transpose": Signature(("T", "Tperm")),
    }
    table.update((op, source) for op in ("Const", "Placeholder", "VariableV2"))
    table.update((op, reduction) for op in ("Max", "Mean", "Sum"))
    table.update((op, compare) for op in ("Equal", "Greater", "GreaterEqual", "Less", "LessEqual"))
    elementwise = ("Erf", "Floor", "Relu", "Softmax", "Sqrt", "Square", "Tanh")
    table.update((op, unary) for op in elementwise + PASS_THROUGH)
    table.update(
        (op, binary)
        for op in (
            "Add",
            "AddV2",
            "BatchMatMulV2",
            "BiasAdd",
            "MatMul",
            "Maximum",
            "Minimum",
            "Mul",
            "Pow",
            "RealDiv",
            "Sub",
        )
    )
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
    if signature.repeats:
        slots = slots[:1] * (len(tensors) - len(slots) + 1) + slots[1:]
    return list(zip(tensors, slots))


def output_slots(node: Node) -> Tuple[Slot, ...]:
    """The slot of each output of a node."""
    return _signature(node).outputs


def output_dtypes(op: str, attrs: Mapping[str, Any]) -> Tuple[np.dtype, ...]:
    """The dtype of each output of an operation with these attributes."""
    slots = SIGNATURES[op].outputs
    return tuple(np.dtype(attrs[slot]) if isinstance(slot, str) else slot for slot in slots)


def tensor_dtypes(graph: Graph) -> Dict[str, np.dtype]:
    """Tensor name, written as its readers write it -> dtype.

    Raises:
        UnsupportedOp: an operation has no signature.
    """
    dtypes: Dict[str, np.dtype] = {}
    wanted = [tensor for node in graph for tensor in node.data_inputs]
    for tensor in wanted + list(graph.outputs) + list(graph.nodes):
        if tensor in dtypes:
            continue
        node = graph[tensor]
        _signature(node)
        outputs = output_dtypes(node.op, node.attrs)
        if outputs:
            dtypes[tensor] = outputs[output_index(tensor)]
    return dtypes
