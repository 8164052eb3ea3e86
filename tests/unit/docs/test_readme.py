"""What the README says of the flags is what the parser says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Tuple

import pytest

from bert_serving.server.arguments import get_args_parser

README = (Path(__file__).parent.parent.parent.parent / "README.md").read_text("utf-8")
#: How a flag's help names its default.
DEFAULT = re.compile(r" \(default: (.*)\)$|; default: (.*)$")

ACTIONS = [action for action in get_args_parser()._actions if action.dest != "help"]


def row(action: Any) -> Tuple[str, str, str]:
    """A flag's line of the table: names, default, meaning."""
    names = [name for name in action.option_strings if not name.startswith("--")]
    help_text = (action.help or "") % {"default": action.default, "prog": "it"}
    if action.dest == "version":
        return "`-version`", "", "print the version"
    found = DEFAULT.search(help_text)
    default = (found.group(1) or found.group(2)) if found else "off" if action.nargs == 0 else ""
    return ", ".join("`%s`" % name for name in names), default, DEFAULT.sub("", help_text)


@pytest.mark.parametrize("action", ACTIONS, ids=[action.dest for action in ACTIONS])
def test_every_flag_is_in_the_table(action: Any) -> None:
    assert "| %s | %s | %s |" % row(action) in README.splitlines()


def test_no_other_flag_is() -> None:
    table = README[README.index("## Flags") :]
    assert len(re.findall(r"^\| `-", table, re.MULTILINE)) == len(ACTIONS)
