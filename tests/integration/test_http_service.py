"""HTTP through real processes and sockets: one server for all tests of this module."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import PATIENCE, client_of, http_flags, running, url_of, wait_for

from bert_serving.benchmarks.clients import ClosedLoad
from bert_serving.benchmarks.http_load import http_closed_loop
from bert_serving.benchmarks.workloads import Batch
from bert_serving.server import BertServer
from bert_serving.server.engines.echo import echo_vector, vocabulary
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings

CONNECTIONS = 64
TOKENIZER = Tokenizer(vocabulary(), TokenizerSettings(max_length=512))


def expected(texts: Any) -> np.ndarray:
    encoded = TOKENIZER.encode(texts, False)
    return np.array([echo_vector(one.features[0].tolist()) for one in encoded])


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def server() -> Iterator[BertServer]:
    flags = ["-engine", "echo", "-num_worker", "2", "-http_max_connect", str(CONNECTIONS)]
    with running(*flags, *http_flags()) as running_server:
        yield running_server


@pytest.fixture
def http(server: BertServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url_of(server), timeout=PATIENCE, trust_env=False) as client:
        yield client


def metrics(http: httpx.Client) -> Dict[Any, float]:
    """Each sample's value by its name and labels."""
    answer = http.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name,) + tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_same_vectors_by_all_ways(server: BertServer, http: httpx.Client) -> None:
    texts = ["hello world", "a much longer text that goes on and on", "x"]
    with client_of(server) as client:
        vectors = client.encode(texts)
    np.testing.assert_array_equal(vectors, expected(texts))
    legacy = http.post("/encode", json={"id": 7, "texts": texts}).json()
    assert (legacy["id"], legacy["status"]) == (7, 200)
    np.testing.assert_array_equal(np.array(legacy["result"], np.float32), vectors)
    openai = http.post("/v1/embeddings", json={"model": "echo", "input": texts}).json()
    found = np.array([one["embedding"] for one in openai["data"]], np.float32)
    np.testing.assert_array_equal(found, vectors)
    tei = http.post("/embed", json={"inputs": texts, "normalize": False}).json()
    np.testing.assert_array_equal(np.array(tei, np.float32), vectors)


def test_curl_as_users_of_1_10_wrote_it(server: BertServer) -> None:
    words = ["curl", "--silent", "-X", "POST", url_of(server) + "/encode"]
    words += ["-H", "content-type: application/json"]
    words += ["-d", '{"id": 123,"texts": ["hello world"], "is_tokenized": false}']
    try:
        done = subprocess.run(words, capture_output=True, timeout=PATIENCE, check=True)
    except FileNotFoundError:
        pytest.skip("curl isn't installed")
    answer = json.loads(done.stdout)
    np.testing.assert_array_equal(np.array(answer["result"], np.float32), expected(["hello world"]))
    assert (answer["id"], answer["status"]) == (123, 200)


def test_tokenized_texts_and_token_ids(http: httpx.Client) -> None:
    order = {"texts": [["h", "##i"]], "is_tokenized": True}
    vectors = http.post("/encode", json=order).json()["result"]
    np.testing.assert_array_equal(np.array(vectors, np.float32), expected(["hi"]))
    (tokens,) = http.post("/tokenize", json={"inputs": "hi"}).json()
    order = {"model": "echo", "input": [one["id"] for one in tokens]}
    (one,) = http.post("/v1/embeddings", json=order).json()["data"]
    np.testing.assert_array_equal(np.array(one["embedding"], np.float32), expected(["hi"])[0])


@pytest.mark.parametrize("is_special", [False, True])
def test_ids_that_are_too_many_are_cut_as_texts_are(http: httpx.Client, is_special: bool) -> None:
    text = "a b c d " * 300
    ids = [vocabulary()[token] for token in text.split()]
    if is_special:
        ids = [vocabulary()["[CLS]"]] + ids + [vocabulary()["[SEP]"]]
    both = [
        http.post("/v1/embeddings", json={"model": "echo", "input": one}).json()
        for one in ([text, "a"], [ids, [vocabulary()["a"]]])
    ]
    assert both[0] == both[1]
    order = {"texts": [text.split()], "is_tokenized": True}
    vectors = http.post("/encode", json=order).json()["result"]
    np.testing.assert_array_equal(np.array(vectors, np.float32), expected([text]))


def test_texts_that_are_too_long(http: httpx.Client) -> None:
    long = "x " * 600
    answer = http.post("/embed", json={"inputs": ["a", long]})
    assert answer.status_code == 413
    assert answer.json()["error_type"] == "Validation"
    assert "text 1" in answer.json()["error"]
    for direction in ("Right", "Left"):
        order = {"inputs": "a %sb" % long, "truncate": True, "truncation_direction": direction}
        assert http.post("/embed", json=order).status_code == 200


def test_gzip_both_ways(http: httpx.Client) -> None:
    body = gzip.compress(json.dumps({"texts": ["text %d" % n for n in range(300)]}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = http.post("/encode", content=body, headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["result"]) == 300


def test_a_body_without_a_length(http: httpx.Client) -> None:
    body = json.dumps({"texts": ["hi"]}).encode()
    answer = http.post("/encode", content=iter([body[:5], body[5:]]))
    assert answer.status_code == 200


def test_probes_and_status(http: httpx.Client) -> None:
    assert http.get("/healthz").status_code == 200
    assert http.get("/readyz").json() == {"status": "ok", "reason": None}
    status = http.get("/status/server").json()
    assert status["server_version"] == "1.10.0"
    assert status["status"] == 200
    assert http.get("/status/client").json()["num_request"] > 0


@pytest.mark.timeout(300)
def test_many_connections_and_metrics_that_add_up(server: BertServer, http: httpx.Client) -> None:
    """Every request is answered, and counted once everywhere."""
    repeats, rows = 20, 3
    before = metrics(http)
    batches = [
        [Batch(["client %d, text %d" % (client, row) for row in range(rows)], tokens=0)]
        for client in range(CONNECTIONS)
    ]
    load = ClosedLoad(CONNECTIONS, repeats=repeats, warm_up=1, timeout=120.0)
    assert server.spec.http is not None
    result = http_closed_loop(server.spec.http.port, "echo", batches, load, "/v1/embeddings")
    assert result.errors == {}
    # That the last batch is done may be told after its vectors were.
    wait_for(lambda: not metrics(http)[("bert_serving_open_requests",)], "the last batch")
    after = metrics(http)
    sent = CONNECTIONS * repeats

    def grown(*name: Any) -> float:
        return after[name] - before.get(name, 0.0)

    labels = ("method", "POST"), ("path", "/v1/embeddings"), ("status", "200")
    assert grown("bert_serving_http_requests_total", *labels) == sent
    path = ("path", "/v1/embeddings")
    assert grown("bert_serving_http_request_seconds_count", path) == sent
    assert grown("bert_serving_requests_total") == sent
    assert grown("bert_serving_rows_total") == sent * rows
    texts = [text for (batch,) in batches for text in batch.texts]
    tokens = TOKENIZER.encode(texts, False).features.shape[1]
    assert grown("bert_serving_tokens_total") == tokens * repeats
    assert grown("bert_serving_batch_rows_sum") == sent * rows
    for stage in ("tokenize", "queue", "compute", "total"):
        assert grown("bert_serving_stage_seconds_count", ("stage", stage)) == sent
    busy = [name for name in after if name[0] == "bert_serving_worker_batches_total"]
    assert sum(grown(*name) for name in busy) == grown("bert_serving_batches_total")
    assert after[("bert_serving_open_requests",)] == after[("bert_serving_waiting_rows",)] == 0
    assert after[("bert_serving_http_requests_in_progress",)] == 1  # the one that asks


def test_base64_is_float32(http: httpx.Client) -> None:
    order = {"model": "default", "input": "hi", "encoding_format": "base64"}
    (one,) = http.post("/v1/embeddings", json=order).json()["data"]
    found = np.frombuffer(base64.b64decode(one["embedding"]), "<f4")
    np.testing.assert_array_equal(found, expected(["hi"])[0])


def test_what_is_no_http(server: BertServer) -> None:
    assert server.spec.http is not None
    with socket.create_connection(("127.0.0.1", server.spec.http.port), PATIENCE) as raw:
        raw.sendall(b"\x00\xff nonsense\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_a_client_that_hangs_up_while_it_sends(server: BertServer, http: httpx.Client) -> None:
    """It counts as gone, not as a bug of the server's."""
    assert server.spec.http is not None
    port = server.spec.http.port
    name = "bert_serving_http_requests_total", ("method", "POST"), ("path", "/encode")
    gone, failed = name + (("status", "499"),), name + (("status", "500"),)
    before = metrics(http)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as raw:
        raw.sendall(b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        wait_for(
            lambda: metrics(http)[("bert_serving_http_requests_in_progress",)] > 1, "it to begin"
        )
    wait_for(lambda: metrics(http).get(gone, 0.0) == before.get(gone, 0.0) + 1, "it to be noticed")
    assert metrics(http).get(failed, 0.0) == before.get(failed, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "start", "value"),
    [
        ("/encode", '{"texts":["a"],"id":[', "{}"),
        ("/encode", '{"texts":["a"],"other":[', "[]"),
        ("/v1/embeddings", '{"model":"echo","input":[', "5"),
    ],
)
def test_what_is_large_when_parsed_is_not(
    server: BertServer, http: httpx.Client, path: str, start: str, value: str
) -> None:
    """A body within the limit, which took 1 GB."""
    (pid,) = [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.cmdline()[-2:] == ["bert_serving.server.process", "http"]
    ]

    def peak() -> int:
        """MB of memory that it has had at most."""
        status = Path("/proc/%d/status" % pid).read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) >> 10

    body = (start + ",".join([value] * (30_000_000 // (len(value) + 1))) + "]}").encode("ascii")
    before = peak()
    answer = http.post(path, content=body)
    assert answer.status_code == 413
    assert "too many values" in answer.text
    assert peak() - before < 300
