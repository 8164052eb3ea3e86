from __future__ import annotations

import numpy as np
import pytest
from unit.graph_opt.support import random_source

from bert_serving.graph_opt.errors import UnsupportedOp
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.check_operations import check_operations
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize

X = Node("x", "Placeholder", (), {"dtype": np.dtype("float32"), "shape": (None,)})


def test_an_unknown_operation_is_named():
    graph = Graph([X, Node("odd", "DecodePng", ("x",))], ["odd"])
    with pytest.raises(UnsupportedOp, match=r"node 'odd': the optimizer .* DecodePng"):
        check_operations(graph)
    with pytest.raises(UnsupportedOp, match="odd"):
        optimize(graph)


def test_a_loop_is_named_rather_than_called_a_cycle():
    nodes = [X, Node("enter", "Enter", ("x",)), Node("merge", "Merge", ("enter", "next"))]
    nodes.append(Node("next", "NextIteration", ("merge",)))
    with pytest.raises(UnsupportedOp, match="'enter'"):
        check_operations(Graph(nodes, ["merge"]))


def test_what_the_outputs_do_not_need_may_be_unknown():
    graph = Graph([X, Node("odd", "DecodePng", ("x",)), Node("y", "Relu", ("x",), X.attrs)], ["y"])
    graph = graph.replaced(
        nodes=[
            node.with_attrs(T=np.dtype("float32")) if node.op == "Relu" else node for node in graph
        ]
    )
    assert "odd" not in optimize(graph)[0]


def test_a_graph_of_known_operations_stays():
    graph = build(random_source(), GraphOptions())
    assert check_operations(graph).graph is graph
