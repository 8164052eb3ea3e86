from __future__ import annotations

import numpy as np
import pytest

from bert_serving.graph_opt.dtypes import RESOURCE
from bert_serving.graph_opt.errors import GraphError, UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.kernels import KERNELS
from bert_serving.graph_opt.signatures import (
    SIGNATURES,
    VARIABLE_OPS,
    input_slots,
    output_dtypes,
    output_slots,
    tensor_dtypes,
)
from bert_serving.graph_opt.targets.onnx_ops import EMITTERS

FLOAT, INT, LONG = np.dtype("float32"), np.dtype("int32"), np.dtype("int64")
BOOL, STRING = np.dtype("bool"), np.dtype(object)


def test_every_kernel_and_emitter_has_a_signature():
    without = {"Merge", "Placeholder", "Switch", *VARIABLE_OPS}
    assert set(KERNELS) | without == set(SIGNATURES)
    assert set(EMITTERS) <= set(SIGNATURES)


@pytest.mark.parametrize(
    ("node", "slots"),
    [
        (Node("n", "ConcatV2", ("a", "b", "c", "axis")), ["T", "T", "T", "Tidx"]),
        (Node("n", "Concat", ("axis", "a", "b")), [INT, "T", "T"]),
        (Node("n", "Pack", ("a", "b", "^c")), ["T", "T"]),
        (Node("n", "SplitV", ("a", "sizes", "axis"), {"num_split": 2}), ["T", "Tlen", INT]),
        (Node("n", "IdentityN", ("a", "b"), {"T": (FLOAT, INT)}), [FLOAT, INT]),
        (Node("n", "Assert", ("a", "b"), {"T": (STRING,)}), [BOOL, STRING]),
        (Node("n", "ReadVariableOp", ("a",)), [RESOURCE]),
    ],
    ids=lambda value: getattr(value, "op", ""),
)
def test_inputs(node, slots):
    assert input_slots(node) == list(zip(node.data_inputs, slots))


@pytest.mark.parametrize(
    ("node", "slots"),
    [
        (Node("n", "Split", ("axis", "a"), {"num_split": 3}), ("T", "T", "T")),
        (Node("n", "Unpack", ("a",), {"num": 0}), ()),
        (Node("n", "IdentityN", ("a", "b"), {"T": (FLOAT, INT)}), (FLOAT, INT)),
        (Node("n", "Assert", ("a", "b"), {"T": (STRING,)}), ()),
        (Node("n", "Merge", ("a", "b")), ("T", INT)),
    ],
    ids=lambda value: getattr(value, "op", ""),
)
def test_outputs(node, slots):
    assert output_slots(node) == slots


def test_attributes_that_a_graph_leaves_out_have_their_defaults():
    assert output_dtypes("Shape", {"T": FLOAT}) == (INT,)
    assert output_dtypes("ArgMax", {"T": FLOAT}) == (LONG,)
    assert output_dtypes("Range", {}) == (INT,)


def test_the_dtype_of_every_tensor():
    nodes = [
        Node("v", "VarHandleOp", (), {"dtype": FLOAT, "shape": (2,)}),
        Node("read", "ReadVariableOp", ("v",), {"dtype": FLOAT}),
        Node("n", "IdentityN", ("read", "read:0"), {"T": (FLOAT, FLOAT)}),
        Node("top", "Shape", ("n:1",), {"T": FLOAT, "out_type": LONG}),
        Node("none", "NoOp", ("^top",)),
    ]
    assert tensor_dtypes(Graph(nodes, ["top:0"])) == {
        "v": RESOURCE,
        "read": FLOAT,
        "read:0": FLOAT,
        "n": FLOAT,
        "n:1": FLOAT,
        "top": LONG,
        "top:0": LONG,
    }


def test_what_has_no_dtype():
    with pytest.raises(UnsupportedOp, match=r"node 'a': the table of signatures .* Lookup"):
        tensor_dtypes(Graph([Node("a", "Lookup")], ["a"]))
    constant = Node("c", "Const", (), {"dtype": FLOAT, "value": np.float32(1)})
    with pytest.raises(GraphError, match="node 'c' has no output 1"):
        tensor_dtypes(Graph([constant], ["c:1"]))
