from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from unit.graph_opt.support import GOOGLE

from bert_serving.graph_opt import cache
from bert_serving.graph_opt.cache import Form, build_artifact, cached_graph, lookup
from bert_serving.graph_opt.errors import GraphOptError, ModelError, OptionError
from bert_serving.graph_opt.files import user_cache_dir
from bert_serving.graph_opt.pipeline import PIPELINE, GraphOptions
from bert_serving.graph_opt.sources import read_model

DATA = "bert_model.ckpt.data-00000-of-00001"
MEAN = GraphOptions("REDUCE_MEAN", (-2,))


@pytest.fixture(autouse=True)
def fake_target(monkeypatch):
    """What the cache does isn't a matter of the format; this one needs no package."""

    def write(graph, directory, target):
        path = directory / cache.MODEL_FILES[target]
        path.write_bytes(b"%d nodes" % len(graph))
        return (path,)

    monkeypatch.setattr(cache, "_write_target", write)


@pytest.fixture
def model(tmp_path):
    shutil.copytree(str(GOOGLE), str(tmp_path / "model"))
    return tmp_path / "model"


@pytest.fixture
def source(model):
    return read_model(model)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "cache"


def entries(store):
    return sorted(path.name for path in (store / "graphs").iterdir())


def test_made_once_and_found_again(source, store):
    assert lookup(source, MEAN, directory=store) is None
    made = cached_graph(source, MEAN, directory=store)
    found = cached_graph(source, MEAN, directory=store)
    assert (made.hit, found.hit) == (False, True)
    assert made.path == found.path == made.directory / "model.onnx"
    assert made.path.read_bytes().endswith(b" nodes")
    assert made.dimension == found.dimension == 40
    assert made.report == found.report
    assert [one.name for one in found.report.passes] == [name for name, _ in PIPELINE]
    assert entries(store) == [made.directory.name]
    assert lookup(source, MEAN, directory=store) == found


@pytest.mark.parametrize(
    "options",
    [
        GraphOptions("REDUCE_MAX", (-2,)),
        GraphOptions("REDUCE_MEAN", (-1,)),
        GraphOptions("REDUCE_MEAN", (-2,), normalize=True),
        GraphOptions("REDUCE_MEAN", (-2,), position_embeddings=False),
    ],
)
def test_other_options_make_another_entry(source, store, options):
    cached_graph(source, MEAN, directory=store)
    assert not cached_graph(source, options, directory=store).hit
    assert len(entries(store)) == 2


@pytest.mark.parametrize(
    "form",
    [
        Form("pb"),
        Form("onnx", device="gpu"),
        Form("onnx", "fp16"),
        Form("onnx", packed=True),
        Form("onnx", "fp32"),
    ],
)
def test_another_form_makes_another_entry(source, store, form, monkeypatch):
    asked = []

    def pipeline(precision, target, device, packed):
        asked.append((precision, target, device, packed))
        return PIPELINE

    monkeypatch.setattr(cache, "pipeline_for", pipeline)
    cached_graph(source, MEAN, directory=store)
    made = cached_graph(source, MEAN, form, directory=store)
    assert made.hit is (form == Form())
    assert made.path.name == {"onnx": "model.onnx", "pb": "model.pb"}[form.target]
    assert lookup(source, MEAN, form, directory=store) == replace(made, hit=True)
    assert asked[-1] == (form.precision, form.target, form.device, form.packed)


@pytest.mark.parametrize("name", ["bert_config.json", DATA])
def test_changed_contents_make_another_entry(model, store, name):
    made = cached_graph(read_model(model), MEAN, directory=store)
    path = model / name
    if name == DATA:
        # A byte of the padding that follows the tensors: nothing but the digest notices.
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        path.write_text(path.read_text() + "\n")
    again = cached_graph(read_model(model), MEAN, directory=store)
    assert not again.hit
    assert again.path != made.path


def test_the_place_and_age_of_a_model_do_not_matter(model, store, tmp_path):
    made = cached_graph(read_model(model), MEAN, directory=store)
    shutil.copytree(str(model), str(tmp_path / "copy"))
    os.utime(str(model / DATA), (1, 1))
    for directory in (model, tmp_path / "copy"):
        assert cached_graph(read_model(directory), MEAN, directory=store).path == made.path


def test_changed_code_makes_another_entry(source, store, monkeypatch):
    cached_graph(source, MEAN, directory=store)
    monkeypatch.setattr(cache, "_code_digest", lambda: "another version")
    assert lookup(source, MEAN, directory=store) is None


@pytest.mark.parametrize("damage", ["cut model", "no model", "cut meta", "no meta", "odd meta"])
def test_a_damaged_entry_is_replaced(source, store, damage):
    made = cached_graph(source, MEAN, directory=store)
    content = made.path.read_bytes()
    meta = made.directory / "meta.json"
    if damage == "cut model":
        made.path.write_bytes(content[:-1])
    elif damage == "no model":
        made.path.unlink()
    elif damage == "cut meta":
        meta.write_bytes(meta.read_bytes()[:-5])
    elif damage == "no meta":
        meta.unlink()
    else:
        meta.write_text(json.dumps({"files": [], "passes": 3}))
    assert lookup(source, MEAN, directory=store) is None
    again = cached_graph(source, MEAN, directory=store)
    assert (again.hit, again.path) == (False, made.path)
    assert again.path.read_bytes() == content
    assert entries(store) == [made.directory.name]


def test_the_slower_of_two_writers_discards_its_own(source, store):
    first = build_artifact(source, MEAN, directory=store)
    inode = first.path.stat().st_ino
    second = build_artifact(source, MEAN, directory=store)
    assert second.path == first.path
    assert second.path.stat().st_ino == inode
    assert entries(store) == [first.directory.name]


def test_many_writers_at_a_damaged_entry(source, store, monkeypatch):
    made = build_artifact(source, MEAN, directory=store)
    content = made.path.read_bytes()
    together = Barrier(8)
    install = cache._install

    def all_at_once(*args):
        together.wait()
        install(*args)

    monkeypatch.setattr(cache, "_install", all_at_once)
    for _ in range(3):
        made.path.write_bytes(b"")
        with ThreadPoolExecutor(8) as threads:
            artifacts = list(
                threads.map(lambda _: build_artifact(source, MEAN, directory=store), range(8))
            )
        assert {artifact.path for artifact in artifacts} == {made.path}
        assert made.path.read_bytes() == content
        assert entries(store) == [made.directory.name]


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_full_disk_leaves_nothing_behind(source, store, monkeypatch, step):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(cache, "_write_target", full)
        else:
            patch.setattr(cache.os, "rename", full)
        message = "can't write .*graphs: No space left on device; free some space, .*_CACHE"
        with pytest.raises(GraphOptError, match=message):
            cached_graph(source, MEAN, directory=store)
    assert entries(store) == []
    assert cached_graph(source, MEAN, directory=store).path.exists()


def test_what_a_killed_writer_left_is_removed_after_a_day(source, store):
    for name in (".old", ".new"):
        (store / "graphs" / name).mkdir(parents=True)
        (store / "graphs" / name / "model.onnx").write_bytes(b"half")
    os.utime(str(store / "graphs" / ".old"), (1, 1))
    made = cached_graph(source, MEAN, directory=store)
    assert entries(store) == [".new", made.directory.name]


def test_a_directory_that_cannot_be_written(source, tmp_path):
    # A file in its place: permissions would not stop root.
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    with pytest.raises(GraphOptError, match=r"can't write the optimized graph to .*blocked"):
        cached_graph(source, MEAN, directory=blocked)
    assert blocked.read_text() == ""


def test_damaged_weights_leave_nothing_behind(model, store):
    source = read_model(model)
    data = bytearray((model / DATA).read_bytes())
    data[10] ^= 1
    (model / DATA).write_bytes(bytes(data))
    with pytest.raises(ModelError, match="checksum"):
        cached_graph(source, MEAN, directory=store)
    assert not (store / "graphs").exists()


def test_options_are_checked_before_anything_is_read(source, store):
    with pytest.raises(OptionError, match="pooling layer 3 is outside the model"):
        lookup(source, GraphOptions(pooling_layers=(3,)), directory=store)
    with pytest.raises(ModelError, match="no floating-point tensor 'output_weights'"):
        lookup(source, GraphOptions("CLASSIFICATION"), directory=store)
    with pytest.raises(OptionError, match="target 'tflite' isn't one of onnx, pb"):
        Form("tflite")
    with pytest.raises(OptionError, match="precision 'fp64' isn't one of"):
        build_artifact(source, MEAN, Form(precision="fp64"), directory=store)
    assert not store.exists()


def test_a_lookup_loads_no_format_library(source, store):
    loaded = set(sys.modules)
    lookup(source, MEAN, directory=store)
    assert not {name.split(".")[0] for name in set(sys.modules) - loaded} & {"onnx", "google"}


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BERT_SERVING_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_cache_dir() == tmp_path / ".cache" / "bert-serving"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_dir() == tmp_path / ".cache" / "bert-serving"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache_dir() == tmp_path / "xdg" / "bert-serving"
    monkeypatch.setenv("BERT_SERVING_CACHE", "~/own")
    assert user_cache_dir() == tmp_path / "own"


def test_the_default_directory(source, monkeypatch, store):
    monkeypatch.setenv("BERT_SERVING_CACHE", str(store))
    assert cached_graph(source, MEAN).directory.parent == store / "graphs"
