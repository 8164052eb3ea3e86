from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.server.errors import StartupError
from bert_serving.server.making import make_graph


def test_the_optimizer_gets_an_order_and_answers_with_a_path(
    program: Callable[[str], None], tmp_path: Path
) -> None:
    program(
        "import json, os, sys\n"
        "order = dict(json.load(sys.stdin), session=os.getsid(0) == os.getpid())\n"
        "json.dump({'path': json.dumps(order)}, sys.stdout)\n"
    )
    order = {"model_dir": "modèle", "directory": None, "options": {"pooling_layers": [-2]}}
    answer = json.loads(str(make_graph(order)))
    # In a session of its own, or Ctrl-C would reach it before it reaches the server.
    assert answer == dict(order, session=True)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("raise SystemExit(1)", 1),  # what a traceback leaves
        ("", 0),
        ("print('half', flush=True); raise SystemExit(3)", 3),
    ],
)
def test_an_optimizer_that_dies(program: Callable[[str], None], code: str, status: int) -> None:
    program(code)
    with pytest.raises(StartupError, match="ended with status %d; is there enough" % status):
        # More than a pipe holds, for it may be gone before it has read that.
        make_graph({"model_dir": "m" * (1 << 20)})


def test_an_error_of_the_optimizer_is_passed_on(program: Callable[[str], None]) -> None:
    program('print(\'{"error": "the file is damaged"}\'); raise SystemExit(1)')
    with pytest.raises(GraphOptError, match=r"^the file is damaged$"):
        make_graph({})


def test_an_interrupted_optimizer_is_ended_and_waited_for(
    program: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        "import os, signal, sys\n"
        "def clean_up(*_):\n"
        "    open(%r, 'w').close()\n"
        "    sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, clean_up)\n"
        "os.write(1, b'up')\n"
        "while True: signal.pause()\n" % str(tmp_path / "cleaned")
    )

    def communicate(process: Any, order: bytes) -> None:
        assert process.stdout.read(2) == b"up"
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
    with pytest.raises(KeyboardInterrupt):
        make_graph({})
    assert (tmp_path / "cleaned").exists()
