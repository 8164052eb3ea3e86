from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.graph_opt.support import GOLDEN, GOOGLE, HUGGING_FACE, feeds_of

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize
from bert_serving.graph_opt.sources import ModelDefaults, TokenizerOptions, read_model
from bert_serving.graph_opt.sources.huggingface import huggingface_name
from bert_serving.graph_opt.sources.safetensors_file import read_safetensors
from bert_serving.graph_opt.variables import HEAD_BIAS, HEAD_WEIGHTS

WEIGHTS = "model.safetensors"
QUERY = "encoder.layer.1.attention.self.query.weight"
DTYPES = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": np.uint16}


def stored_tensors():
    variables = read_safetensors(HUGGING_FACE / WEIGHTS)
    return {name: np.array(variable.load()) for name, variable in variables.items()}


TENSORS = stored_tensors()


def write(path, tensors, dtype="F32"):
    """A safetensors file, independent of the package."""
    header, blob = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        data = array.tobytes()
        place = [len(blob), len(blob) + len(data)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": place}
        blob += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + blob)


@pytest.fixture
def model(tmp_path):
    """A copy to change."""
    for path in HUGGING_FACE.iterdir():
        shutil.copy(str(path), str(tmp_path))
    return tmp_path


def change_json(path, **values):
    path.write_text(json.dumps(dict(json.loads(path.read_text()), **values)))


def test_a_model_is_read():
    source = read_model(HUGGING_FACE)
    assert source.layout == "huggingface"
    assert source.tokenizer == TokenizerOptions(True, None, True)
    assert source.defaults == ModelDefaults()
    assert [path.name for path in source.files] == ["config.json", WEIGHTS]
    kernel = source.variables["bert/encoder/layer_1/attention/self/query/kernel"]
    np.testing.assert_array_equal(kernel.load(), TENSORS[QUERY].T)
    intermediate = source.variables["bert/encoder/layer_0/intermediate/dense/kernel"]
    assert intermediate.shape == intermediate.load().shape == (64, 96)


def test_names():
    names = {
        "bert/embeddings/word_embeddings": "embeddings.word_embeddings.weight",
        "bert/embeddings/LayerNorm/beta": "embeddings.LayerNorm.bias",
        "bert/encoder/layer_11/output/dense/kernel": "encoder.layer.11.output.dense.weight",
        "bert/encoder/layer_0/output/LayerNorm/gamma": "encoder.layer.0.output.LayerNorm.weight",
        "bert/pooler/dense/bias": "pooler.dense.bias",
    }
    for name, expected in names.items():
        assert huggingface_name(name) == expected


def legacy(name):
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    return name.replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize("rename", [lambda n: "bert." + n, legacy, lambda n: "bert." + legacy(n)])
def test_prefixed_and_legacy_names(model, rename):
    write(model / WEIGHTS, {rename(name): array for name, array in TENSORS.items()})
    renamed, plain = read_model(model), read_model(HUGGING_FACE)
    assert set(renamed.variables) == set(plain.variables)
    for name in plain.variables:
        np.testing.assert_array_equal(renamed.variables[name].load(), plain.variables[name].load())


@pytest.mark.parametrize("stored", ["F16", "F64", "BF16"])
def test_other_floats_become_float32(model, stored):
    def convert(array):
        if stored == "BF16":
            return (array.view(np.uint32) >> 16).astype(np.uint16)
        return array.astype(DTYPES[stored])

    write(model / WEIGHTS, {name: convert(array) for name, array in TENSORS.items()}, stored)
    if stored == "BF16" and importlib.util.find_spec("ml_dtypes") is None:
        with pytest.raises(ModelError, match="bfloat16, which needs the package ml_dtypes"):
            read_model(model).variables["bert/encoder/layer_1/attention/self/query/kernel"].load()
        return
    kernel = read_model(model).variables["bert/encoder/layer_1/attention/self/query/kernel"]
    loaded = kernel.load()
    assert loaded.dtype == kernel.dtype == np.float32
    rounding = {"F16": 2**-10, "F64": 0, "BF16": 2**-7}[stored]
    np.testing.assert_allclose(loaded, TENSORS[QUERY].T, rtol=rounding, atol=1e-6)


WEIGHT, BIAS = "classifier.weight", "classifier.bias"
HEAD = {
    WEIGHT: np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64),
    BIAS: np.arange(3, dtype=np.float32),
}


def write_classifier(model, architecture="BertForSequenceClassification"):
    prefixed = {"bert." + name: array for name, array in TENSORS.items()}
    write(model / WEIGHTS, dict(prefixed, **HEAD))
    change_json(model / "config.json", architectures=[architecture])


def test_a_sequence_classifier_gives_the_logits_of_its_head(model):
    write_classifier(model)
    with np.load(str(GOLDEN / "hf" / "hf-tiny.npz")) as data:
        feeds, pooled = feeds_of(data["ids"], data["mask"]), data["pooler"]
    graph, _ = optimize(build(read_model(model), GraphOptions("REGRESSION", num_labels=3)))
    expected = pooled @ HEAD[WEIGHT].T + HEAD[BIAS]
    np.testing.assert_allclose(run(graph, feeds)["final_encodes"], expected, atol=1e-5)


def test_a_head_that_works_on_something_else_is_left_out(model):
    write_classifier(model, "BertForTokenClassification")
    assert not {HEAD_WEIGHTS, HEAD_BIAS} & set(read_model(model).variables)


def test_a_head_in_a_config_that_names_no_architecture(model):
    write_classifier(model)
    change_json(model / "config.json", architectures=None)
    assert {HEAD_WEIGHTS, HEAD_BIAS} <= set(read_model(model).variables)


def test_shards(model):
    (model / WEIGHTS).unlink()
    names = sorted(TENSORS)
    places = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = "model-%05d-of-00002.safetensors" % (number + 1)
        write(model / file, {name: TENSORS[name] for name in part})
        places.update(dict.fromkeys(part, file))
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    source = read_model(model)
    assert len(source.files) == 4
    np.testing.assert_array_equal(
        source.variables["bert/encoder/layer_1/attention/self/query/kernel"].load(),
        TENSORS[QUERY].T,
    )
    (model / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00002.safetensors is missing"):
        read_model(model)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "has no weight_map"),
        ([], "has no weight_map"),
        ({"weight_map": {"a": "../other/model.safetensors"}}, "outside its directory"),
    ],
)
def test_an_index_that_cannot_be_followed(model, index, message):
    (model / WEIGHTS).unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model.safetensors.index.json .*" + message):
        read_model(model)


@pytest.mark.parametrize("name", ["encoder.layer.3.output.dense.bias", "pooler.dense.bias"])
def test_a_missing_tensor(model, name):
    write(model / WEIGHTS, {key: array for key, array in TENSORS.items() if key != name})
    with pytest.raises(ModelError, match="%s holds no tensor 'bert/.*dense/bias'" % WEIGHTS):
        read_model(model)


def test_no_pooler(model):
    kept = {key: array for key, array in TENSORS.items() if "pooler" not in key}
    write(model / WEIGHTS, kept)
    assert not [name for name in read_model(model).variables if "pooler" in name]


def test_a_shape_of_another_config(model):
    change_json(model / "config.json", intermediate_size=97)
    with pytest.raises(ModelError, match=r"dense/kernel' has shape \[64, 96\], .* \[64, 97\]"):
        read_model(model)


def test_quantized_weights(model):
    write(model / WEIGHTS, TENSORS)
    data = (model / WEIGHTS).read_bytes().replace(b'"F32"', b'"I32"', 1)
    (model / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match="isn't stored as floating-point numbers"):
        read_model(model)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; only 'bert'"),
        ({"model_type": None, "architectures": ["GPT2Model"]}, "model_type is None"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is set"),
        ({"hidden_size": 65}, "hidden_size 65 is no multiple"),
    ],
)
def test_another_kind_of_model(model, values, message):
    change_json(model / "config.json", **values)
    with pytest.raises(ModelError, match=r"config.json: " + message):
        read_model(model)


def test_a_config_of_2019_is_known_by_its_architecture(model):
    change_json(model / "config.json", model_type=None)
    assert read_model(model).layout == "huggingface"


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_json_that_is_no_object(model, name):
    (model / name).write_text("[]")
    with pytest.raises(ModelError, match="%s holds no JSON object" % name):
        read_model(model)


def test_tokenizer_options(model):
    change_json(model / "tokenizer_config.json", do_lower_case=False, strip_accents=True)
    assert read_model(model).tokenizer == TokenizerOptions(False, True, True)
    change_json(model / "tokenizer_config.json", do_lower_case="no")
    with pytest.raises(ModelError, match=r"tokenizer_config.json: do_lower_case must be true or"):
        read_model(model)
    (model / "tokenizer_config.json").unlink()
    assert read_model(model).tokenizer == TokenizerOptions(True, None, True)


def test_a_missing_vocabulary(model):
    (model / "vocab.txt").unlink()
    with pytest.raises(ModelError, match=r"vocab.txt is missing"):
        read_model(model)


def test_pickled_weights_are_not_loaded(model):
    (model / WEIGHTS).rename(model / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model.bin only, a pickle.* convert it"):
        read_model(model)
    (model / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match=r"has neither model.safetensors nor"):
        read_model(model)


def test_tuned_model_dir_is_for_the_other_layout(model):
    with pytest.raises(ModelError, match="tuned_model_dir is for models in Google's layout"):
        read_model(model, tuned_model_dir=GOOGLE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}q\x01.",
        b"\xff" * 16,
        b"\x10" + bytes(7) + b"{}",
        b"\x02" + bytes(7) + b"{]",
        b"\x02" + bytes(7) + b"[]",
        b'\x08\0\0\0\0\0\0\0{"a": 1}',
    ],
)
def test_damaged_weights_are_named(model, content):
    (model / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match="%s .*cut off or damaged.*download it again" % WEIGHTS):
        read_model(model)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "damaged"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, "damaged"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, "damaged"),
        ({"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}, "cut off"),
        ({"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}, "damaged"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0]}, "damaged"),
    ],
)
def test_a_header_that_lies(tmp_path, entry, message):
    text = json.dumps({"t": entry}).encode()
    path = tmp_path / WEIGHTS
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(ModelError, match="%s.*%s" % (WEIGHTS, message)):
        read_safetensors(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, (HUGGING_FACE / WEIGHTS).stat().st_size - 1))
def test_a_cut_file_is_noticed(tmp_path_factory, size):
    path = tmp_path_factory.mktemp("cut") / WEIGHTS
    path.write_bytes((HUGGING_FACE / WEIGHTS).read_bytes()[:size])
    with pytest.raises(ModelError, match=WEIGHTS):
        read_safetensors(path)


def test_scalars_and_empty_tensors(tmp_path):
    tensors = {"scalar": np.array(3, np.float32), "empty": np.zeros((0, 4), np.float32)}
    write(tmp_path / WEIGHTS, tensors)
    for name, variable in read_safetensors(tmp_path / WEIGHTS).items():
        np.testing.assert_array_equal(variable.load(), tensors[name])
        assert variable.load().shape == tensors[name].shape
