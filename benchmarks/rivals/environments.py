"""Virtual environments of the rivals: made once, kept, and told apart by what is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Optional, Sequence, Tuple

from bert_serving.benchmarks.errors import BenchmarkError

__all__ = ["RIVALS", "Rival", "environment", "find_python", "installed_versions"]

#: Lines of pip's output that tell why it failed.
LAST_LINES = 5


@dataclass(frozen=True)
class Rival:
    """What to install, and by which Python ("" is the one that runs this).

    ``packages`` are those whose versions stand in the results.
    """

    name: str
    requirements: Tuple[str, ...]
    packages: Tuple[str, ...]
    python: str = ""


RIVALS: Dict[str, Rival] = {
    rival.name: rival
    for rival in (
        Rival(
            "bert-as-service",
            # The last releases that work with TensorFlow 1.15.
            ("bert-serving-server==1.10.0", "tensorflow==1.15.0", "numpy<1.20", "protobuf<3.21"),
            ("bert-serving-server", "tensorflow", "tensorflow-gpu", "numpy", "pyzmq"),
            python="3.7",
        ),
        Rival(
            "sentence-transformers",
            ("sentence-transformers", "torch"),
            ("sentence-transformers", "torch", "transformers"),
        ),
        Rival(
            "infinity",
            ("infinity-emb[server,torch]",),
            ("infinity-emb", "sentence-transformers", "torch", "transformers"),
        ),
    )
}


def environment(rival: Rival, directory: Path) -> Path:
    """The rival's virtual environment below ``directory``, made now if it isn't there.

    Raises BenchmarkError if there is no such Python, or pip fails.
    """
    place = directory / rival.name
    stamp = place / "installed"
    wanted = "\n".join(rival.requirements)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return place
    python = find_python(rival.python) if rival.python else sys.executable
    if python is None:
        raise BenchmarkError(
            "%s needs Python %s, and none was found; name one: PYTHON%s=/path/to/python"
            % (rival.name, rival.python, rival.python.replace(".", ""))
        )
    print("installing %s to %s" % (rival.name, place), file=sys.stderr)
    _run([python, "-m", "venv", "--clear", str(place)])
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _run(pip + list(rival.requirements))
    stamp.write_text(wanted, encoding="utf-8")
    return place


def find_python(version: str) -> Optional[str]:
    """An interpreter of this version ("3.7"): the variable PYTHON37, the path, or pyenv's."""
    return next((one for one in _candidates(version) if _is_version(one, version)), None)


def _candidates(version: str) -> Iterator[str]:
    named = os.environ.get("PYTHON" + version.replace(".", ""))
    if named:
        yield named
    on_path = shutil.which("python" + version)
    if on_path:
        yield on_path
    roots = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")]
    pyenv = shutil.which("pyenv")
    if pyenv:
        roots.append(Path(pyenv).parent.parent)
    for root in roots:
        for path in sorted(root.glob("versions/%s.*/bin/python" % version)):
            yield str(path)


def _is_version(python: str, version: str) -> bool:
    """Whether it runs at all (pyenv's shims may not) and is of this version."""
    try:
        done = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.decode("ascii").strip() == version


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        last = done.stdout.decode("utf-8", "replace").strip().splitlines()[-LAST_LINES:]
        raise BenchmarkError("%s failed: %s" % (" ".join(command[:4]), " / ".join(last)))


def installed_versions(place: Path, packages: Sequence[str]) -> Dict[str, str]:
    """Versions of packages in a virtual environment, as far as they are there."""
    versions = {}
    for path in sorted(place.glob("lib/python*/site-packages/*.dist-info")):
        found, _, version = path.name[: -len(".dist-info")].partition("-")
        for package in packages:
            if found.lower().replace("_", "-").replace(".", "-") == package:
                versions[package] = version
    return versions
