"""What comes from outside is data: nothing in the service turns it into code."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, Set

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
FILES = sorted((ROOT / "server").rglob("*.py")) + sorted((ROOT / "client").rglob("*.py"))

MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code"}
CALLS = {"eval", "exec", "compile", "__import__"}
#: pyzmq's calls that pickle.
METHODS = {"send_pyobj", "recv_pyobj", "send_serialized", "recv_serialized"}


def found(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr if node.func.attr in METHODS else ""
            yield from (word.arg for word in node.keywords if word.arg == "allow_pickle")


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    names: Set[str] = set(found(ast.parse(path.read_text("utf-8"))))
    assert names & (MODULES | CALLS | METHODS | {"allow_pickle"}) == set()
