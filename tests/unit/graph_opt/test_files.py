from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from bert_serving.graph_opt.files import locked

pytest.importorskip("fcntl")

PROCESS = """
import fcntl, sys
with open(sys.argv[1], "ab") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(7)
"""


def status_of_another_process(path):
    return subprocess.call([sys.executable, "-c", PROCESS, str(path)])


def test_a_lock_shuts_out_other_processes(tmp_path):
    with locked(tmp_path / "lock"):
        assert status_of_another_process(tmp_path / "lock") == 7
    assert status_of_another_process(tmp_path / "lock") == 0


def test_a_lock_shuts_out_other_threads(tmp_path):
    inside = []
    most = []

    def enter(number):
        with locked(tmp_path / "lock"):
            inside.append(number)
            (tmp_path / "work").write_text(str(number))
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enter, range(200)))
    assert most == [1] * 200


def test_an_error_gives_the_lock_back(tmp_path):
    with pytest.raises(ValueError, match="in the block"), locked(tmp_path / "lock"):
        raise ValueError("in the block")
    assert status_of_another_process(tmp_path / "lock") == 0
