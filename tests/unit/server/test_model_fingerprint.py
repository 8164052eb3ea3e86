from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import pytest
from support import port_flags

from bert_serving.graph_opt.cache import Form
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import read_model
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.errors import StartupError
from bert_serving.server.model_fingerprint import LENGTH, computed_by, fingerprint_of
from bert_serving.server.preparation import prepare
from bert_serving.server.spec import ServiceSpec

GOOGLE = Path(__file__).parents[2] / "golden" / "tf1-tiny" / "model"
MEAN = GraphOptions("REDUCE_MEAN", (-2,))


def echo(*flags: str) -> ServiceSpec:
    return prepare(get_args_parser().parse_args([*port_flags(), "-engine", "echo", *flags]))


def copy_of(tmp_path: Path, name: str) -> Path:
    shutil.copytree(str(GOOGLE), str(tmp_path / name))
    return tmp_path / name


def test_the_form_of_it() -> None:
    fingerprint = echo().model_fingerprint
    assert len(fingerprint) == LENGTH
    assert set(fingerprint) <= set("0123456789abcdef")
    # It doesn't count what only decides how the work is done.
    assert fingerprint == echo("-num_worker", "2", "-max_batch_size", "7").model_fingerprint


def test_each_setting_that_decides_vectors_makes_another_one(tmp_path: Path) -> None:
    model = copy_of(tmp_path, "model")
    own = ["-model_dir", str(model)]
    found = [
        echo(*flags).model_fingerprint
        for flags in (
            [],
            ["-max_seq_len", "30"],
            ["-cased_tokenization"],
            ["-mask_cls_sep"],
            ["-no_special_token"],
            ["-pooling_strategy", "REDUCE_MAX"],
            ["-pooling_layer", "-1"],
            own,
            [*own, "-max_seq_len", "30"],
        )
    ]
    with (model / "vocab.txt").open("a") as file:
        file.write("another\n")
    with pytest.raises(StartupError):
        echo(*own)  # the model has no embedding for it
    lines = (model / "vocab.txt").read_text("utf-8").splitlines()
    (model / "vocab.txt").write_text("\n".join(lines[:-3] + [lines[-2], lines[-3]]) + "\n", "utf-8")
    found.append(echo(*own).model_fingerprint)
    assert len(set(found)) == len(found)


def computed(directory: Path, cache: Path, **form: Any) -> Dict[str, Any]:
    return computed_by(read_model(directory), MEAN, Form(**form), str(cache))


def test_equal_files_anywhere_are_equal(tmp_path: Path) -> None:
    one, other = copy_of(tmp_path, "one"), copy_of(tmp_path, "other")
    expected = computed(one, tmp_path / "cache")
    assert computed(other, tmp_path / "cache of another machine") == expected
    # In float32 whatever computes it.
    assert computed(one, tmp_path, target="pb", device="gpu", packed=True) == expected
    specs = [replace(echo(), vocabulary=str(model / "vocab.txt")) for model in (one, other)]
    assert len({fingerprint_of(spec, expected) for spec in specs}) == 1


def test_other_weights_options_or_precisions(tmp_path: Path) -> None:
    model, cache = copy_of(tmp_path, "model"), tmp_path / "cache"
    found = [
        computed(model, cache),
        computed_by(read_model(model), GraphOptions("REDUCE_MEAN", (-1,)), Form(), str(cache)),
        computed(model, cache, precision="fp16"),
        computed(model, cache, precision="int8"),
        computed(model, cache, precision="int8", device="gpu"),
        computed(model, cache, precision="int8", target="pb"),
    ]
    weights = next(iter(model.glob("*.data-*")))
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(bytes(content))
    found.append(computed(model, cache))
    fingerprints = {fingerprint_of(echo(), one) for one in found}
    assert len(fingerprints) == len(found)
    assert echo().model_fingerprint not in fingerprints


def test_a_vocabulary_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"can't read the vocabulary .*gone\.txt"):
        fingerprint_of(replace(echo(), vocabulary=str(tmp_path / "gone.txt")), None)
