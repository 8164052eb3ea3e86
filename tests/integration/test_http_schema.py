"""What ``/openapi.json`` says is true: schemathesis makes up requests and checks the answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import environment, http_flags, running, url_of

pytestmark = pytest.mark.slow

#: A text that is too long for the model is well formed; so is the name of another model.
CONFIG = """\
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "404", "413"]
negative_data_rejection.expected-statuses = ["400", "404", "405", "413", "415"]
"""


@pytest.mark.timeout(600)
def test_answers_are_as_documented(tmp_path: Path) -> None:
    """No answer of 5xx, none that isn't documented, all of the documented form."""
    pytest.importorskip("schemathesis")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    flags = ["-engine", "echo", "-http_max_rows", "20", "-http_max_body", "1"]
    with running(*flags, *http_flags()) as server:
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", url_of(server) + "/openapi.json"]
            + ["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "40"]
            + ["--generation-deterministic", "--continue-on-failure", "--no-color"],
            cwd=str(tmp_path),
            env=environment(NO_PROXY="*"),
            capture_output=True,
            text=True,
            timeout=500,
        )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
