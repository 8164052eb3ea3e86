"""What is told of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bert_serving.benchmarks.machine import (
    cpu_name,
    describe_machine,
    memory_bytes,
    memory_of,
    package_version,
)


def test_cpu_name(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Another\n")
    assert cpu_name(str(path)) == "Some CPU @ 2 GHz"
    assert cpu_name(str(tmp_path / "nowhere"))


def test_a_container_may_have_less_memory(tmp_path: Path) -> None:
    whole = memory_bytes(limits=[])
    (tmp_path / "small").write_text("1048576\n")
    (tmp_path / "none").write_text("max\n")
    (tmp_path / "huge").write_text("9223372036854771712\n")
    assert memory_bytes([str(tmp_path / "small")]) == 2**20
    others = [str(tmp_path / name) for name in ("none", "huge", "nowhere")]
    assert memory_bytes(others) == whole


def test_memory_of_a_process() -> None:
    before = memory_of("self", "VmRSS")
    array = np.ones(2**25, np.uint8)
    assert memory_of("self", "VmHWM") >= before + len(array) // 2
    with pytest.raises(OSError, match="has ended"):
        memory_of("self", "VmNone")


def test_versions() -> None:
    assert package_version("numpy") == np.__version__
    assert package_version("no-such-package-here") is None


def test_the_description() -> None:
    found = describe_machine()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["packages"]["numpy"] == np.__version__
    assert found["cpu"]
