from __future__ import annotations

import os
import stat
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from unit.server.support import Hub, echo_spec

from bert_serving.server.errors import StartupError
from bert_serving.server.runtime import (
    MAX_SOCKET_PATH,
    TOUCH_INTERVAL,
    Upkeep,
    keep_vocabulary,
    make_directory,
)
from bert_serving.server.spec import Endpoints


def parent_of_length(length: int, root: str) -> Path:
    """A directory whose path has so many bytes."""
    missing = length - len(root) - 1
    assert missing > 0, "the directory for temporary files has a long path already"
    parent = Path(root) / ("d" * missing)
    parent.mkdir()
    return parent


@pytest.fixture
def longest(socket_directory: str) -> int:
    """Bytes that a parent may have for the sockets in its new directory not to be too long."""
    name = os.path.basename(tempfile.mkdtemp(prefix="bert-serving-", dir=socket_directory))
    return MAX_SOCKET_PATH - len("/%s/control" % name)


def test_a_directory_is_this_user_s_alone(
    socket_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", socket_directory)
    first, second = make_directory(), make_directory()
    assert os.path.dirname(first) == os.path.dirname(second) == socket_directory
    assert first != second
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o700


def test_without_the_variable_it_is_a_temporary_one(
    socket_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZEROMQ_SOCK_TMP_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", socket_directory)
    assert os.path.dirname(make_directory()) == socket_directory


@pytest.mark.parametrize("kind", ["nothing", "a file", "an empty name"])
def test_a_parent_that_is_no_directory(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = "" if kind == "an empty name" else str(tmp_path / "parent")
    if kind == "a file":
        (tmp_path / "parent").write_text("")
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", parent)
    with pytest.raises(StartupError) as raised:
        make_directory()
    assert "ZEROMQ_SOCK_TMP_DIR names %s, which is no directory" % parent in str(raised.value)


def test_the_longest_path_that_sockets_may_have(
    socket_directory: str, longest: int, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_of_length(longest, socket_directory)
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", str(parent))
    directory = make_directory()
    assert len(directory) + len("/control") == MAX_SOCKET_PATH
    endpoints = Endpoints.inside(directory)
    for one in (endpoints.control, endpoints.workers, endpoints.results, endpoints.events):
        hub.socket(zmq.PULL).bind(one)  # raises if it is too long after all


def test_a_path_that_is_too_long(
    socket_directory: str, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_of_length(longest + 1, socket_directory)
    monkeypatch.setenv("ZEROMQ_SOCK_TMP_DIR", str(parent))
    with pytest.raises(StartupError) as raised:
        make_directory()
    assert str(parent) in str(raised.value)
    assert "set ZEROMQ_SOCK_TMP_DIR to a directory with a short path" in str(raised.value)
    assert list(parent.iterdir()) == []


def test_a_vocabulary_stays_as_it_was(tmp_path: Path) -> None:
    vocabulary, directory = tmp_path / "vocab.txt", tmp_path / "service"
    directory.mkdir()
    vocabulary.write_text("first")
    one = keep_vocabulary(replace(echo_spec(), vocabulary=str(vocabulary)), str(directory))
    vocabulary.write_text("second")
    spec = replace(echo_spec(), vocabulary=str(vocabulary), generation=2)
    two = keep_vocabulary(spec, str(directory))
    assert one.vocabulary is not None
    assert two.vocabulary is not None
    assert Path(one.vocabulary).read_text() == "first"
    assert Path(two.vocabulary).read_text() == "second"


def test_a_vocabulary_that_is_gone(tmp_path: Path) -> None:
    spec = replace(echo_spec(), vocabulary=str(tmp_path / "vocab.txt"))
    with pytest.raises(StartupError, match=r"can't copy the vocabulary .*vocab\.txt"):
        keep_vocabulary(spec, str(tmp_path))


def test_echo_has_no_file_for_its_vocabulary(tmp_path: Path) -> None:
    spec = echo_spec()
    assert keep_vocabulary(spec, str(tmp_path)) is spec


def test_what_lies_in_the_directory_never_looks_abandoned(tmp_path: Path, hub: Hub) -> None:
    hub.socket(zmq.PULL).bind("ipc://%s/control" % tmp_path)
    (tmp_path / "vocabulary-1.txt").write_text("[PAD]")
    paths = [tmp_path, tmp_path / "vocabulary-1.txt", tmp_path / "control"]
    for path in paths:
        os.utime(str(path), (1, 1))
    upkeep = Upkeep(str(tmp_path))
    now = time.monotonic()
    upkeep.look(now)
    assert [path.stat().st_mtime for path in paths] == [1, 1, 1], "it isn't time yet"
    upkeep.look(now + TOUCH_INTERVAL)
    for path in paths:
        assert min(path.stat().st_atime, path.stat().st_mtime) > 1
        os.utime(str(path), (1, 1))
    upkeep.look(now + 1.5 * TOUCH_INTERVAL)
    assert [path.stat().st_mtime for path in paths] == [1, 1, 1]


def test_a_directory_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    Upkeep(str(tmp_path / "gone")).look(time.monotonic() + 2 * TOUCH_INTERVAL)
