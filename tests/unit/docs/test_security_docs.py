"""docs/security.md names tests that exist, and all flags of security."""

from __future__ import annotations

import re
from pathlib import Path

from bert_serving.server.arguments import get_args_parser

ROOT = Path(__file__).parent.parent.parent.parent
DOCUMENT = (ROOT / "docs" / "security.md").read_text("utf-8")


def test_the_tests_that_it_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", DOCUMENT))
    assert len(named) > 10
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


def test_it_tells_of_every_flag_of_security() -> None:
    groups = {group.title: group for group in get_args_parser()._action_groups}
    for action in groups["security"]._group_actions:
        assert "`%s" % action.option_strings[0] in DOCUMENT, action.dest
