"""The examples of docs/client.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict

import pytest
from support import running

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "client.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_examples(capsys: pytest.CaptureFixture[str]) -> None:
    examples = EXAMPLE.findall(DOCUMENT.read_text("utf-8"))
    assert len(examples) > 10
    names: Dict[str, Any] = {}
    with running("-engine", "echo") as server:
        ports = "port=%d, port_out=%d" % (server.spec.port, server.spec.port_out)
        try:
            for example in examples:
                exec(example.replace("Client()", "Client(%s)" % ports), names)
        finally:
            names["client"].close()
    assert "no answer from the server" in capsys.readouterr().out
