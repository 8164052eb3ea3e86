"""Which device each worker computes on.

:func:`assign` is pure; :func:`list_gpus` asks the machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from bert_serving.server.errors import StartupError

__all__ = ["Gpu", "assign", "cpu_threads", "cuda_is_installed", "cuda_name", "list_gpus"]

#: A GPU with less of its memory free than this share is busy with something else.
LEAST_FREE = 0.1


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA device; ``index`` counts those that CUDA_VISIBLE_DEVICES lets this process see."""

    index: int
    free_share: float  # of its memory


def assign(
    num_worker: int, gpus: Sequence[Gpu], device_map: Sequence[int], cpu: bool
) -> Tuple[int, ...]:
    """The GPU number of each worker, -1 for the CPU.

    Named devices are taken in turn; otherwise those with memory free, the freest first.

    Raises StartupError if a named GPU doesn't exist.
    """
    if cpu:
        return (-1,) * num_worker
    known = {gpu.index for gpu in gpus}
    for number in device_map:
        if number not in known:
            raise StartupError(
                "-device_map names GPU %d, but this machine has %s; use -cpu to compute on the CPU"
                % (number, "only GPU " + ", ".join(map(str, sorted(known))) if known else "none")
            )
    usable = sorted((gpu for gpu in gpus if gpu.free_share > LEAST_FREE), key=_busiest_last)
    candidates = list(device_map) or [gpu.index for gpu in usable]
    if not candidates:
        return (-1,) * num_worker
    return tuple(candidates[i % len(candidates)] for i in range(num_worker))


def _busiest_last(gpu: Gpu) -> Tuple[float, int]:
    return -gpu.free_share, gpu.index


def cpu_threads(num_worker: int) -> int:
    """Threads for each worker so that all of them together use the cores of this process."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // num_worker)


def cuda_name(index: int) -> str:
    """What CUDA_VISIBLE_DEVICES must be for a process to see only this GPU."""
    visible = _visible()
    return str(index) if visible is None else visible[index]


def _visible() -> Optional[List[str]]:
    """The numbers or UUIDs in CUDA_VISIBLE_DEVICES; None if all GPUs may be used.

    As for CUDA, the list ends at the first that can't be.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return None
    names = [name.strip() for name in named.split(",")]
    return list(takewhile(lambda name: name and not name.startswith("-"), names))


def list_gpus() -> List[Gpu]:
    """The NVIDIA devices of this machine, by nvidia-ml-py or else GPUtil; none if neither is."""
    if find_spec("pynvml") is not None:
        return _gpus_of_nvml()
    # GPUtil needs distutils, which left Python with 3.12.
    if find_spec("GPUtil") is not None and find_spec("distutils") is not None:
        return _gpus_of_gputil()
    return []


def _gpus_of_nvml() -> List[Gpu]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # the library is installed, the driver isn't: a machine without GPU
    try:
        names = _visible()
        if names is None:
            names = [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
        found = []
        for index, name in enumerate(names):
            try:
                if name.isdigit():
                    handle = pynvml.nvmlDeviceGetHandleByIndex(int(name))
                else:
                    handle = pynvml.nvmlDeviceGetHandleByUUID(name)
            except pynvml.NVMLError:
                break  # there is no such device, and CUDA sees none behind it
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            found.append(Gpu(index, memory.free / memory.total))
        return found
    finally:
        pynvml.nvmlShutdown()


def _gpus_of_gputil() -> List[Gpu]:
    import GPUtil

    try:
        free = {str(gpu.id): 1.0 - gpu.memoryUtil for gpu in GPUtil.getGPUs()}
    except FileNotFoundError:
        return []  # no nvidia-smi: a machine without GPU
    names = _visible()
    known = takewhile(free.__contains__, sorted(free, key=int) if names is None else names)
    return [Gpu(index, free[name]) for index, name in enumerate(known)]


def cuda_is_installed(engine: str) -> bool:
    """Whether the installed engine is one for GPUs; found out without importing it."""
    package = find_spec(engine)
    if package is None or package.origin is None:
        return False
    if engine == "tensorflow":
        return _tensorflow_has_cuda(Path(package.origin).parent)
    # The packages onnxruntime and onnxruntime-gpu overwrite each other's files; the one that was
    # installed last says so in a file of its own.
    about = Path(package.origin).parent / "capi" / "build_and_package_info.py"
    return about.is_file() and "onnxruntime-gpu" in about.read_text(encoding="utf-8")


def _tensorflow_has_cuda(package: Path) -> bool:
    # In 1.15 the package "tensorflow" is a shell around "tensorflow_core".
    for directory in (package.parent / "tensorflow_core", package):
        about = directory / "python" / "platform" / "build_info.py"
        if about.is_file():
            text = about.read_text(encoding="utf-8")
            return re.search(r"is_cuda_build\W+True", text) is not None
    return False
