from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from unit.graph_opt.engines import import_tensorflow

from bert_serving.graph_opt.errors import ModelError, OptionError
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import optimize
from bert_serving.graph_opt.sources.tf_graph import read_tf_graph
from bert_serving.graph_opt.targets.saved_model import write_saved_model
from bert_serving.graph_opt.tf_messages import SavedModel

GRAPHS = Path(__file__).parent / "data" / "graphs"
ORIGINAL = GRAPHS / "saved_model"


@pytest.fixture
def model(tmp_path):
    """A copy to change."""
    return Path(shutil.copytree(str(ORIGINAL), str(tmp_path / "model")))


def change(model, how):
    path = model / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    how(saved)
    path.write_bytes(saved.SerializeToString())


@pytest.mark.parametrize("name", ["", "saved_model.pb"])
def test_the_signature_says_what_goes_in_and_out(name):
    """The placeholder is named x_1, the signature calls it x."""
    graph = read_tf_graph(ORIGINAL / name)
    assert graph.inputs == ("x",)
    assert graph.outputs == ("probabilities",)
    assert graph["x"].attrs == {"dtype": np.dtype("float32"), "shape": (None, 4)}
    with np.load(str(GRAPHS / "values.npz")) as data:
        for key, variable in graph.variables.items():
            np.testing.assert_array_equal(variable.load(), data["saved_model/" + key])


def test_names_given_win_over_the_signature():
    graph = read_tf_graph(ORIGINAL, ["x_1"], ["dense/BiasAdd"])
    assert (graph.inputs, graph.outputs) == (("x_1",), ("dense/BiasAdd",))
    # The signature's own names will do, too.
    graph = read_tf_graph(ORIGINAL, ["fed=x"], ["scores"])
    assert (graph.inputs, graph.outputs) == (("fed",), ("probabilities",))


def test_without_a_signature_names_are_needed(model):
    change(model, lambda saved: saved.meta_graphs[0].signature_def.clear())
    with pytest.raises(OptionError, match=r"saved_model.pb: name the inputs and outputs"):
        read_tf_graph(model)


def test_the_graph_to_serve_is_chosen_by_its_tag(model):
    def train_too(saved):
        train = saved.meta_graphs.add()
        train.CopyFrom(saved.meta_graphs[0])
        train.meta_info_def.tags[:] = ["train"]
        saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])
        saved.meta_graphs[2].meta_info_def.tags.append("tpu")

    change(model, train_too)
    assert read_tf_graph(model).inputs == ("x",)

    def untag(saved):
        saved.meta_graphs[0].meta_info_def.tags[:] = ["train"]
        saved.meta_graphs[2].meta_info_def.tags[:] = []

    change(model, untag)
    with pytest.raises(ModelError, match=r"holds 3 graphs \(tags: train, train, none\)"):
        read_tf_graph(model)


def test_defaults_that_were_stripped_are_filled_in(model):
    def strip(saved):
        for node in saved.meta_graphs[0].graph_def.node:
            for name in ("transpose_a", "transpose_b", "Tidx", "out_type", "data_format"):
                if name in node.attr:
                    del node.attr[name]

    change(model, strip)
    node = read_tf_graph(model)["dense/MatMul"]
    assert node.attrs["transpose_a"] is False


def test_a_model_of_tensorflow_2(model):
    change(model, lambda saved: setattr(saved.meta_graphs[0], "object_graph_def", b"\x0a\x00"))
    with pytest.raises(ModelError, match=r"saved_model.pb was saved by TensorFlow 2.* freeze its"):
        read_tf_graph(model)


def test_a_real_model_of_tensorflow_2(tmp_path):
    if import_tensorflow().__version__.startswith("1."):
        pytest.skip("needs TensorFlow 2")
    import tensorflow as tf

    module = tf.Module()
    module.v = tf.Variable(1.0)
    spec = tf.TensorSpec((None,), tf.float32)
    function = tf.function(lambda x: x * module.v, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "model"), function.get_concrete_function())
    with pytest.raises(ModelError, match="was saved by TensorFlow 2"):
        read_tf_graph(tmp_path / "model")


def test_damaged_and_missing_files(model):
    path = model / "saved_model.pb"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"saved_model.pb isn't a readable TensorFlow graph"):
        read_tf_graph(model)
    path.write_bytes(b"")
    with pytest.raises(ModelError, match=r"saved_model.pb holds 0 graphs"):
        read_tf_graph(model)
    path.unlink()
    with pytest.raises(ModelError, match=r"directory without saved_model.pb"):
        read_tf_graph(model)
    (model / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    with pytest.raises(ModelError, match=r"saved_model.pbtxt is in text form"):
        read_tf_graph(model)


def test_missing_variables(model):
    shutil.rmtree(str(model / "variables"))
    with pytest.raises(ModelError, match=r"variables.index is missing.*saved_model.pb needs it"):
        read_tf_graph(model)


def test_what_was_written_is_read_back(tmp_path):
    graph, _ = optimize(read_tf_graph(ORIGINAL))
    write_saved_model(graph, tmp_path / "model")
    back = read_tf_graph(tmp_path / "model")
    assert (back.inputs, back.outputs) == (graph.inputs, graph.outputs)
    feeds = {"x": np.ones((2, 4), np.float32)}
    one, other = run(graph, feeds), run(back, feeds)
    np.testing.assert_array_equal(one["probabilities"], other["probabilities"])
