from __future__ import annotations

import errno

import numpy as np
import pytest
from unit.graph_opt.engines import import_tensorflow
from unit.graph_opt.support import held, random_source, scalar_builder, small_batch

from bert_serving.graph_opt.builder import GraphBuilder
from bert_serving.graph_opt.errors import GraphError, OptionError
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.targets import saved_model, tf_graph
from bert_serving.graph_opt.targets.saved_model import METHOD, SIGNATURE, TAG, write_saved_model
from bert_serving.graph_opt.tf_messages import SavedModel


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "model"


@pytest.fixture(scope="module")
def graph():
    return optimize(build(random_source(), GraphOptions("REDUCE_MEAN", (-2,))))[0]


def multiplied(factor=2.0):
    builder, constant = scalar_builder(factor)
    return builder.build(builder.op("Mul", ("x", constant), "scope/y"))


def everything_in(path):
    return {str(one.relative_to(path)) for one in path.rglob("*")}


@pytest.mark.filterwarnings("ignore:distutils Version classes:DeprecationWarning")
def test_a_session_of_version_1_runs_it(graph, directory):
    tf = import_tensorflow()
    write_saved_model(graph, directory)
    with tf.Graph().as_default(), tf.Session() as session:
        meta = tf.saved_model.load(session, [TAG], str(directory))
        signature = meta.signature_def[SIGNATURE]
        feeds = {signature.inputs[name].name: value for name, value in small_batch().items()}
        actual = session.run(signature.outputs["final_encodes"].name, feeds)
    expected = run(graph, small_batch())["final_encodes"]
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_version_2_loads_it_as_functions(graph, directory):
    tf = import_tensorflow()
    if tf.__version__.startswith("1."):
        pytest.skip("needs TensorFlow 2")
    import tensorflow

    write_saved_model(graph, directory)
    function = tensorflow.saved_model.load(str(directory)).signatures[SIGNATURE]
    batch = {name: tensorflow.constant(value) for name, value in small_batch().items()}
    actual = function(**batch)["final_encodes"].numpy()
    expected = run(graph, small_batch())["final_encodes"]
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_the_signature(graph, directory):
    assert write_saved_model(graph, directory) == (directory / "saved_model.pb",)
    assert everything_in(directory) == {"saved_model.pb", "variables"}
    saved = SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    assert saved.saved_model_schema_version == 1
    (meta,) = saved.meta_graphs
    assert list(meta.meta_info_def.tags) == [TAG]
    signature = meta.signature_def[SIGNATURE]
    assert signature.method_name == METHOD
    assert set(signature.inputs) == {"input_ids", "input_mask", "input_type_ids"}
    described = {
        name: (info.name, info.dtype, [one.size for one in info.tensor_shape.dim])
        for one in (signature.inputs, signature.outputs)
        for name, info in one.items()
    }
    assert described["input_ids"] == ("input_ids:0", 3, [-1, -1])
    assert described["final_encodes"] == ("final_encodes:0", 1, [-1, -1])
    assert len(meta.graph_def.node) == len(graph)


def test_a_saved_model_is_replaced(directory):
    write_saved_model(multiplied(), directory)
    first = (directory / "saved_model.pb").read_bytes()
    (directory / "variables" / "variables.index").write_bytes(b"old")
    write_saved_model(multiplied(3.0), directory)
    assert (directory / "saved_model.pb").read_bytes() != first
    assert everything_in(directory.parent) == {"model", "model/saved_model.pb", "model/variables"}


def test_other_things_are_not_replaced(directory):
    directory.mkdir()
    write_saved_model(multiplied(), directory)
    (directory / "notes.txt").write_text("precious")
    with pytest.raises(OptionError, match="isn't a SavedModel, so it won't be replaced"):
        write_saved_model(multiplied(), directory)
    file = directory / "notes.txt"
    with pytest.raises(OptionError, match=r"notes.txt exists"):
        write_saved_model(multiplied(), file)
    assert file.read_text() == "precious"


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_leaves_the_old_model(directory, monkeypatch, failing):
    """Whether moving the old one away fails or moving the new one in."""
    write_saved_model(multiplied(), directory)
    first = (directory / "saved_model.pb").read_bytes()
    rename, calls = saved_model.os.rename, []

    def fail_once(source, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(saved_model.os, "rename", fail_once)
    with pytest.raises(OSError, match="No space left"):
        write_saved_model(multiplied(3.0), directory)
    assert (directory / "saved_model.pb").read_bytes() == first
    assert everything_in(directory.parent) == {"model", "model/saved_model.pb", "model/variables"}


def test_nothing_is_left_when_writing_fails(directory, monkeypatch):
    def full(file, pieces):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saved_model, "write_pieces", full)
    with pytest.raises(OSError, match="No space left"):
        write_saved_model(multiplied(), directory)
    assert list(directory.parent.iterdir()) == []


def test_too_large_a_graph(directory, monkeypatch):
    write_saved_model(multiplied(), directory)
    size = (directory / "saved_model.pb").stat().st_size
    monkeypatch.setattr(tf_graph, "SIZE_LIMIT", size - 1)
    with pytest.raises(GraphError, match="write it as ONNX"):
        write_saved_model(multiplied(), directory)


def test_variables_must_be_frozen(directory):
    builder = GraphBuilder()
    graph = builder.build(builder.variable(held("v", np.ones(2, np.float32))))
    with pytest.raises(GraphError, match="freeze it first"):
        write_saved_model(graph, directory)
