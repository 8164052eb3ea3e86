from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, List, Optional, Tuple

import pytest

from bert_serving.server import devices
from bert_serving.server.devices import (
    Gpu,
    assign,
    cpu_threads,
    cuda_is_installed,
    cuda_name,
    list_gpus,
)
from bert_serving.server.errors import StartupError


@pytest.fixture(autouse=True)
def _all_gpus_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


GPUS = [Gpu(0, 0.5), Gpu(1, 0.05), Gpu(2, 0.9), Gpu(3, 0.5)]


@pytest.mark.parametrize(
    ("num_worker", "device_map", "expected"),
    [
        (1, [], (2,)),
        (3, [], (2, 0, 3)),
        (5, [], (2, 0, 3, 2, 0)),
        (1, [1, 3], (1,)),
        (3, [1, 3], (1, 3, 1)),
        (2, [3, 3], (3, 3)),
    ],
)
def test_workers_take_devices_in_turn(
    num_worker: int, device_map: List[int], expected: Tuple[int, ...]
) -> None:
    assert assign(num_worker, GPUS, device_map, cpu=False) == expected


def test_without_gpu_the_cpu_computes() -> None:
    assert assign(2, [], [], cpu=False) == (-1, -1)


def test_without_a_gpu_that_has_memory_free_the_cpu_computes() -> None:
    assert assign(2, [Gpu(0, 0.0), Gpu(1, 0.1)], [], cpu=False) == (-1, -1)


def test_cpu_is_stronger_than_a_device_map() -> None:
    assert assign(2, GPUS, [1], cpu=True) == (-1, -1)
    assert assign(1, [], [7], cpu=True) == (-1,)


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        (GPUS, r"-device_map names GPU 7, but this machine has only GPU 0, 1, 2, 3; use -cpu"),
        ([], r"-device_map names GPU 7, but this machine has none; use -cpu"),
    ],
)
def test_a_device_that_is_not_there_is_named(gpus: List[Gpu], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        assign(1, gpus, [0, 7] if gpus else [7], cpu=False)


@pytest.mark.parametrize(
    ("cores", "num_worker", "threads"), [(8, 1, 8), (8, 3, 2), (8, 8, 1), (2, 5, 1)]
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, num_worker: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert cpu_threads(num_worker) == threads


def test_cores_are_counted_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpu_threads(2) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_threads(2) == 1


def test_without_a_library_that_knows_gpus_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> Any:
        return None

    monkeypatch.setattr(devices, "find_spec", find_nothing)
    assert list_gpus() == []
    assert not cuda_is_installed("onnxruntime")
    assert not cuda_is_installed("tensorflow")


@pytest.mark.parametrize(
    ("about", "installed"),
    [
        ("package_name = 'onnxruntime-gpu'\n", True),
        ("package_name = 'onnxruntime'\n", False),
        (None, False),
    ],
)
def test_which_onnxruntime_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, about: Optional[str], installed: bool
) -> None:
    (tmp_path / "capi").mkdir()
    if about is not None:
        (tmp_path / "capi" / "build_and_package_info.py").write_text(about)
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(devices, "find_spec", lambda name: found)
    assert cuda_is_installed("onnxruntime") is installed


@pytest.mark.parametrize(
    ("package", "about", "installed"),
    [
        ("tensorflow", "build_info = OrderedDict([('is_cuda_build', True), ('is_rocm'", True),
        ("tensorflow", "build_info = OrderedDict([('is_cuda_build', False), ('is_rocm'", False),
        ("tensorflow_core", "is_rocm_build = False\nis_cuda_build = True\n", True),
        ("tensorflow_core", "is_rocm_build = True\nis_cuda_build = False\n", False),
        ("elsewhere", "is_cuda_build = True\n", False),
    ],
)
def test_which_tensorflow_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, about: str, installed: bool
) -> None:
    directory = tmp_path / package / "python" / "platform"
    directory.mkdir(parents=True)
    (directory / "build_info.py").write_text(about)
    found = SimpleNamespace(origin=str(tmp_path / "tensorflow" / "__init__.py"))
    monkeypatch.setattr(devices, "find_spec", lambda name: found)
    assert cuda_is_installed("tensorflow") is installed


class Nvml(ModuleType):
    """What is used of pynvml; ``memory`` is (free, total) of each device."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, memory: List[Tuple[int, int]], has_driver: bool = True) -> None:
        super().__init__("pynvml")
        self.memory, self.has_driver, self.is_open = memory, has_driver, False

    def nvmlInit(self) -> None:
        if not self.has_driver:
            raise self.NVMLError("Driver Not Loaded")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.memory)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= len(self.memory):
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> int:
        if not name.startswith("GPU-"):
            raise self.NVMLError("Not Found")
        return int(name[len("GPU-") :])

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        free, total = self.memory[handle]
        return SimpleNamespace(free=free, total=total)


def test_gpus_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Nvml([(8, 16), (4, 4)])
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(devices, "find_spec", lambda name: name == "pynvml" or None)
    assert list_gpus() == [Gpu(0, 0.5), Gpu(1, 1.0)]
    assert not library.is_open


#: CUDA_VISIBLE_DEVICES -> the shares of memory free of those that can be used, in their order.
VISIBLE = [
    ("2,0", [1.0, 0.25]),
    (" 1 ", [0.5]),
    ("1,-1,0", [0.5]),
    ("-1", []),
    ("", []),
    ("0,7,1", [0.25]),
]


@pytest.mark.parametrize(("named", "shares"), VISIBLE + [("GPU-1,0", [0.5, 0.25]), ("MIG-3", [])])
def test_nvml_counts_the_gpus_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, named: str, shares: List[float]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml([(1, 4), (2, 4), (4, 4)]))
    monkeypatch.setattr(devices, "find_spec", lambda name: name == "pynvml" or None)
    assert list_gpus() == [Gpu(index, share) for index, share in enumerate(shares)]


@pytest.mark.parametrize(("named", "shares"), VISIBLE)
def test_gputil_counts_them_too(
    monkeypatch: pytest.MonkeyPatch, named: str, shares: List[float]
) -> None:
    library = ModuleType("GPUtil")
    loads = (0.75, 0.5, 0.0)
    gpus = [SimpleNamespace(id=index, memoryUtil=load) for index, load in enumerate(loads)]
    monkeypatch.setattr(library, "getGPUs", lambda: gpus, raising=False)
    monkeypatch.setitem(sys.modules, "GPUtil", library)
    monkeypatch.setattr(devices, "find_spec", lambda name: name != "pynvml" or None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert list_gpus() == [Gpu(index, share) for index, share in enumerate(shares)]


def test_a_gpu_s_name_for_a_process_that_sees_only_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cuda_name(3) == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-8")
    assert [cuda_name(0), cuda_name(1)] == ["2", "GPU-8"]


def test_nvml_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml([], has_driver=False))
    monkeypatch.setattr(devices, "find_spec", lambda name: name == "pynvml" or None)
    assert list_gpus() == []


def test_gpus_by_gputil(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("GPUtil")
    gpus = [SimpleNamespace(id=0, memoryUtil=0.25)]
    monkeypatch.setattr(library, "getGPUs", lambda: gpus, raising=False)
    monkeypatch.setitem(sys.modules, "GPUtil", library)
    monkeypatch.setattr(devices, "find_spec", lambda name: name != "pynvml" or None)
    assert list_gpus() == [Gpu(0, 0.75)]

    def no_command() -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(library, "getGPUs", no_command)
    assert list_gpus() == []
