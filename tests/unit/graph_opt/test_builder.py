from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.support import held, scalar_builder

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError, UnsupportedOp


def test_names_are_scoped_and_unique():
    builder, constant = scalar_builder()
    with builder.scope("layer_0"):
        with builder.scope("dense"):
            first = builder.op("AddV2", ("x", constant))
            second = builder.op("AddV2", ("x", constant))
        third = builder.op("AddV2", ("x", constant), "sum")
    assert [first, second, third] == [
        "layer_0/dense/AddV2",
        "layer_0/dense/AddV2_1",
        "layer_0/sum",
    ]


def test_dtype_attributes_are_filled_in():
    builder, _ = scalar_builder()
    axis = builder.constant([0], "int64")
    graph = builder.build(builder.op("Mean", ("x", axis), "mean", keep_dims=True))
    assert graph["mean"].attrs == {
        "T": np.dtype("float32"),
        "Tidx": np.dtype("int64"),
        "keep_dims": True,
    }


def test_inputs_that_disagree_are_refused():
    builder, _ = scalar_builder()
    whole = builder.constant(1, "int64", "whole")
    with pytest.raises(GraphError, match="input 'whole' is int64, not float32"):
        builder.op("AddV2", ("x", whole))


def test_an_unknown_operation_is_refused():
    builder, _ = scalar_builder()
    with pytest.raises(UnsupportedOp, match="Fancy"):
        builder.op("Fancy", ("x",))


def test_a_variable_is_added_once_with_its_read():
    builder = GraphBuilder()
    variable = held("dense/kernel", np.ones((2, 2), np.float32))
    reads = [builder.variable(variable) for _ in range(2)]
    graph = builder.build(reads[0])
    assert reads == ["dense/kernel/read"] * 2
    assert [(node.name, node.op) for node in graph] == [
        ("dense/kernel", "VariableV2"),
        ("dense/kernel/read", "Identity"),
    ]
    assert graph.variables == {"dense/kernel": variable}


def test_two_variables_of_one_name_are_refused():
    builder, _ = scalar_builder()
    with pytest.raises(GraphError, match="two nodes are named 'x'"):
        builder.variable(held("x", np.ones(1, np.float32)))


def test_constants_are_copied_and_read_only():
    array = np.zeros(2, np.float32)
    builder = GraphBuilder()
    graph = builder.build(builder.constant(array, "float32"))
    array[0] = 1
    value = graph["Const"].attrs["value"]
    assert value[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 1
