"""The examples, each as a process of its own, with this project's client and with that of 1.10.0.

They are written as 1.10's users write programs. That they run with the original client shows that
they use nothing else.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import pytest
from support import environment, free_ports, running

from bert_serving.client import __version__
from bert_serving.server import BertServer

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
#: Seconds for an example to end.
PATIENCE = 60

pytestmark = pytest.mark.timeout(300)

#: Runs an example with the module's server and returns what it prints.
Run = Callable[..., str]


@pytest.fixture(scope="module")
def server(golden: Path) -> Iterator[BertServer]:
    """A small model, whose vectors have 40 numbers."""
    model = str(golden / "tf1-tiny" / "model")
    # Its vocabulary has letters rather than words, so that sequences are long.
    flags = ["-cpu", "-model_dir", model, "-max_seq_len", "60", "-show_tokens_to_client"]
    with running(*flags) as server:
        yield server


@pytest.fixture(params=["this-client", "original-client"])
def run(request: pytest.FixtureRequest, server: BertServer) -> Run:
    if request.param == "this-client":
        python = [sys.executable, "-W", "error"]
    else:
        python = request.getfixturevalue("original_client")
    ports = [str(server.spec.port), str(server.spec.port_out)]

    def example(name: str, text: str = "") -> str:
        return output_of([*python, str(EXAMPLES / name), *ports], text)

    return example


def output_of(words: "list[str]", text: str = "") -> str:
    """What a program prints that ends well and doesn't complain."""
    done = subprocess.run(
        words,
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        # A proxy would not find this machine's own ports.
        env=environment(no_proxy="localhost"),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_encode_sentences(run: Run) -> None:
    lines = run("encode_sentences.py").splitlines()
    assert lines[0] == "shape: (3, 40), dtype: float32"
    cosines = np.array([[float(value) for value in line.split()[:3]] for line in lines[1:4]])
    np.testing.assert_allclose(cosines, cosines.T)
    np.testing.assert_allclose(cosines.diagonal(), 1.0)
    assert lines[4:] == ["pair: (1, 40)", "list of 40 numbers"]


def test_fetch_later(run: Run) -> None:
    assert run("fetch_later.py").splitlines() == [
        "sent 8 batches",
        "fetched 8 batches, 40 rows",
        "all: (40, 40), the same: True",
        "nothing is left: True",
    ]


def test_encode_async(run: Run) -> None:
    printed = run("encode_async.py")
    assert len(re.findall(r"^request \d+: \(16, 40\)$", printed, re.MULTILINE)) == 10
    assert printed.splitlines()[10:] == ["160 rows in all"] + ["tokenized: (2, 40)"] * 3


def test_concurrent_threads(run: Run) -> None:
    assert run("concurrent_threads.py").splitlines() == ["20 requests answered", "20 are right"]


def test_show_tokens(run: Run) -> None:
    first, second, *rest = run("show_tokens.py").splitlines()
    for line, text in ((first, "hello world"), (second, "have a good day!")):
        shape, tokens = line.split(": ", 1)
        assert shape == "(40,)"
        assert re.fullmatch(r"\[CLS\] .* \[SEP\]", tokens)
        assert re.sub(r"\[CLS\]|\[SEP\]|##| ", "", tokens) == text.replace(" ", "")
    assert rest == ["tokenized: (2, 40), the same: True", "unknown: [CLS] a [UNK] [SEP]"]


def test_faq_search(run: Run) -> None:
    questions = ["Can I export my data?", "How can I delete my account?"]
    lines = run("faq_search.py", "\n\n".join(questions)).splitlines()
    assert lines[0] == "8 questions known"
    for number, question in enumerate(questions):
        answer = lines[1 + 4 * number : 5 + 4 * number]
        assert answer[:2] == ["> " + question, " 1.000  " + question]
        scores = [float(line.split()[0]) for line in answer[1:]]
        assert scores == sorted(scores, reverse=True)
    assert len(lines) == 1 + 4 * len(questions)


def test_server_status(run: Run, request: pytest.FixtureRequest) -> None:
    printed = run("server_status.py")
    versions = {"this-client": __version__, "original-client": "1.10.0"}
    values = dict(re.findall(r"^ +(\S+) = (.*)$", printed, re.MULTILINE))
    assert values["client_version"] == versions[request.node.callspec.params["run"]]
    assert values["server_version"] == "1.10.0"
    assert values["timeout"] == "10000"
    assert (values["num_request"], values["num_pending_request"]) == ("2", "0")
    assert (values["max_seq_len"], values["pooling_strategy"]) == ("60", "2")
    assert int(values["num_data_request"]) >= 1
    assert int(values["num_total_seq"]) >= 2


def test_multicast(run: Run) -> None:
    assert run("multicast.py").splitlines() == [
        "receiver %d, batch %d: (2, 40)" % (receiver, batch)
        for receiver in range(2)
        for batch in range(1, 4)
    ]


def test_http_curl(golden: Path) -> None:
    port = free_ports()[0]
    model = str(golden / "tf1-tiny" / "model")
    with running("-cpu", "-model_dir", model, "-http_port", str(port)):
        script = str(EXAMPLES / "http_curl.sh")
        texts, tokens, server, client = output_of(["sh", script, str(port)]).splitlines()
    for line, request_id in ((texts, 123), (tokens, 124)):
        answer = json.loads(line)
        assert sorted(answer) == ["id", "result", "status"]
        assert (answer["id"], answer["status"]) == (request_id, 200)
        assert np.array(answer["result"]).shape == (2, 40)
    assert json.loads(server)["server_version"] == "1.10.0"
    assert json.loads(client)["num_request"] >= 2
    assert json.loads(server)["status"] == json.loads(client)["status"] == 200


def test_all_are_listed_and_tested() -> None:
    here = Path(__file__).read_text("utf-8")
    listed = re.findall(
        r"^\| \[(\S+)\]\(\1\) \|", (EXAMPLES / "README.md").read_text("utf-8"), re.M
    )
    there = [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")]
    assert sorted(listed) == sorted(there)
    assert [name for name in there if '"%s"' % name not in here] == []
