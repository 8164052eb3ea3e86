from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from unit.graph_opt.support import GOLDEN, leveldb_table

from bert_serving.graph_opt.errors import GraphOptError, ModelError, OptionError
from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.graph_def import node_def
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import optimize
from bert_serving.graph_opt.sources.leveldb_table import read_table
from bert_serving.graph_opt.sources.tensor_bundle import read_bundle
from bert_serving.graph_opt.sources.tf_graph import read_tf_graph
from bert_serving.graph_opt.tensor_proto import tensor_proto
from bert_serving.graph_opt.tf_messages import GraphDef, MetaGraphDef

GRAPHS = Path(__file__).parent / "data" / "graphs"
CLASSIFIER = GOLDEN / "tf1-tiny" / "classifier" / "model.ckpt-7.meta"
CLASSIFIER_INPUTS = ("input_ids", "input_mask", "segment_ids")
FLOAT = np.dtype("float32")


@pytest.fixture(scope="module")
def expected():
    with np.load(str(GRAPHS / "values.npz")) as data:
        return {name: data[name] for name in data.files}


@pytest.fixture
def copy(tmp_path):
    """A copy of the graphs to damage."""
    return Path(shutil.copytree(str(GRAPHS), str(tmp_path / "graphs")))


def classifier():
    return read_tf_graph(CLASSIFIER, CLASSIFIER_INPUTS, ["loss/probabilities"])


def changed_meta(directory, change, name="variables"):
    """Change a .meta; returns its path."""
    path = directory / (name + ".meta")
    meta = MetaGraphDef.FromString(path.read_bytes())
    change(meta)
    path.write_bytes(meta.SerializeToString())
    return path


def node_in(meta, name):
    return next(node for node in meta.graph_def.node if node.name == name)


def write_nodes(path, *nodes):
    x = Node("x", "Placeholder", (), {"dtype": FLOAT})
    protos = [node_def(node) for node in (x, *nodes)]
    path.write_bytes(GraphDef(node=protos).SerializeToString())


def variables_graph(path=GRAPHS / "variables.meta", checkpoint=None):
    return read_tf_graph(path, ["x", "ids"], ["probabilities"], checkpoint)


# What a graph holds.


def test_the_whole_training_graph_is_there():
    graph = classifier()
    graph.validate()
    assert len(graph) == 4998
    assert graph.outputs == ("loss/probabilities",)
    assert graph.inputs == CLASSIFIER_INPUTS
    assert graph["label_ids"].op == "Placeholder"
    assert graph["input_ids"].attrs["shape"] == (None, None)
    stored = read_bundle(CLASSIFIER.with_suffix("")).variables
    assert set(graph.variables) == set(stored)
    name = "bert/encoder/layer_0/output/dense/kernel"
    np.testing.assert_array_equal(graph.variables[name].load(), stored[name].load())


def test_no_tensor_is_read_before_it_is_asked_for(copy):
    data = copy / "variables.data-00000-of-00001"
    data.write_bytes(b"\xff" * data.stat().st_size)
    graph = variables_graph(copy / "variables.meta")
    with pytest.raises(ModelError, match="checksum of the tensor 'ref/dense/kernel' is wrong"):
        graph.variables["ref/dense/kernel"].load()


@pytest.mark.parametrize("name", ["variables", "variables.meta", "variables.index"])
def test_any_name_of_the_checkpoint_will_do(name):
    assert len(variables_graph(GRAPHS / name)) == len(variables_graph())


def test_values_are_those_that_tensorflow_sees(expected):
    """Ref and resource variables, whole and partitioned, and a second handle of one of them."""
    graph = variables_graph()
    ops = {graph[name].op for name in graph.variables}
    assert ops == {"VariableV2", "VarHandleOp"}
    for name, variable in graph.variables.items():
        value = expected["variables/%s" % name.replace("again", "resource/dense/kernel")]
        loaded = variable.load()
        assert (loaded.dtype, loaded.shape) == (variable.dtype, variable.shape)
        np.testing.assert_array_equal(loaded, value)
    assert graph.variables["half"].dtype == np.float16
    assert graph.variables["resource/table/part_1"].shape == (3, 4)


@pytest.mark.parametrize(("name", "parts"), [("whole", 1), ("parts", 2), ("other", 3)])
def test_partitions_need_not_be_those_of_the_checkpoint(name, parts, expected):
    """Two in the checkpoint, one in the graph; one and two; two and three."""
    graph = read_tf_graph(GRAPHS / name, ["ids"], ["rows"])
    assert len(graph.variables) == parts
    loaded = [graph.variables[key].load() for key in sorted(graph.variables)]
    np.testing.assert_array_equal(np.concatenate(loaded), expected[name + "/table"])


def test_a_partitioned_tensor_as_a_whole(expected):
    bundle = read_bundle(GRAPHS / "whole")
    assert list(bundle.variables) == ["table"]
    np.testing.assert_array_equal(bundle.variables["table"].load(), expected["whole/table"])


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("variables", ["x", "ids"], ["probabilities"]),
        ("cond_v1", ["x=IteratorGetNext:1"], ["logits"]),
        ("cond_v2", ["x=IteratorGetNext:1"], ["logits:0"]),
        ("functions", ["x"], ["y"]),
        ("frozen.pb", ["x"], ["y"]),
        ("saved_model", None, None),
    ],
)
def test_the_graphs_compute_what_tensorflow_did(name, inputs, outputs, expected):
    graph, _ = optimize(read_tf_graph(GRAPHS / name, inputs, outputs))
    feeds = {"x": expected["X"], "ids": expected["IDS"]}
    (actual,) = run(graph, {one: feeds[one] for one in graph.inputs}).values()
    np.testing.assert_allclose(actual, expected[name.split(".")[0] + ":output"], atol=1e-6)


# Inputs and outputs.


def test_nothing_named():
    with pytest.raises(OptionError) as raised:
        read_tf_graph(CLASSIFIER)
    message = str(raised.value)
    assert "input_ids (int32, [?, ?]), input_mask (int32, [?, ?])" in message
    assert "label_ids (int32, [?])" in message
    assert "likely outputs are: loss/probabilities" in message
    assert "save/" not in message
    with pytest.raises(OptionError, match="likely outputs are"):
        read_tf_graph(CLASSIFIER, ["input_ids"])


def test_iterators_are_likely_inputs():
    with pytest.raises(OptionError, match=r"IteratorGetNext:1 \(float32, \[\?, 4\]\)"):
        read_tf_graph(GRAPHS / "cond_v1")


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["input_isd"], "loss/probabilities", "'input_isd' to be an input; near it are input_ids"),
        (["input_ids"], "probabilities", "'probabilities' to be an output; near it are loss/prob"),
        (["input_ids"], "loss/probabilities:1", "has 1 outputs, so 'loss/probabilities:1'"),
        (["input_ids:x"], "loss/probabilities", "no tensor 'input_ids:x'"),
        (["qqqqqqqq"], "loss/probabilities", "no tensor 'qqqqqqqq' to be an input$"),
        (["a=input_ids", "a=input_mask"], "loss/probabilities", "are both named 'a'"),
        (["label_ids=input_ids"], "loss/probabilities", "another node named 'label_ids'"),
        (["=input_ids"], "loss/probabilities", "can't be named ''"),
        (["input_ids", "label_ids"], "loss/probabilities", "don't depend on the inputs label_ids"),
        (["x=save/restore_all"], "loss/probabilities", "has 0 outputs"),
    ],
)
def test_names_that_do_not_fit(inputs, output, message):
    with pytest.raises(OptionError, match=message):
        read_tf_graph(CLASSIFIER, inputs, [output])


def test_an_input_is_renamed():
    names = ("input_ids", "input_mask", "input_type_ids=segment_ids")
    graph = read_tf_graph(CLASSIFIER, names, ["loss/probabilities"])
    assert graph.inputs == ("input_ids", "input_mask", "input_type_ids")
    attrs = dict(graph["segment_ids"].attrs)
    assert graph["input_type_ids"].attrs == attrs
    assert [node.name for node in graph.consumers()["segment_ids"]] == []


def test_a_tensor_that_is_no_placeholder_becomes_one():
    graph = read_tf_graph(GRAPHS / "cond_v1", ["IteratorGetNext:1"], ["logits"])
    assert graph.inputs == ("IteratorGetNext_1",)
    node = graph["IteratorGetNext_1"]
    assert (node.op, node.attrs) == ("Placeholder", {"dtype": FLOAT, "shape": (None, 4)})
    assert graph["IteratorGetNext"].op == "IteratorGetNext"
    # The only output of a node keeps the node's name.
    graph = read_tf_graph(GRAPHS / "cond_v1", ["hidden/BiasAdd"], ["logits"])
    node = graph["hidden/BiasAdd"]
    assert (node.op, node.attrs) == ("Placeholder", {"dtype": FLOAT, "shape": (None, 3)})


def test_variables_before_an_input_are_not_needed(copy):
    changed_meta(copy, lambda meta: None, "cond_v1")
    pairs = read_table((copy / "cond_v1.index").read_bytes())
    del pairs[b"hidden/kernel"]
    (copy / "cond_v1.index").write_bytes(leveldb_table(sorted(pairs.items())))
    graph = read_tf_graph(copy / "cond_v1", ["hidden/BiasAdd"], ["logits"])
    assert "hidden/kernel" not in graph.variables
    with pytest.raises(ModelError, match=r"'hidden/kernel' .* there is no tensor 'hidden/kernel'"):
        read_tf_graph(copy / "cond_v1", ["x=IteratorGetNext:1"], ["logits"])


def test_an_output_that_is_an_input():
    graph = read_tf_graph(GRAPHS / "frozen.pb", ["new=x"], ["y", "x"])
    assert graph.outputs == ("y", "new")


# Checkpoints of another model.


def test_another_checkpoint(copy):
    for path in copy.glob("variables.[di]*"):
        path.rename(copy / path.name.replace("variables", "elsewhere"))
    with pytest.raises(ModelError, match=r"variables.index is missing.*variables.meta needs it"):
        variables_graph(copy / "variables.meta")
    graph = variables_graph(copy / "variables.meta", copy / "elsewhere")
    assert graph.variables["half"].load().shape == (4,)


def test_a_checkpoint_of_another_model():
    with pytest.raises(ModelError) as raised:
        variables_graph(checkpoint=GRAPHS / "whole")
    message = str(raised.value)
    assert "the variable 'ref/table/part_0'" in message
    assert "variables.meta doesn't fit the checkpoint" in message
    assert "there is no tensor 'ref/table' in it; are they of the same model?" in message


def test_a_variable_of_another_shape(copy):
    def widen(meta):
        node_in(meta, "half").attr["shape"].shape.dim[0].size = 5

    path = changed_meta(copy, widen)
    message = r"the tensor 'half' has the shape \[4\], the variable \[5\]"
    with pytest.raises(ModelError, match=message):
        variables_graph(path)


def test_a_variable_of_another_dtype(copy):
    path = changed_meta(
        copy, lambda meta: setattr(node_in(meta, "half").attr["dtype"], "type", 101)
    )
    with pytest.raises(ModelError, match="'half' is float16, the variable float32"):
        variables_graph(path)


def test_a_variable_of_unknown_shape_has_that_of_its_value(copy):
    def forget(meta):
        node_in(meta, "half").attr["shape"].shape.unknown_rank = True

    assert variables_graph(changed_meta(copy, forget))["half"].attrs["shape"] == (4,)


def test_names_in_the_checkpoint_are_the_saver_s(copy, expected):
    """tf.train.Saver({"other": variable}) gives variables other names."""

    def rename(meta):
        names = node_in(meta, "save/RestoreV2/tensor_names").attr["value"].tensor.string_val
        names[list(names).index(b"half")] = b"other"

    path = changed_meta(copy, rename)
    pairs = read_table((copy / "variables.index").read_bytes())
    pairs[b"other"] = pairs.pop(b"half")
    (copy / "variables.index").write_bytes(leveldb_table(sorted(pairs.items())))
    loaded = variables_graph(path).variables["half"].load()
    np.testing.assert_array_equal(loaded, expected["variables/half"])


def test_without_a_saver_names_are_the_variables_own(copy, expected):
    def forget(meta):
        meta.saver_def.restore_op_name = "lost"

    path = changed_meta(copy, forget, "cond_v1")
    graph = read_tf_graph(path, ["x=IteratorGetNext:1"], ["logits"])
    for name, variable in graph.variables.items():
        np.testing.assert_array_equal(variable.load(), expected["cond_v1/" + name])


# Damaged and missing files.


def test_a_graph_that_is_not_frozen_needs_a_checkpoint(copy):
    meta = MetaGraphDef.FromString((copy / "cond_v1.meta").read_bytes())
    path = copy / "bare.pb"
    path.write_bytes(meta.graph_def.SerializeToString())
    with pytest.raises(ModelError, match=r"bare.pb isn't frozen: its variable .* name that, or"):
        read_tf_graph(path, ["IteratorGetNext:1"], ["logits"])
    graph = read_tf_graph(path, ["IteratorGetNext:1"], ["logits"], copy / "cond_v1.index")
    assert graph.variables["scale"].load().shape == (3,)


def test_a_truncated_graph(copy):
    path = copy / "variables.meta"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"variables.meta isn't a readable TensorFlow graph"):
        variables_graph(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no TensorFlow graph, or an empty one"),
        (b"\xff\xfe\xfd", "isn't a readable TensorFlow graph: it may be cut off"),
        (b"\x0a\x00", "isn't a readable TensorFlow graph: a node '' has the operation ''"),
        (b"#!/bin/sh\n", "isn't a readable TensorFlow graph"),
    ],
)
def test_what_is_no_graph(tmp_path, content, message):
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"graph.pb " + message):
        read_tf_graph(path, ["x"], ["y"])


def test_a_graph_as_text():
    with pytest.raises(ModelError, match=r"frozen.pbtxt holds a graph as text; save it in the bin"):
        read_tf_graph(GRAPHS / "frozen.pbtxt", ["x"], ["y"])


def test_a_missing_graph(tmp_path, copy):
    with pytest.raises(ModelError, match=r"lost.pb is missing"):
        read_tf_graph(tmp_path / "lost.pb", ["x"], ["y"])
    with pytest.raises(ModelError, match=r"has the graphs cond_v1.meta, .*: name one of them"):
        read_tf_graph(copy, ["x"], ["y"])
    (copy / "variables.meta").unlink()
    with pytest.raises(ModelError, match=r"variables.meta is missing"):
        variables_graph(copy / "variables.index")


def test_a_missing_shard(copy):
    (copy / "variables.data-00000-of-00001").unlink()
    with pytest.raises(ModelError, match=r"data-00000-of-00001 is missing"):
        variables_graph(copy / "variables")


def test_a_truncated_shard(copy):
    path = copy / "whole.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"whole.data-.* is cut off: the tensor 'table' ends at"):
        read_tf_graph(copy / "whole", ["ids"], ["rows"])


def test_slices_that_do_not_cover_the_tensor(copy):
    """Rows 0 to 3 and 3 to 5 of 7."""
    path = copy / "whole.index"
    pairs = read_table(path.read_bytes())
    key = next(key for key in pairs if key.startswith(b"\0") and b"\x84\x83" in key)
    entry = pairs[b"table"]
    start = b"\x08\x04\x10\x03"
    assert start in entry
    changed = entry.replace(start, b"\x08\x03\x10\x03")
    pairs[b"table"] = changed
    pairs[key.replace(b"\x84\x83", b"\x83\x83")] = pairs.pop(key)
    path.write_bytes(leveldb_table(sorted(pairs.items())))
    graph = read_tf_graph(copy / "whole", ["ids"], ["rows"])
    with pytest.raises(ModelError, match="slices of the tensor 'table' don't cover it"):
        graph.variables["table"].load()


def test_a_missing_slice(copy):
    path = copy / "whole.index"
    pairs = read_table(path.read_bytes())
    del pairs[next(key for key in pairs if key.startswith(b"\0"))]
    path.write_bytes(leveldb_table(sorted(pairs.items())))
    with pytest.raises(ModelError, match="'table' is stored in slices, of which one is missing"):
        read_tf_graph(copy / "whole", ["ids"], ["rows"])


def test_a_damaged_saver(copy):
    def cut(meta):
        tensor = node_in(meta, "save/RestoreV2/tensor_names").attr["value"].tensor
        tensor.CopyFrom(tensor_proto(np.array([b"half"], object)))

    with pytest.raises(ModelError, match=r"variables.meta: its saver is damaged: .* no output"):
        variables_graph(changed_meta(copy, cut))


def test_a_dangling_input(tmp_path):
    path = tmp_path / "graph.pb"
    write_nodes(path, Node("y", "Add", ("x", "lost"), {"T": FLOAT}))
    with pytest.raises(ModelError, match=r"graph.pb: no node gives the tensor 'lost'"):
        read_tf_graph(path, ["x"], ["y"])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node("y", "Abs", ("x",)), "Abs 'y': it needs the attribute T"),
        (Node("y", "Abs", ("x",), {"T": 1}), "Abs 'y': it needs the attribute T"),
        (Node("y", "Abs", ("x:y",), {"T": FLOAT}), "'y' has an input 'x:y'"),
        (
            Node("y", "VariableV2", (), {"shape": ()}),
            "VariableV2 'y': it needs the attribute dtype",
        ),
        (Node("x", "NoOp"), "two nodes are named 'x'"),
    ],
)
def test_malformed_nodes(tmp_path, node, message):
    path = tmp_path / "graph.pb"
    write_nodes(path, node)
    with pytest.raises(
        ModelError, match=r"graph.pb isn't a readable TensorFlow graph: .*" + message
    ):
        read_tf_graph(path, ["x"], ["y"])


@pytest.mark.parametrize("name", ["cond_v2", "functions"])
def test_damaged_bytes_give_typed_errors(copy, name):
    """Also where they are still a message, of another meaning."""
    path = copy / (name + ".meta")
    original, random = path.read_bytes(), np.random.RandomState(0)
    for _ in range(60):
        data = bytearray(original)
        for position in random.randint(0, len(data), 3):
            data[position] = random.randint(256)
        path.write_bytes(bytes(data))
        with suppress(GraphOptError):
            read_tf_graph(path, ["is_training"], ["logits" if name == "cond_v2" else "y"])
