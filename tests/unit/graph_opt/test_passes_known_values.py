from __future__ import annotations

import numpy as np
import pytest

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.known_values import KnownValues

FLOAT, BOOL = np.dtype("float32"), np.dtype("bool")


def const(name, value, dtype=FLOAT):
    return Node(name, "Const", (), {"dtype": dtype, "value": np.array(value, dtype)})


def known(*nodes, inputs=None):
    return KnownValues(Graph(nodes, [], inputs=inputs))


def test_arithmetic_on_constants():
    values = known(
        Node("keep", "Sub", ("one", "rate")), const("one", 1), const("rate", 0.25), const("two", 2)
    )
    assert values.scalar("keep") == values.scalar("keep:0") == 0.75
    assert values.get("two").dtype == FLOAT


def test_what_is_fed_or_random_is_not_known():
    values = known(
        const("c", [3]),
        Node("x", "Placeholder"),
        Node("sum", "Add", ("x", "c")),
        Node("r", "RandomUniform", ("c",), {"dtype": FLOAT}),
        Node("w", "NeverHeardOf", ("c",)),
    )
    assert [values.get(name) for name in ("x", "sum", "r", "w")] == [None] * 4


def test_a_default_is_known_unless_it_is_an_input():
    nodes = [const("c", 3), Node("p", "PlaceholderWithDefault", ("c",))]
    assert known(*nodes).scalar("p") == 3
    assert known(*nodes, inputs=["x"]).scalar("p") == 3
    assert known(*nodes, inputs=["p"]).get("p") is None


def test_large_constants_are_not_worth_it():
    values = known(const("weights", np.zeros(1000)), const("c", 3))
    assert values.get("weights") is None
    assert values.get("c") is not None


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_scalars_are_single_numbers(shape):
    values = known(const("one", np.full(shape, 2)), const("two", [1, 2]))
    assert values.scalar("one") == 2
    assert values.scalar("two") is None


def test_strings_are_no_numbers():
    assert known(const("mode", b"train", np.dtype(object))).scalar("mode") is None


@pytest.mark.parametrize(("op", "decisive"), [("LogicalAnd", False), ("LogicalOr", True)])
def test_one_operand_may_decide(op, decisive):
    nodes = [Node("x", "Placeholder"), const("c", decisive, BOOL), const("d", not decisive, BOOL)]
    values = known(
        *nodes,
        Node("a", op, ("x", "c")),
        Node("b", op, ("c", "x")),
        Node("open", op, ("x", "d")),
        Node("both", op, ("d", "d")),
        Node("not", "LogicalNot", ("a",)),
    )
    assert [values.scalar(name) for name in ("a", "b")] == [decisive] * 2
    assert values.get("open") is None
    assert values.scalar("both") == (not decisive)
    assert values.scalar("not") == (not decisive)


def test_an_identity_of_two_tensors_has_no_one_value():
    nodes = [const("a", 1), const("b", 2)]
    values = known(*nodes, Node("n", "IdentityN", ("a", "b")), Node("m", "IdentityN", ("a", "a")))
    assert values.get("n:1") is None
    assert values.scalar("m:1") == 1


def test_a_loop_is_no_obstacle():
    values = known(
        const("c", 1), Node("a", "Add", ("b", "c")), Node("b", "Merge", ("c", "a")), const("d", 2)
    )
    assert values.get("a") is None
    assert values.scalar("d") == 2


def test_a_chain_may_be_long():
    nodes = [const("n0", 1)]
    nodes += [Node("n%d" % i, "Identity", ("n%d" % (i - 1),)) for i in range(1, 5000)]
    assert known(*nodes).scalar("n4999") == 1
