"""The flags of the real bert-serving-start 1.10.0 are ours, too, and the docs tell of each."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest

from bert_serving.server.helper import get_args_parser, get_shutdown_parser
from bert_serving.server.model_flags import AUTO

DOCS = Path(__file__).parent.parent.parent / "docs" / "migrating-from-1.10.md"
#: These depend on the model, or on more than the flag.
OPEN = {"max_seq_len", "do_lower_case", "pooling_layer", "pooling_strategy", "prefetch_size"}

#: The environment is made within the first test.
pytestmark = pytest.mark.timeout(900)

#: Run by the original's own interpreter: every flag with its default.
PROGRAM = """
import json
from bert_serving.server import helper
print(json.dumps({
    name: [
        [action.option_strings, action.dest, str(action.default)]
        for action in getattr(helper, name)()._actions
    ]
    for name in ("get_args_parser", "get_shutdown_parser")
}))
"""


@pytest.fixture(scope="module")
def original_flags(original_place: Path) -> Dict[str, Any]:
    python = str(original_place / "bin" / "python")
    done = subprocess.run([python, "-E", "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    flags: Dict[str, Any] = json.loads(done.stdout)
    return flags


@pytest.mark.parametrize("make", [get_args_parser, get_shutdown_parser])
def test_every_flag_of_1_10_is_known(make: Any, original_flags: Dict[str, Any]) -> None:
    ours = {name: action for action in make()._actions for name in action.option_strings}
    for names, dest, default in original_flags[make.__name__]:
        for name in names:
            assert ours[name].dest == dest
            if dest in OPEN:
                assert ours[name].default is AUTO
            else:
                assert str(ours[name].default) == default


def test_the_docs_tell_of_every_flag(original_flags: Dict[str, Any]) -> None:
    text = DOCS.read_text("utf-8")
    rows = re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE)
    told = re.findall(r"`(-\w+)`", " ".join(rows))
    theirs = [name for names, _, _ in original_flags["get_args_parser"] for name in names]
    assert sorted(told) == sorted(name for name in theirs if name not in ("-h", "--help"))
