"""The real bert-serving-client 1.10.0 of the package index, unmodified, against our server.

``test_examples.py`` runs the examples with it, too.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from support import free_ports, running

pytestmark = pytest.mark.timeout(300)

#: What every program begins with: run by the client's own interpreter, it fills ``out``.
BEGIN = """
import json, sys, warnings
warnings.simplefilter("ignore")
from bert_serving.client import BertClient, ConcurrentBertClient, __version__
assert __version__ == "1.10.0"
texts, ports = json.loads(sys.argv[1]), json.loads(sys.argv[2])
out = {}
"""

EVERYTHING = """
with BertClient(**ports) as bc:
    out["blocking"] = bc.encode(texts).tolist()
    out["tokenized"] = bc.encode([["first", "do", "it"]], is_tokenized=True).tolist()
    for start in range(0, len(texts), 7):
        bc.encode(texts[start:start + 7], blocking=False)
    out["fetched"] = bc.fetch_all(concat=True).tolist()
    batches = (texts[start:start + 5] for start in range(0, len(texts), 5))
    got = sorted(bc.encode_async(batches, delay=0.5), key=lambda response: response.id)
    out["async"] = [row for response in got for row in response.embedding.tolist()]
    vectors, tokens = bc.encode(texts[:2], show_tokens=True)
    out["tokens"] = tokens
    out["config"] = bc.server_config
    out["status"] = bc.server_status["statistic"]["num_data_request"]
with BertClient(output_fmt="list", check_length=False, identity=b"mine", **ports) as bc:
    out["list"] = bc.encode(texts)
with ConcurrentBertClient(max_concurrency=3, **ports) as bc:
    out["concurrent"] = bc.encode(texts=texts).tolist()
"""

#: What 1.10's client checks itself never reaches the server, so this goes past its checks.
ERRORS = """
with BertClient(timeout=20000, **ports) as bc:
    for name, payload in (("number", b"[5]"), ("garbage", b"{"), ("nothing", b"[]")):
        request_id = bc._send(payload, 1)
        try:
            bc._recv_ndarray(request_id)
        except Exception as error:
            out[name] = str(error)
    bc._send(b"[5]", 1)
    try:
        bc.fetch_all()
    except Exception as error:
        out["fetched"] = str(error)
    out["afterwards"] = bc.encode(texts).tolist()
"""

NO_SERVER = """
try:
    BertClient(timeout=500, **ports)
except TimeoutError as error:
    out["timeout"] = str(error)
"""

VECTORS = """
is_tokenized = isinstance(texts[0], list)
with BertClient(**ports) as bc:
    vectors, tokens = bc.encode(texts, is_tokenized=is_tokenized, show_tokens=True)
    out["vectors"], out["tokens"] = vectors.tolist(), tokens
"""


def run(python: List[str], program: str, texts: List[Any], ports: Dict[str, int]) -> Dict[str, Any]:
    """What a program of the original client gets."""
    words = ["-c", BEGIN + program + "print(json.dumps(out))", json.dumps(texts), json.dumps(ports)]
    done = subprocess.run(python + words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers: Dict[str, Any] = json.loads(done.stdout)
    return answers


def ask(
    python: List[str], program: str, golden: Path, case: Dict[str, Any], *flags: str
) -> Dict[str, Any]:
    """The same with a server for a case of the reference results."""
    model = str(golden / "tf1-tiny" / "model")
    with running("-cpu", "-model_dir", model, "-show_tokens_to_client", *case["flags"]) as server:
        ports = {"port": server.spec.port, "port_out": server.spec.port_out}
        return run(python, program, case["texts"], ports)


def test_everything_that_the_original_client_can_do(
    original_client: List[str], golden: Path, cases: List[Dict[str, Any]]
) -> None:
    case = cases[2]
    reference = np.load(str(golden / "tf1-tiny" / case["file"]))
    answers = ask(original_client, EVERYTHING, golden, case)
    for name in ("blocking", "fetched", "async", "list", "concurrent"):
        np.testing.assert_allclose(answers[name], reference["vectors"], rtol=0, atol=1e-4)
    assert np.array(answers["tokenized"]).shape == (1, 40)
    assert answers["tokens"] == json.loads(str(reference["tokens"]))[:2]
    assert answers["config"]["server_version"] == "1.10.0"
    assert answers["config"]["max_seq_len"] == 25
    assert answers["config"]["pooling_strategy"] == 2
    assert answers["status"] > 5


@pytest.mark.parametrize("number", [1, 23, 25], ids=["texts", "tokens", "no-special-tokens"])
def test_vectors_of_tokens(
    number: int, original_client: List[str], golden: Path, cases: List[Dict[str, Any]]
) -> None:
    case = cases[number]
    reference = np.load(str(golden / "tf1-tiny" / case["file"]))
    answers = ask(original_client, VECTORS, golden, case)
    np.testing.assert_allclose(answers["vectors"], reference["vectors"], rtol=0, atol=1e-4)
    assert answers["tokens"] == json.loads(str(reference["tokens"]))


def test_errors_reach_the_original_client(
    original_client: List[str], golden: Path, cases: List[Dict[str, Any]]
) -> None:
    case = cases[2]
    reference = np.load(str(golden / "tf1-tiny" / case["file"]))
    answers = ask(original_client, ERRORS, golden, case)
    assert "text 0 must be a string" in answers["number"]
    assert "JSON" in answers["garbage"]
    assert "empty" in answers["nothing"]
    assert "text 0 must be a string" in answers["fetched"]
    np.testing.assert_allclose(answers["afterwards"], reference["vectors"], rtol=0, atol=1e-4)


def test_without_a_server_its_timeout_counts(original_client: List[str]) -> None:
    port, port_out = free_ports()
    answers = run(original_client, NO_SERVER, [], {"port": port, "port_out": port_out})
    assert '"timeout"=500 ms' in answers["timeout"]
