from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from unit.graph_opt.support import GOOGLE, leveldb_table

from bert_serving.graph_opt.errors import ModelError
from bert_serving.graph_opt.sources import read_model
from bert_serving.graph_opt.sources.leveldb_table import read_table
from bert_serving.graph_opt.sources.tensor_bundle import read_bundle

INDEX = "bert_model.ckpt.index"
DATA = "bert_model.ckpt.data-00000-of-00001"
QUERIES = [b"bert/encoder/layer_%d/attention/self/query/kernel" % layer for layer in (0, 1)]
TABLE = (GOOGLE / INDEX).read_bytes()


@pytest.fixture
def model(tmp_path):
    """A copy to damage."""
    return shutil.copytree(str(GOOGLE), str(tmp_path / "model")) and tmp_path / "model"


def rewrite(model, change):
    """Change the entries of a model's index: name -> value."""
    pairs = read_table((model / INDEX).read_bytes())
    change(pairs)
    (model / INDEX).write_bytes(leveldb_table(sorted(pairs.items())))


def change_config(model, **values):
    path = model / "bert_config.json"
    path.write_text(json.dumps(dict(json.loads(path.read_text()), **values)))


def load_all(source):
    return {name: variable.load() for name, variable in source.variables.items()}


def test_a_model_is_read():
    source = read_model(GOOGLE)
    assert source.layout == "google"
    assert source.config.num_hidden_layers == 3
    assert source.vocab_file == GOOGLE / "vocab.txt"
    assert [path.name for path in source.files] == ["bert_config.json", INDEX, DATA]
    assert source.tokenizer.lowercase is None
    assert source.defaults.pooling_strategy is None
    arrays = load_all(source)
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert arrays["bert/embeddings/word_embeddings"].shape == (220, 40)
    # Random initialization with a deviation of 0.2; the factors of layer norms lie around 1.
    assert 0.1 < arrays["bert/encoder/layer_1/output/dense/kernel"].std() < 0.3
    assert 0.9 < arrays["bert/embeddings/LayerNorm/gamma"].mean() < 1.1


@pytest.fixture
def tuned(tmp_path):
    """A fine-tuned checkpoint: other weights, an optimizer's slot, a head."""
    directory = tmp_path / "tuned"
    directory.mkdir()
    shutil.copy(str(GOOGLE / DATA), str(directory / "model.ckpt-7.data-00000-of-00001"))
    pairs = read_table(TABLE)
    pairs[QUERIES[0]], pairs[QUERIES[1]] = pairs[QUERIES[1]], pairs[QUERIES[0]]
    pairs[QUERIES[0] + b"/adam_m"] = pairs[b"output_weights"] = pairs[QUERIES[0]]
    (directory / "model.ckpt-7.index").write_bytes(leveldb_table(sorted(pairs.items())))
    return directory


def test_optimizer_slots_are_ignored_and_a_head_is_kept(model, tuned):
    for path in tuned.iterdir():
        shutil.copy(str(path), str(model))
    source = read_model(model, ckpt_name="model.ckpt-7")
    assert set(source.variables) == set(read_model(GOOGLE).variables) | {"output_weights"}
    stored = read_bundle(model / "model.ckpt-7").variables["output_weights"]
    np.testing.assert_array_equal(source.variables["output_weights"].load(), stored.load())


def test_what_is_called_like_a_head_but_holds_no_floats_is_left_out(tuned):
    pairs = read_table((tuned / "model.ckpt-7.index").read_bytes())
    # Field 1 is the dtype: 3 is int32, as wide as float32.
    pairs[b"output_weights"] = b"\x08\x03" + pairs[b"output_weights"][2:]
    (tuned / "model.ckpt-7.index").write_bytes(leveldb_table(sorted(pairs.items())))
    source = read_model(GOOGLE, tuned_model_dir=tuned, ckpt_name="model.ckpt-7")
    assert "output_weights" not in source.variables


@pytest.mark.parametrize("path", ["model.ckpt-7", "/home/somebody/tuned/model.ckpt-7"])
def test_the_newest_checkpoint_is_taken_where_none_is_named(tuned, path):
    for name in ("model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"):
        shutil.copy(str(tuned / name), str(tuned / name.replace("-7", "-3")))
    state = 'model_checkpoint_path: "%s"\nall_model_checkpoint_paths: "model.ckpt-3"\n' % path
    (tuned / "checkpoint").write_text(state)
    source = read_model(GOOGLE, tuned_model_dir=tuned)
    assert source.files[1] == tuned / "model.ckpt-7.index"
    named = read_model(GOOGLE, tuned_model_dir=tuned, ckpt_name="model.ckpt-3")
    assert named.files[1] == tuned / "model.ckpt-3.index"


def test_a_checkpoint_that_is_named_is_meant(tuned):
    (tuned / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    message = "model.ckpt-8.index is missing; .* has the checkpoint model.ckpt-7: name it"
    with pytest.raises(ModelError, match=message):
        read_model(GOOGLE, tuned_model_dir=tuned, ckpt_name="model.ckpt-8")


def test_the_default_name_comes_before_the_newest(model, tuned):
    for path in tuned.iterdir():
        shutil.copy(str(path), str(model))
    (model / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    assert read_model(model).files[1] == model / INDEX


@pytest.mark.parametrize(
    "state", [b"", b"\xff\xfe", b'model_checkpoint_path: "gone"\n', b"model_checkpoint_path: 7\n"]
)
def test_a_state_that_names_no_checkpoint(tuned, state):
    (tuned / "checkpoint").write_bytes(state)
    with pytest.raises(ModelError, match=r"bert_model.ckpt.index is missing; .* -ckpt_name"):
        read_model(GOOGLE, tuned_model_dir=tuned)


def test_a_tuned_checkpoint_with_the_original_config(tuned):
    source = read_model(GOOGLE, tuned_model_dir=tuned, ckpt_name="model.ckpt-7")
    assert source.vocab_file == GOOGLE / "vocab.txt"
    assert source.files[0].parent == GOOGLE
    assert source.files[1].parent == tuned
    first, second = [name.decode() for name in QUERIES]
    original = read_model(GOOGLE).variables[second].load()
    np.testing.assert_array_equal(source.variables[first].load(), original)


def test_config_name(model):
    (model / "bert_config.json").rename(model / "config.json")
    assert read_model(model, config_name="config.json").layout == "google"
    with pytest.raises(ModelError, match=r"config.json: model_type is None"):
        read_model(model)


@pytest.mark.parametrize("name", [INDEX, DATA, "vocab.txt"])
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    with pytest.raises(ModelError, match="%s is missing" % name):
        read_model(model)


def test_another_checkpoint_is_suggested(tuned):
    with pytest.raises(ModelError, match=r"has the checkpoint model.ckpt-7: name it with -ckpt"):
        read_model(GOOGLE, tuned_model_dir=tuned)


def test_a_directory_without_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"neither bert_config.json .* nor config.json"):
        read_model(tmp_path)
    with pytest.raises(ModelError, match="lost doesn't exist"):
        read_model(tmp_path / "lost")
    with pytest.raises(ModelError, match="lost doesn't exist"):
        read_model(GOOGLE, tuned_model_dir=tmp_path / "lost")


def test_an_empty_vocabulary(model):
    (model / "vocab.txt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"vocab.txt is empty"):
        read_model(model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "isn't JSON: Expecting value at line 1, column 1"),
        (b'{\n "a": }', "isn't JSON: Expecting value at line 2, column 7"),
        (b"\xff\xfe", "isn't UTF-8 text: byte 0"),
    ],
)
def test_an_unreadable_config(model, content, message):
    (model / "bert_config.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"bert_config.json " + message):
        read_model(model)


def test_an_empty_index(model):
    (model / INDEX).write_bytes(b"")
    with pytest.raises(ModelError, match="%s isn't a readable .* 0 bytes are too few" % INDEX):
        read_model(model)


def test_a_bad_magic(model):
    (model / INDEX).write_bytes(TABLE[:-1] + b"\0")
    with pytest.raises(ModelError, match="%s .* doesn't end as an index does" % INDEX):
        read_model(model)


def test_a_damaged_block(model):
    (model / INDEX).write_bytes(b"\x01" + TABLE[1:])
    with pytest.raises(ModelError, match="%s .* checksum of the block at byte 0" % INDEX):
        read_model(model)


def test_a_compressed_index(model):
    pairs = sorted(read_table(TABLE).items())
    (model / INDEX).write_bytes(leveldb_table(pairs, compression=1))
    with pytest.raises(ModelError, match="%s .* compressed \\(type 1\\)" % INDEX):
        read_model(model)


def test_a_cut_shard(model):
    data = (model / DATA).read_bytes()
    (model / DATA).write_bytes(data[:-1])
    with pytest.raises(ModelError, match="%s is cut off: the tensor '.*' ends at byte" % DATA):
        read_model(model)
    (model / DATA).write_bytes(b"")
    with pytest.raises(ModelError, match="%s is cut off" % DATA):
        read_model(model)


def test_a_damaged_shard_names_the_tensor(model):
    data = bytearray((model / DATA).read_bytes())
    data[len(data) // 2] ^= 1
    (model / DATA).write_bytes(bytes(data))
    source = read_model(model)
    messages = {}
    for name, variable in source.variables.items():
        try:
            variable.load()
        except ModelError as error:
            messages[name] = str(error)
    ((name, message),) = messages.items()
    assert "%s is damaged: the checksum of the tensor %r" % (DATA, name) in message


def test_a_missing_tensor(model):
    name = "bert/encoder/layer_1/output/dense/bias"
    rewrite(model, lambda pairs: pairs.pop(name.encode()))
    with pytest.raises(ModelError, match="holds no tensor '%s'" % name):
        read_model(model)


def test_half_a_pooler(model):
    rewrite(model, lambda pairs: pairs.pop(b"bert/pooler/dense/bias"))
    with pytest.raises(ModelError, match="holds no tensor 'bert/pooler/dense/bias'"):
        read_model(model)


def test_no_pooler(model):
    def change(pairs):
        for key in (b"bert/pooler/dense/bias", b"bert/pooler/dense/kernel"):
            del pairs[key]

    rewrite(model, change)
    assert not [name for name in read_model(model).variables if "pooler" in name]


def test_a_shape_of_another_config(model):
    change_config(model, vocab_size=221)
    message = r"'bert/embeddings/word_embeddings' has shape \[220, 40\], .* makes it \[221, 40\]"
    with pytest.raises(ModelError, match=message):
        read_model(model)


def test_an_unsupported_dtype(model):
    name = b"bert/pooler/dense/bias"

    def change(pairs):
        # Field 1 is the dtype: 14 is bfloat16.
        assert pairs[name].startswith(b"\x08\x01")
        pairs[name] = b"\x08\x0e" + pairs[name][2:]

    rewrite(model, change)
    with pytest.raises(ModelError, match="'bert/pooler/dense/bias' isn't stored as floating-point"):
        read_model(model)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (b"\x08\x01\x28\x05", "has 5 bytes"),
        (b"\x08\x01\x18\x07\x28\x04", "lies in data file 7 of 1"),
        (b"\x08\x01\x3a\x00\x28\x04", "stored in slices"),
        (b"\x0a\x01\x00", "field 1 of an entry has the wrong type"),
        (b"\x08", "a varint at byte 1 runs on"),
    ],
)
def test_a_malformed_entry(model, entry, message):
    rewrite(model, lambda pairs: pairs.update({b"bert/pooler/dense/bias": entry}))
    with pytest.raises(ModelError, match="%s .*%s" % (INDEX, message)):
        read_model(model)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "has no header"),
        (b"\x08\x02", "data-00000-of-00002 is missing"),
        (b"\x08\x00", "there are 0 data files"),
        (b"\x08\x01\x10\x01", "big-endian"),
    ],
)
def test_a_header_that_cannot_be_followed(model, header, message):
    def change(pairs):
        pairs.pop(b"")
        if header is not None:
            pairs[b""] = header

    rewrite(model, change)
    with pytest.raises(ModelError, match=message):
        read_model(model)
