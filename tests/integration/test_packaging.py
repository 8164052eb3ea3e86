"""The distribution, built and installed, and what importing its parts loads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import List

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("client", "server", "graph_opt", "benchmarks")
WEB = ("fastapi", "starlette", "uvicorn")
ENGINES = ("onnxruntime", "onnx", "tensorflow", "torch", "transformers")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        list(words),
        cwd=str(cwd),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def module_names() -> List[str]:
    """Every module of the distribution."""
    names = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            names.append(".".join(["bert_serving"] + [p for p in parts if p != "__init__"]))
    return names


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, for building leaves files behind."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(str(ROOT / name), str(copy / name))
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(str(ROOT / folder), str(copy / folder), ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that sees this one's packages, but not this project."""
    directory = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(directory / "venv"))
    python = directory / "venv" / "bin" / "python"
    site = run(str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])")
    mine = run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])")
    links = Path(site.strip())
    for entry in Path(mine.strip()).iterdir():
        is_ours = "bert_serving" in entry.name or "bert-serving" in entry.name
        if not is_ours and entry.suffix != ".pth":
            (links / entry.name).symlink_to(entry)
    return python


CHECK = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"


def test_wheel(source: Path, environment: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("bert_serving-*.whl")
    files = zipfile.ZipFile(str(wheel)).namelist()
    packaged = {name for name in files if name.endswith(".py")}
    expected = {
        "bert_serving/" + path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    assert packaged == expected
    assert {"bert_serving/%s/py.typed" % folder for folder in FOLDERS} <= set(files)
    target = tmp_path / "target"
    run(*pip, "install", "--no-deps", "--target", str(target), str(wheel))
    code = "import sys; sys.path.insert(0, %r); " % str(target)
    run(str(environment), "-c", code + CHECK, *module_names(), cwd=tmp_path)
    commands = (target / "bin").iterdir()
    assert sorted(path.name for path in commands) == [
        "bert-serving-benchmark",
        "bert-serving-encode",
        "bert-serving-keygen",
        "bert-serving-optimize",
        "bert-serving-reload",
        "bert-serving-start",
        "bert-serving-terminate",
    ]


def test_editable(source: Path, environment: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    pip += ["--python", str(environment)]
    run(*pip, "install", "--no-deps", "--no-build-isolation", "--editable", str(source))
    run(str(environment), "-c", CHECK, *module_names(), cwd=tmp_path)
    where = run(
        str(environment),
        "-c",
        "import bert_serving.server as s; print(s.__file__)",
        cwd=tmp_path,
    )
    assert Path(where.strip()) == source / "server" / "__init__.py"


LOADED = "import sys; %s; print(sorted({name.partition('.')[0] for name in sys.modules}))"


@pytest.mark.parametrize(
    "statement",
    [
        "import bert_serving.server",
        "import bert_serving.graph_opt",
        "import bert_serving.benchmarks",
        "from bert_serving.server.helper import get_args_parser; get_args_parser()",
        "from bert_serving.server import ventilator, sink, supervisor, preparation",
    ],
)
def test_no_engine_is_loaded(statement: str) -> None:
    loaded = run(sys.executable, "-c", LOADED % statement)
    assert "bert_serving" in loaded
    for name in ENGINES + WEB:
        assert "'%s'" % name not in loaded


def test_the_client_needs_little() -> None:
    loaded = run(sys.executable, "-c", LOADED % "import bert_serving.client")
    heavy = ("tokenizers", "termcolor", "safetensors", "huggingface_hub", "rich")
    for name in ENGINES + heavy:
        assert "'%s'" % name not in loaded
    names = "import sys, bert_serving.client; print([n for n in sys.modules if 'bert_s' in n])"
    assert "bert_serving.server" not in run(sys.executable, "-c", names)


@pytest.mark.parametrize("command", ["reload", "start", "terminate"])
def test_help_loads_no_engine(command: str) -> None:
    code = (
        "import sys\n"
        "from bert_serving.server.cli import %s\n"
        "try:\n"
        "    %s(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "print(sorted(sys.modules))" % (command, command)
    )
    output = run(sys.executable, "-c", code)
    assert "usage: bert-serving-%s" % command in output
    for name in ENGINES + ("tokenizers", "huggingface_hub"):
        assert "'%s'" % name not in output.splitlines()[-1]
