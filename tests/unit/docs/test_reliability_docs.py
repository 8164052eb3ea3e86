"""docs/reliability.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).parent.parent.parent.parent
DOCUMENT = (ROOT / "docs" / "reliability.md").read_text("utf-8")


def named_tests() -> List[Tuple[str, str]]:
    """Files and what is named in them; one that is named without its file is in the last one's."""
    found = []
    file = ""
    for path, name in re.findall(r"`([\w/]*?(?:test_\w+\.py)?)(?:::(\w+))?`", DOCUMENT):
        if path.endswith(".py"):
            file = path.rpartition("/")[2]
        if path.endswith(".py") or (name and not path):
            found.append((file, name))
    return found


def test_the_tests_that_it_names_exist() -> None:
    texts: Dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        texts[path.name] = texts.get(path.name, "") + path.read_text("utf-8")
    named = named_tests()
    assert len(named) > 50
    for file, name in named:
        assert file in texts
        found = re.search(r"^(def %s\(|%s = )" % (name, name), texts[file], re.MULTILINE)
        assert not name or found, "%s has no %s" % (file, name)
