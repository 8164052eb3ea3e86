from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest

from bert_serving.client.bulk import files
from bert_serving.client.bulk.errors import OutputError, UsageError
from bert_serving.client.bulk.files import AppendFile, Paths, remove, write_durably


def test_append_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with closing(AppendFile(path)) as file:
        file.append(b"head")
        file.append(np.arange(3, dtype="u1").data)
        file.overwrite(b"HEAD")
        file.append(b"")
        assert file.size == 7
        file.append(b"tail")
        file.sync()
    assert path.read_bytes() == b"HEAD\0\1\2tail"
    with closing(AppendFile(path)) as file:
        assert file.size == 11
        with pytest.raises(UsageError, match=r"has 11 bytes, but 12 were written.*--restart"):
            file.cut(12)
        file.cut(4)
        file.append(b"x")
    assert path.read_bytes() == b"HEADx"


def test_only_one_writes(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first = AppendFile(tmp_path / "file")
    with closing(first), pytest.raises(UsageError, match="another process is writing"):
        AppendFile(tmp_path / "file")
    AppendFile(tmp_path / "file").close()


def put_in_place_first(path: Path, out: Path) -> None:
    os.replace(str(path), str(out))


def remove_first(path: Path, out: Path) -> None:
    out.write_bytes(path.read_bytes())
    path.unlink()


def another_first(path: Path, out: Path) -> None:
    os.replace(str(path), str(out))
    path.write_bytes(b"another's")


@pytest.mark.parametrize("end", [put_in_place_first, remove_first, another_first])
def test_a_file_that_is_finished_while_another_waits_for_it_stays_whole(
    end: Callable[[Path, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the moments when the second opens it and when it locks it."""
    pytest.importorskip("fcntl")
    path, out = tmp_path / "file", tmp_path / "out"
    first = AppendFile(path)
    first.append(b"finished")
    lock = files._lock
    tries: List[int] = []

    def lock_late(file: Any, path: Path) -> None:
        tries.append(1)
        if len(tries) == 1:
            end(path, out)
            first.close()
        lock(file, path)

    monkeypatch.setattr(files, "_lock", lock_late)
    with closing(AppendFile(path)) as second:
        assert second.size == (9 if end is another_first else 0)
        second.cut(0)
        second.append(b"anew")
        # It is locked, and is where others look for it.
        with pytest.raises(UsageError, match="another process is writing"):
            AppendFile(path)
    assert out.read_bytes() == b"finished"
    assert path.read_bytes() == b"anew"


def test_a_full_disk(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    file = AppendFile(Path("/dev/full"))
    message = "can't write /dev/full: No space left on device"
    with closing(file), pytest.raises(OutputError, match=message):
        file.append(b"a")


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        AppendFile(tmp_path / "none" / "file")


def test_write_durably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_durably(path, b"lost")
    assert path.read_bytes() == b"new"


def test_paths(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "out.npy")
    for path in (paths.partial, paths.texts, paths.final, paths.progress):
        assert path.parent == tmp_path
        path.write_bytes(b"x")
    paths.out.write_bytes(b"x")
    paths.clean_up()
    assert list(tmp_path.iterdir()) == [paths.out]
    remove(paths.partial)
