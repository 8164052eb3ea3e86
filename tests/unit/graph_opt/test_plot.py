"""Grouping a graph into blocks, and drawing them."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from unit.graph_opt.support import SMALL, random_source

from bert_serving.graph_opt.errors import GraphOptError, OptionError
from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.outline import outline
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.plot import Drawing, check_plot, dot_text, write_plot

FLOAT = np.dtype("float32")


@pytest.fixture(scope="module")
def graphs():
    graph = build(random_source(), GraphOptions())
    return graph, optimize(graph)[0]


@pytest.fixture(scope="module")
def drawing(graphs):
    return Drawing("a <b> & c", outline(graphs[0]), outline(graphs[1]))


def training_graph():
    """A dense layer, its loss, gradient, optimizer and saver."""

    def node(name, op="Mul", *inputs):
        return Node(name, op, inputs, {"T": FLOAT})

    weight = {"dtype": FLOAT, "value": np.zeros((4, 4), np.float32)}
    return Graph(
        [
            Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": (None,)}),
            Node("labels", "Placeholder", (), {"dtype": FLOAT, "shape": (None,)}),
            Node("bert/encoder/layer_0/output/w", "Const", (), weight),
            Node("bert/encoder/layer_0/output/w/adam_m", "Const", (), weight),
            node("bert/encoder/layer_0/output/w/Initializer/zeros", "Fill"),
            node("bert/encoder/layer_0/output/y", "Mul", "x", "bert/encoder/layer_0/output/w"),
            node("bert/encoder/layer_1/output/y", "Relu", "bert/encoder/layer_0/output/y"),
            node("loss/Softmax", "Softmax", "bert/encoder/layer_0/output/y"),
            node("loss/cross_entropy", "Mul", "loss/Softmax", "labels"),
            node("gradients/Mul_grad", "Mul", "loss/cross_entropy"),
            node("Mul_3", "Mul", "gradients/Mul_grad"),
            node("save/SaveV2", "SaveV2", "^Mul_3"),
            node("logging", "ScalarSummary", "loss/cross_entropy"),
        ],
        ["loss/Softmax"],
    )


def part(graph, name):
    (found,) = [part for part in graph.parts if part.name == name]
    return found


def test_every_node_and_byte_is_in_one_block(graphs):
    for graph in graphs:
        drawn = outline(graph)
        blocks = [(part, block) for part in drawn.parts for block in part.blocks]
        assert sum(part.repeats * block.nodes for part, block in blocks) == len(graph)
        assert sum(part.repeats * block.nbytes for part, block in blocks) == graph.nbytes()


def test_layers_that_are_alike_become_one_part(graphs):
    before = outline(graphs[0])
    names = [part.name for part in before.parts]
    assert names == [
        "inputs",
        "shapes and mask",
        "embeddings",
        "layers 0 to 2",
        "pooler",
        "pooling",
        "output",
    ]
    layers = part(before, "layers 0 to 2")
    assert layers.repeats == SMALL.num_hidden_layers
    assert [block.name for block in layers.blocks][:4] == [
        "attention/self",
        "attention/output",
        "intermediate",
        "output",
    ]
    # From one layer to the next, within the part.
    assert (
        before.edges[(("layers 0 to 2", "output"), ("layers 0 to 2", "attention/self"))]
        == (SMALL.num_hidden_layers - 1) * 3
    )


def test_what_no_output_needs_is_there_for_training():
    drawn = outline(training_graph())
    training = {part.name: part.blocks[0] for part in drawn.parts if part.training}
    assert {name: block.nodes for name, block in training.items()} == {
        "loss and labels": 2,
        "gradients": 1,
        "optimizer": 2,
        "saver": 1,
        "summaries": 1,
        "initializers": 1,
    }
    assert training["optimizer"].nbytes == 64
    assert part(drawn, "output").blocks[0].ops == {"Softmax": 1}
    # A layer that the output doesn't need is a layer all the same.
    assert part(drawn, "layer 1").blocks[0].ops == {"Relu": 1}
    assert part(drawn, "layer 0").blocks[0].nbytes == 64


def test_control_inputs_are_no_edges():
    edges = outline(training_graph()).edges
    assert not any(target[0] == "saver" for _, target in edges)
    assert edges[(("gradients", "gradients"), ("optimizer", "optimizer"))] == 1


def test_the_text_has_both_sides_and_their_totals(drawing, graphs):
    text = dot_text(drawing)
    assert "a &lt;b&gt; &amp; c" in text
    assert 'label="Before: %d nodes, weights ' % len(graphs[0]) in text
    assert 'label="After: %d nodes, weights ' % len(graphs[1]) in text
    assert text.index("cluster_before {") < text.index("cluster_after {")
    assert "layers 0 to 2, 3 alike" in text
    drawn = set(re.findall(r"^\s*(\w+_\d+) \[", text, re.MULTILINE))
    assert {name for pair in re.findall(r"(\w+) -> (\w+)", text) for name in pair} <= drawn


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_graphviz_draws_it(drawing, tmp_path, suffix):
    if shutil.which("dot") is None:
        pytest.skip("Graphviz isn't installed")
    path = tmp_path / ("graph" + suffix)
    write_plot(drawing, path)
    starts = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[suffix])
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_graphviz_understands_the_text_of_a_training_graph():
    if shutil.which("dot") is None:
        pytest.skip("Graphviz isn't installed")
    text = dot_text(Drawing("t", outline(training_graph()), outline(training_graph())))
    done = subprocess.run(["dot", "-Tsvg"], input=text.encode("utf-8"), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b">optimizer<") == 2


def test_the_text_alone_needs_no_graphviz(drawing, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    check_plot(tmp_path / "a.dot")
    write_plot(drawing, tmp_path / "a.dot")
    assert (tmp_path / "a.dot").read_text(encoding="utf-8") == dot_text(drawing)
    with pytest.raises(OptionError, match=r"Graphviz, whose command dot isn't installed"):
        check_plot(tmp_path / "a.svg")


def test_what_cannot_be_drawn_is_known_before(tmp_path):
    with pytest.raises(OptionError, match=r"must end in \.svg, \.png, \.pdf, \.dot"):
        check_plot(tmp_path / "graph.gif")
    with pytest.raises(OptionError, match="nowhere is no directory"):
        check_plot(tmp_path / "nowhere" / "graph.dot")


def test_a_drawing_that_cannot_be_written(drawing, tmp_path):
    with pytest.raises(GraphOptError, match=r"can't write .*gone/a\.dot: No such file"):
        write_plot(drawing, tmp_path / "gone" / "a.dot")


def test_dot_that_fails(drawing, tmp_path, monkeypatch):
    fake = tmp_path / "dot"
    fake.write_text("#!/bin/sh\ncat > /dev/null\necho out of ink >&2\nexit 3\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(GraphOptError, match=r"dot can't draw .*a\.svg: out of ink"):
        write_plot(drawing, tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()
