from __future__ import annotations

import json
import os

import pytest

from bert_serving.graph_opt import digests
from bert_serving.graph_opt.digests import sha256_of
from bert_serving.graph_opt.errors import GraphOptError

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def hashed(monkeypatch):
    """The files that were really read."""
    paths = []
    real = digests._hash

    def hash_and_tell(path):
        paths.append(path)
        return real(path)

    monkeypatch.setattr(digests, "_hash", hash_and_tell)
    return paths


def test_a_file_is_read_once(file, store, hashed):
    assert [sha256_of(file, store) for _ in range(3)] == [ABC] * 3
    assert hashed == [file]


def test_a_changed_file_is_read_again(file, store, hashed):
    sha256_of(file, store)
    file.write_bytes(b"abcd")
    assert sha256_of(file, store) != ABC
    file.write_bytes(b"abc")
    os.utime(str(file), ns=(1, 1))
    assert sha256_of(file, store) == ABC
    assert len(hashed) == 3


def test_a_file_of_the_same_size_and_time_put_in_its_place(file, store, tmp_path):
    sha256_of(file, store)
    status = file.stat()
    other = tmp_path / "other"
    other.write_bytes(b"xyz")
    os.utime(str(other), ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(str(other), str(file))
    assert sha256_of(file, store) != ABC


@pytest.mark.parametrize("memo", ["", "[]", '{"a": 1', "\ufeff"])
def test_a_damaged_memo_is_rewritten(file, store, hashed, memo):
    store.mkdir()
    (store / "digests.json").write_text(memo, encoding="utf-8")
    assert sha256_of(file, store) == ABC
    assert sha256_of(file, store) == ABC
    assert len(hashed) == 1
    assert [path.name for path in store.iterdir()] == ["digests.json"]


def test_a_damaged_memo_entry_is_replaced(file, store, hashed):
    sha256_of(file, store)
    memo = json.loads((store / "digests.json").read_text())
    memo[str(file.resolve())]["sha256"] = 7
    (store / "digests.json").write_text(json.dumps(memo))
    assert sha256_of(file, store) == ABC
    assert len(hashed) == 2


def test_a_memo_that_cannot_be_written(file, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    assert sha256_of(file, blocked) == ABC


def test_a_missing_file(tmp_path, store):
    with pytest.raises(GraphOptError, match=r"can't read .*lost: No such file"):
        sha256_of(tmp_path / "lost", store)
