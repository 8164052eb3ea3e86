"""What a measurement holds for: the machine's processor and the release of an engine."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Tuple

__all__ = ["processor", "release"]

CPU_INFO = Path("/proc/cpuinfo")
_TELLING = ("model name", "flags", "Features", "CPU part")


def processor(cpu_info: Path = CPU_INFO) -> Tuple[str, ...]:
    """Kind and abilities of the first CPU, as far as this system tells."""
    try:
        text = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return (platform.machine(), platform.processor())
    first = text.split("\n\n", 1)[0]
    lines = (line.partition(":") for line in first.splitlines())
    told = [value.strip() for name, _, value in lines if name.strip() in _TELLING]
    return (platform.machine(), *told)


def release(package: str) -> Tuple[str, ...]:
    """Name and version of whatever is installed as a package, which isn't imported.

    One package may come in several distributions, e.g. onnxruntime and onnxruntime-gpu: their
    metadata lie beside it.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return ()
    site = Path(spec.origin).parent.parent
    return tuple(sorted(path.name for path in site.glob(package + "*-info")))
