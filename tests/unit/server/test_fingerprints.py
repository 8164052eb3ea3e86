from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bert_serving.server import fingerprints
from bert_serving.server.fingerprints import processor, release

CPU_INFO = """processor : 0
model name : Some CPU
cpu MHz  : 2600.1
flags : fpu avx2

processor : 1
model name : Another CPU
flags : fpu
"""


def test_a_processor_is_its_kind_and_what_it_can_do(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(CPU_INFO)
    assert processor(info)[1:] == ("Some CPU", "fpu avx2")
    faster = tmp_path / "faster"
    faster.write_text(CPU_INFO.replace("2600.1", "2700.9"))
    assert processor(faster) == processor(info), "its clock may change at any time"
    other = tmp_path / "other"
    other.write_text(CPU_INFO.replace("avx2", "avx512f"))
    assert processor(other) != processor(info)


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert len(processor(tmp_path / "nothing")) == 2
    assert processor() == processor()


def test_the_release_of_a_package_is_read_beside_it(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("engine", "engine-1.2.dist-info", "engine_gpu-1.3.dist-info", "other-1.dist-info"):
        (tmp_path / name).mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert release("engine") == ("engine-1.2.dist-info", "engine_gpu-1.3.dist-info")
    assert release("no_such_package") == ()


def test_a_package_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        origin = None

    monkeypatch.setattr(fingerprints, "find_spec", lambda name: Nowhere())
    assert release("namespace") == ()
