"""The real bert-serving-client 1.10.0 of the package index, unmodified, against our server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from support import free_ports

from bert_serving.server import BertServer
from bert_serving.server.helper import get_args_parser

ROOT = Path(__file__).parent.parent.parent
REQUIREMENT = "bert-serving-client==1.10.0"

pytestmark = pytest.mark.timeout(300)

#: Run by the client's own interpreter; prints what it got as JSON.
PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
from bert_serving.client import BertClient, ConcurrentBertClient, __version__
assert __version__ == "1.10.0"
texts, ports = json.loads(sys.argv[1]), json.loads(sys.argv[2])
out = {}
with BertClient(**ports) as bc:
    out["blocking"] = bc.encode(texts).tolist()
    out["tokenized"] = bc.encode([["first", "do", "it"]], is_tokenized=True).tolist()
    for start in range(0, len(texts), 7):
        bc.encode(texts[start:start + 7], blocking=False)
    out["fetched"] = bc.fetch_all(concat=True).tolist()
    batches = (texts[start:start + 5] for start in range(0, len(texts), 5))
    got = sorted(bc.encode_async(batches), key=lambda response: response.id)
    out["async"] = [row for response in got for row in response.embedding.tolist()]
    vectors, tokens = bc.encode(texts[:2], show_tokens=True)
    out["tokens"] = tokens
    out["config"] = bc.server_config
    out["status"] = bc.server_status["statistic"]["num_data_request"]
    bc.sender.send_multipart([bc.identity, b"[5]", b"999", b"1"])
    bc.pending_request.add(999)
    try:
        bc._recv_ndarray(999)
    except Exception as error:
        out["error"] = str(error)
with ConcurrentBertClient(max_concurrency=3, **ports) as bc:
    out["concurrent"] = bc.encode(texts=texts).tolist()
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def original() -> Path:
    """The interpreter of an environment that has the original client."""
    home = ROOT / "build" / ("client-1.10-py%d%d" % sys.version_info[:2])
    python = home / "bin" / "python"
    done = home / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(pip + [REQUIREMENT], check=True)
        done.touch()
    return python


def test_the_original_client(original: Path, golden: Path) -> None:
    case = json.loads((golden / "tf1-tiny" / "cases.json").read_text("utf-8"))[2]
    reference = np.load(str(golden / "tf1-tiny" / case["file"]))
    answers = ask(original, golden, case)
    for name in ("blocking", "fetched", "async", "concurrent"):
        np.testing.assert_allclose(answers[name], reference["vectors"], rtol=0, atol=1e-4)
    assert np.array(answers["tokenized"]).shape == (1, 40)
    assert answers["tokens"] == json.loads(str(reference["tokens"]))[:2]
    assert answers["config"]["server_version"] == "1.10.0"
    assert answers["config"]["max_seq_len"] == 25
    assert answers["config"]["pooling_strategy"] == 2
    assert answers["status"] > 5
    assert "text 0 must be a string" in answers["error"]


def ask(original: Path, golden: Path, case: Dict[str, Any]) -> Dict[str, Any]:
    port, port_out = free_ports()
    flags = ["-cpu", "-model_dir", str(golden / "tf1-tiny" / "model"), "-show_tokens_to_client"]
    flags += ["-port", str(port), "-port_out", str(port_out)] + case["flags"]
    ports = json.dumps({"port": port, "port_out": port_out})
    with BertServer(get_args_parser().parse_args(flags)):
        run = subprocess.run(
            [str(original), "-c", PROGRAM, json.dumps(case["texts"]), ports],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert run.returncode == 0, run.stderr
    answers: Dict[str, Any] = json.loads(run.stdout)
    return answers
