"""What figures depend on: the machine, and the versions of what ran."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from bert_serving.client.version import __version__

__all__ = ["describe_machine", "memory_bytes", "memory_of", "package_version"]

PACKAGES = ("onnxruntime", "tensorflow", "tokenizers", "numpy", "pyzmq")
#: Where Linux shows the memory limit of a container: version 2 of control groups, and version 1.
CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def describe_machine(packages: Sequence[str] = PACKAGES) -> Dict[str, Any]:
    """Values of JSON; ``load_average`` tells whether others were busy when it began."""
    versions = {name: package_version(name) for name in packages}
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_bytes(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name, version in versions.items() if version},
        "bert_serving": __version__,
    }


def package_version(name: str) -> Optional[str]:
    """The version of an installed package, which isn't imported; None if it isn't there.

    From the names of the directories that wheels leave ("<name>-<version>.dist-info"), for
    Python 3.7 has no importlib.metadata.
    """
    wanted = name.lower().replace("-", "_")
    for entry in sys.path:
        for path in sorted(Path(entry).glob("*.dist-info")):
            found, _, version = path.name[: -len(".dist-info")].partition("-")
            if found.lower().replace(".", "_") == wanted:
                return version
    return None


def cpu_name(path: str = "/proc/cpuinfo") -> str:
    """As Linux names the CPU; else its architecture."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def memory_bytes(limits: Sequence[str] = CGROUP_LIMITS) -> int:
    """The memory of this machine, or of the container if that has less."""
    amount = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in limits:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():  # else it is "max"
            amount = min(amount, int(text))
    return amount


def memory_of(process: str, field: str) -> int:
    """Bytes of a process ("self", or its number): VmRSS, what it holds, or VmHWM, the most it held.

    From /proc: unlike getrusage's, VmHWM doesn't begin with the memory of the process that
    started this one. Raises OSError, also for a process that has ended.
    """
    text = Path("/proc/%s/status" % process).read_text(encoding="ascii", errors="replace")
    found = re.search(r"^%s:\s+(\d+) kB$" % field, text, re.MULTILINE)
    if not found:
        raise ProcessLookupError("process %s has ended" % process)
    return int(found.group(1)) * 1024
