from __future__ import annotations

import numpy as np
import pytest

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.learning_phase import without_learning_phase

BOOL = np.dtype("bool")


def result_of(name, dtype=BOOL, shape=(), inputs=None):
    node = Node(name, "Placeholder", (), {"dtype": np.dtype(dtype), "shape": shape})
    return without_learning_phase(Graph([node], [name], inputs=inputs)).graph[name]


@pytest.mark.parametrize("name", ["training", "Training_2", "a/b/is_training", "learning_phase"])
@pytest.mark.parametrize(("dtype", "shape"), [("bool", ()), ("bool", None), ("int32", ())])
def test_a_learning_phase_says_no(name, dtype, shape):
    constant = result_of(name, dtype, shape)
    assert constant.op == "Const"
    assert constant.attrs["value"].dtype == constant.attrs["dtype"] == np.dtype(dtype)
    assert constant.attrs["value"].shape == ()
    assert not constant.attrs["value"]


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("training/x", "bool", ()),
        ("retraining", "bool", ()),
        ("training_rate", "bool", ()),
        ("training", "bool", (None,)),
        ("training", "int32", None),
        ("training", "float32", ()),
        ("training", object, ()),
    ],
)
def test_anything_else_stays(name, dtype, shape):
    assert result_of(name, dtype, shape).op == "Placeholder"


def test_a_declared_input_stays():
    assert result_of("training", inputs=["training"]).op == "Placeholder"
    assert result_of("training", inputs=["x"]).op == "Const"


@pytest.mark.parametrize("default", [True, False])
def test_a_default_that_says_training_is_told_of(default):
    nodes = [
        Node("c", "Const", (), {"dtype": BOOL, "value": np.array(default)}),
        Node("training", "PlaceholderWithDefault", ("c",), {"dtype": BOOL, "shape": ()}),
    ]
    graph, notes = without_learning_phase(Graph(nodes, ["training"]))
    assert not graph["training"].attrs["value"]
    assert len(notes) == int(default)
