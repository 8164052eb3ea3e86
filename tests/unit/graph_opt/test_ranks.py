from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.op_examples import EXAMPLES, inputs
from unit.graph_opt.support import held, random_source

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.heads import HEADS
from bert_serving.graph_opt.pipeline import GraphOptions, build
from bert_serving.graph_opt.pooling import POOLING_STRATEGIES
from bert_serving.graph_opt.ranks import tensor_ranks

FLOAT, INT = np.dtype("float32"), np.dtype("int32")
# The sizes that would tell aren't followed.
UNKNOWN = {"Squeeze, all"}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_rank_in_the_examples_is_found(name):
    draft = inputs()
    found = EXAMPLES[name](draft)
    outputs = [found] if isinstance(found, str) else found
    ranks = tensor_ranks(draft.graph(outputs))
    unknown = set()
    for tensor, value in draft.values.items():
        if tensor in ranks:
            assert ranks[tensor] == value.ndim, tensor
        else:
            unknown.add(tensor)
    assert unknown == ({"Squeeze"} if name in UNKNOWN else set())


@pytest.mark.parametrize("strategy", [one for one in POOLING_STRATEGIES if one not in HEADS])
def test_every_rank_in_a_model_is_found(strategy):
    graph = build(random_source(), GraphOptions(strategy))
    assert {node.name for node in graph} <= set(tensor_ranks(graph))


def test_resource_variables():
    variable = held("v", np.zeros((5, 2), np.float32))
    handle = {"dtype": FLOAT, "shape": (5, 2)}
    nodes = [
        Node("v", "VarHandleOp", (), handle),
        Node("same", "Identity", ("v",), {"T": FLOAT}),
        Node("read", "ReadVariableOp", ("same",), {"dtype": FLOAT}),
        Node("ids", "Placeholder", (), {"dtype": INT, "shape": (None, None)}),
        Node("rows", "ResourceGather", ("v", "ids"), {"dtype": FLOAT, "Tindices": INT}),
    ]
    ranks = tensor_ranks(Graph(nodes, ["read", "rows"], {"v": variable}))
    assert (ranks["read"], ranks["rows"], ranks["rows:0"]) == (2, 3, 3)


def test_what_cannot_be_told_is_left_out():
    nodes = [
        Node("any", "Placeholder", (), {"dtype": FLOAT, "shape": None}),
        Node("shape", "Placeholder", (), {"dtype": INT, "shape": (None,)}),
        Node("four", "Placeholder", (), {"dtype": INT, "shape": (4,)}),
        Node("unknown", "MyOp", ("any",)),
        Node("relu", "Relu", ("any",), {"T": FLOAT}),
        Node("after", "Add", ("unknown", "four"), {"T": FLOAT}),
        Node("shaped", "Reshape", ("any", "shape"), {"T": FLOAT, "Tshape": INT}),
        Node("known", "Reshape", ("unknown", "four"), {"T": FLOAT, "Tshape": INT}),
        Node("quiet", "NoOp", ("^any",)),
    ]
    ranks = tensor_ranks(Graph(nodes, ["known"]))
    assert ranks == {"shape": 1, "shape:0": 1, "four": 1, "four:0": 1, "known": 4, "known:0": 4}
