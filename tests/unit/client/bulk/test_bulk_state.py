from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import pytest

from bert_serving.client.bulk.errors import UsageError
from bert_serving.client.bulk.rows import Batch, Position
from bert_serving.client.bulk.state import State, differences, load, model_identity, save

STATE = State(
    {"size": 3, "mtime_ns": 4, "head_sha256": "ab"},
    {"column": None, "blank": "error", "pooling_layer": [-2, -1]},
    {"model": "m", "dimension": 3},
)


def test_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    assert load(path) is None
    batch = Batch(["a", None], 4, Position(77, 5), 70)
    state = STATE.after(batch, {"vectors": 9}, 1)
    assert (state.rows, state.position, state.consumed, state.truncated) == (2, (77, 5), 70, 1)
    path.write_bytes(save(state))
    assert load(path) == state
    assert load(path).position == Position(77, 5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"format": 2}', b'{"format": 1}', b"\xff"]
)
def test_a_file_that_is_no_progress(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "progress"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"progress can't be read .*--restart"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": "2"},
        {"offset": -1},
        {"line": True},
        {"options": 5},
        {"input": {"size": [[1]]}},
        {"sizes": {"vectors": None}},
        {"complete": 1},
        {"model": {}},
        {"model": {"dimension": "4"}},
    ],
)
def test_values_that_no_run_writes(tmp_path: Path, changes: Dict[str, Any]) -> None:
    path = tmp_path / "progress"
    state = STATE.after(Batch(["a"], 4, Position(77, 5), 70), {"vectors": 9}, 1)
    path.write_bytes(save(replace(state, **changes)))
    with pytest.raises(UsageError, match=r"progress can't be read .*--restart"):
        load(path)


def test_differences() -> None:
    assert differences(STATE, STATE) == []
    assert differences(STATE, replace(STATE, model={})) == []
    assert differences(replace(STATE, input={}), STATE) == ["the input has changed since"]
    other = replace(STATE, options=dict(STATE.options, column="a"))
    assert differences(STATE, other) == ["--column was not given and is a"]
    other = replace(STATE, model={"model": "n", "dimension": 3, "engine": "e"})
    assert differences(STATE, other) == [
        "the server's engine was not given and is e",
        "the server's model was m and is n",
    ]


def test_a_model_is_the_same_by_its_fingerprint() -> None:
    model = {"model": "m", "engine": "onnxruntime", "model_fingerprint": "ab", "dimension": 3}
    before = replace(STATE, model=model)
    moved = dict(model, model="n", model_dir="/elsewhere", engine="tensorflow")
    assert differences(before, replace(STATE, model=moved)) == []
    other = dict(moved, model_fingerprint="cd")
    assert differences(before, replace(STATE, model=other)) == [
        "the server's engine was onnxruntime and is tensorflow",
        "the server's model was m and is n",
        "the server's model_dir was not given and is /elsewhere",
        "the server's model_fingerprint was ab and is cd",
    ]
    wider = dict(model, dimension=4)
    assert differences(before, replace(STATE, model=wider)) == [
        "the server's dimension was 3 and is 4"
    ]


@pytest.mark.parametrize("known", [{}, {"model_fingerprint": ""}, {"model_fingerprint": None}])
def test_without_a_fingerprint_names_and_flags_decide(known: Dict[str, Any]) -> None:
    before = replace(STATE, model=dict({"model": "m", "dimension": 3}, **known))
    other = replace(STATE, model=dict(before.model, model="n"))
    assert differences(before, other) == ["the server's model was m and is n"]
    told = replace(STATE, model=dict(before.model, model_fingerprint="ab"))
    (found,) = differences(before, told)
    assert found.endswith(" and is ab")


def test_what_may_be_allowed_later() -> None:
    strict = replace(STATE, options={"blank": "error", "truncate": "error"})
    for loose in ({"blank": "zero"}, {"truncate": None}, {"truncate": "left"}):
        other = replace(strict, options=dict(strict.options, **loose))
        assert differences(strict, other) == []
        ((name, value),) = loose.items()
        shown = "--%s was %s and is error" % (name, value or "not given")
        assert differences(other, strict) == [shown]


def test_model_identity() -> None:
    config = {"model": "m", "pooling_layer": [-2], "num_worker": 4, "client": "x"}
    assert model_identity(config, 5) == {"model": "m", "pooling_layer": [-2], "dimension": 5}
    config = {"model": "m", "model_fingerprint": "ab", "generation": 2}
    assert model_identity(config, 5) == {"model": "m", "model_fingerprint": "ab", "dimension": 5}
