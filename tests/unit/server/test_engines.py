from __future__ import annotations

import subprocess
import sys
from typing import List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server import engines
from bert_serving.server.engines import Engine, Features
from bert_serving.server.engines.echo import DIMENSION, PRIME, EchoEngine, echo_vector, vocabulary
from bert_serving.server.errors import EngineError, StartupError
from bert_serving.server.spec import EngineSpec

SEQUENCES = st.lists(
    st.lists(st.integers(0, 60000), min_size=1, max_size=20), min_size=1, max_size=8
)


def features_of(sequences: List[List[int]]) -> Features:
    lengths = np.array([len(ids) for ids in sequences], np.int32)
    flat = [number for ids in sequences for number in ids]
    return Features(np.array([flat, [1] * len(flat), [2] * len(flat)], np.int32), lengths)


def echo(per_token: bool = False, dimension: int = DIMENSION) -> EchoEngine:
    engine = EchoEngine()
    engine.load(EngineSpec("echo", None, dimension, per_token, 1, 0.5), -1)
    return engine


@given(sequences=SEQUENCES)
def test_an_echo_does_not_depend_on_the_batch(sequences: List[List[int]]) -> None:
    vectors = echo().encode(features_of(sequences))
    assert vectors.shape == (len(sequences), DIMENSION)
    assert vectors.dtype == np.float32
    for ids, vector in zip(sequences, vectors):
        np.testing.assert_array_equal(vector, echo_vector(ids))


@given(sequences=SEQUENCES)
def test_an_echo_of_each_token_depends_on_token_and_position(sequences: List[List[int]]) -> None:
    vectors = echo(per_token=True, dimension=4).encode(features_of(sequences))
    alone = [echo(per_token=True, dimension=4).encode(features_of([ids])) for ids in sequences]
    np.testing.assert_array_equal(vectors, np.concatenate(alone))


@given(
    one=st.lists(st.integers(0, 5000), min_size=1, max_size=8),
    place=st.integers(0, 7),
    change=st.integers(1, 5000),
)
def test_an_echo_tells_texts_apart(one: List[int], place: int, change: int) -> None:
    other = list(one)
    other[place % len(one)] += change
    assert echo_vector(one)[0] != echo_vector(other)[0]


def test_an_echo_consists_of_the_multiples_of_a_number() -> None:
    """Of more texts than are computed at a time."""
    ids = np.arange(0, 60000, 200)
    vectors = echo().encode(features_of([[number] for number in ids.tolist()]))
    marks = (ids + 1) * 38 % PRIME  # 38 is what goes with the first position
    expected = marks[:, None] * np.arange(1, DIMENSION + 1) % PRIME
    np.testing.assert_array_equal(vectors, expected.astype(np.float32) / np.float32(PRIME))


def test_an_echo_vector_has_the_dimension_asked_for() -> None:
    assert echo_vector([1, 2]).shape == (DIMENSION,)
    np.testing.assert_array_equal(echo_vector([1, 2], 5), echo_vector([1, 2])[:5])


def test_echo_s_vocabulary_has_what_every_text_needs() -> None:
    known = vocabulary()
    assert [known[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")] == [0, 1, 2, 3]
    assert sorted(known.values()) == list(range(len(known)))
    assert all(chr(code) in known and "##" + chr(code) in known for code in range(33, 127))


@pytest.mark.parametrize("name", sorted(engines.ENGINES))
def test_each_engine_can_be_made(name: str) -> None:
    assert isinstance(engines.create(name), Engine)


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        (["onnxruntime", "onnx", "tensorflow"], "onnxruntime"),
        (["onnxruntime", "onnx"], "onnxruntime"),
        (["onnxruntime", "tensorflow"], "tensorflow"),
        (["tensorflow"], "tensorflow"),
    ],
)
def test_the_engine_if_none_is_named(
    installed: List[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in installed else None)
    assert engines.choose("auto") == chosen


@pytest.mark.parametrize(
    ("version", "remedy"),
    [((3, 7, 16), r"pip install 'bert-serving\[tensorflow\]'"), ((3, 8), "pip install onnxrun")],
)
def test_no_engine_is_installed(
    version: Tuple[int, ...], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    monkeypatch.setattr(engines.sys, "version_info", version)
    with pytest.raises(StartupError, match="no engine is installed for this .*: " + remedy):
        engines.choose("auto")


@pytest.mark.parametrize(
    ("name", "missing", "remedy"),
    [
        ("onnxruntime", ["onnxruntime"], "pip install onnxruntime onnx"),
        ("onnxruntime", ["onnx"], "pip install onnxruntime onnx"),
        ("onnxruntime", ["onnxruntime", "onnx"], "pip install onnxruntime onnx"),
        ("tensorflow", ["tensorflow"], "pip install 'bert-serving[tensorflow]'"),
    ],
)
def test_a_named_engine_that_is_not_installed(
    name: str, missing: List[str], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name in missing else name)
    with pytest.raises(StartupError) as raised:
        engines.choose(name)
    message = str(raised.value)
    assert "the engine %s needs %s, which" % (name, " and ".join(missing)) in message
    assert message.endswith(remedy)
    assert engines.choose("echo") == "echo"


def test_engines_are_imported_only_when_they_are_loaded() -> None:
    code = (
        "import sys; from bert_serving.server import engines; "
        "[engines.create(name) for name in engines.ENGINES]; "
        "import bert_serving.server.worker; "
        "print([name for name in ('onnxruntime', 'onnx', 'tensorflow') if name in sys.modules])"
    )
    output = subprocess.check_output([sys.executable, "-c", code])
    assert output.decode().strip() == "[]"


def test_a_graph_that_is_no_graph_is_named(tmp_path: object) -> None:
    pytest.importorskip("onnxruntime")
    path = "%s/broken.onnx" % tmp_path
    with open(path, "wb") as file:
        file.write(b"nothing of the kind")
    engine = engines.create("onnxruntime")
    with pytest.raises(EngineError, match=r"can't load .*broken\.onnx"):
        engine.load(EngineSpec("onnxruntime", path, 8, False, 1, 0.5), -1)


def test_an_engine_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine = engines.create("onnxruntime")
    with pytest.raises(EngineError, match="pip install onnxruntime"):
        engine.load(EngineSpec("onnxruntime", "graph", 8, False, 1, 0.5), -1)
