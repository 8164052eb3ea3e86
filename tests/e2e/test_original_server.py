"""Our client against the real bert-serving-server 1.10.0 of the package index, unmodified.

It runs on Python 3.7 and TensorFlow 1.15, in an environment that the first run makes (some 40 s and
1.3 GB). Where no Python 3.7 is found these tests skip themselves, unless BERT_SERVING_TEST_ORIGINAL
is set, as in CI. ``test_original_server_fallbacks.py`` has what 1.10's client couldn't.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from e2e.support import TIMEOUT, Reference, Serve, batches_of, check
from support import free_ports

from bert_serving.client import BertClient, ConcurrentBertClient, RequestTimeout

NUM_THREAD, NUM_REQUEST = 16, 8

#: The environment is made within the first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_encode(client: BertClient, reference: Reference) -> None:
    vectors = client.encode(reference.texts)
    assert vectors.dtype == np.float32
    check(vectors, reference.vectors)


def test_lists(options: Dict[str, Any], reference: Reference) -> None:
    with BertClient(output_fmt="list", **options) as client:
        vectors = client.encode(reference.texts[:3])
    assert isinstance(vectors[0][0], float)
    check(vectors, reference.vectors[:3])


def test_longer_texts_are_warned_of(options: Dict[str, Any], reference: Reference) -> None:
    with BertClient(**options) as client:
        assert client.length_limit == 25
        with pytest.warns(UserWarning, match="max_seq_len=25"):
            client.encode(reference.texts)


def test_tokens(client: BertClient, reference: Reference) -> None:
    vectors, tokens = client.encode(reference.texts, show_tokens=True)
    check(vectors, reference.vectors)
    assert tokens == reference.tokens


def test_tokenized(client: BertClient, reference: Reference) -> None:
    pieces = [tokens[1:-1] for tokens in reference.tokens]
    vectors, tokens = client.encode(pieces, is_tokenized=True, show_tokens=True)
    check(vectors, reference.vectors)
    assert tokens == reference.tokens


def test_send_now_and_fetch_later(client: BertClient, reference: Reference) -> None:
    for _ in range(2):
        for batch in batches_of(reference.texts, 7):
            client.encode(batch, blocking=False)
        check(client.fetch_all(concat=True), reference.vectors)
    assert client.fetch_all() is None
    client.encode(reference.texts[:2], blocking=False)
    (response,) = client.fetch()
    check(response.embedding, reference.vectors[:2])
    assert response.tokens == reference.tokens[:2]


def test_encode_async(client: BertClient, reference: Reference) -> None:
    responses = list(client.encode_async(iter(batches_of(reference.texts, 4))))
    responses.sort(key=lambda response: response.id)
    check(np.concatenate([response.embedding for response in responses]), reference.vectors)


def test_configuration_and_status(client: BertClient, reference: Reference) -> None:
    config = client.server_config
    assert config["server_version"] == "1.10.0"
    assert config["tensorflow_version"][:2] == ["1", "15"]
    assert "protocol" not in config
    before = client.server_status["statistic"]["num_data_request"]
    client.encode(reference.texts[:1])
    assert client.server_status["statistic"]["num_data_request"] == before + 1


def test_a_pool_in_threads(options: Dict[str, Any], reference: Reference) -> None:
    with ConcurrentBertClient(max_concurrency=4, **options) as pool, ThreadPoolExecutor(4) as run:
        results = list(run.map(lambda text: pool.encode([text]), reference.texts[:-1]))
    check(np.concatenate(results), reference.vectors[:-1])


def test_one_client_in_many_threads(client: BertClient, reference: Reference) -> None:
    def work(thread: int) -> None:
        for request in range(NUM_REQUEST):
            row = (thread + request) % len(reference.texts)
            check(client.encode([reference.texts[row]]), reference.vectors[row : row + 1])

    with ThreadPoolExecutor(NUM_THREAD) as run:
        assert list(run.map(work, range(NUM_THREAD))) == [None] * NUM_THREAD
    assert client.pending_request == set()
    assert client.dropped_replies == 0


def test_identities_that_begin_alike(options: Dict[str, Any], reference: Reference) -> None:
    """1.10 sends to the shorter one also what is for the longer."""
    texts = reference.texts[:4]
    with BertClient(identity="client-1", **options) as short, BertClient(
        identity="client-10", **options
    ) as long:
        for text in texts:
            long.encode([text], blocking=False)
        check(short.encode(texts[::-1]), reference.vectors[:4][::-1])
        check(long.fetch_all(concat=True), reference.vectors[:4])
        check(short.encode(texts), reference.vectors[:4])


def test_no_server_within_the_timeout() -> None:
    port, port_out = free_ports()
    with pytest.raises(RequestTimeout, match="within 300 ms"):
        BertClient(port=port, port_out=port_out, timeout=300)


@pytest.mark.parametrize("number", [1, 25], ids=["texts", "tokens"])
def test_vectors_of_tokens(
    number: int, serve_original: Serve, golden: Path, cases: List[Dict[str, Any]]
) -> None:
    case, expected = cases[number], Reference(golden, cases[number])
    with serve_original("-show_tokens_to_client", *case["flags"]) as target:
        ports = {"port": target.port, "port_out": target.port_out}
        with BertClient(timeout=TIMEOUT, **ports) as client, warnings.catch_warnings():
            # With case 1 the server sets no limit, which the client warns of.
            warnings.simplefilter("ignore", UserWarning)
            vectors, tokens = client.encode(expected.texts, True, case["is_tokenized"], True)
    check(vectors, expected.vectors)
    assert tokens == expected.tokens
