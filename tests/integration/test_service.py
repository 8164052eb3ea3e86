"""Requests of all kinds through real processes and sockets; the echo engine's vectors tell which
text they belong to."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any, Callable, List

import numpy as np
import pytest
from support import RawClient, client_of, running

from bert_serving.client import BertClient, ConcurrentBertClient
from bert_serving.server import BertServer
from bert_serving.server.engines.echo import echo_vector, vocabulary
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings

TOKENIZER = Tokenizer(vocabulary(), TokenizerSettings(max_length=512))

Connect = Callable[..., BertClient]


def expected(texts: List[Any], is_tokenized: bool = False) -> np.ndarray:
    encoded = TOKENIZER.encode(texts, is_tokenized)
    return np.array([echo_vector(one.features[0].tolist()) for one in encoded])


def texts_of(name: str, count: int) -> List[str]:
    """Different texts of different lengths."""
    return ["%s %d %s" % (name, number, "x" * (number * 7 % 40)) for number in range(count)]


def test_encode_one(connect: Connect) -> None:
    vectors = connect().encode(["hello world"])
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected(["hello world"]))


@pytest.mark.parametrize("count", [2, 17, 600, 3000])
def test_encode_many_in_order(connect: Connect, count: int) -> None:
    texts = texts_of("many", count)
    np.testing.assert_array_equal(connect().encode(texts), expected(texts))


def test_pairs_and_tokenized(connect: Connect) -> None:
    client = connect()
    pair = ["how old are you ? ||| i am six"]
    np.testing.assert_array_equal(client.encode(pair), expected(pair))
    tokenized = [["h", "##i"], ["nowhere", "|||", "x"]]
    np.testing.assert_array_equal(
        client.encode(tokenized, is_tokenized=True), expected(tokenized, True)
    )


def test_show_tokens(connect: Connect) -> None:
    texts = texts_of("t", 700)
    vectors, tokens = connect().encode(texts, show_tokens=True)
    np.testing.assert_array_equal(vectors, expected(texts))
    assert tokens == [TOKENIZER.tokens_of(one) for one in TOKENIZER.encode(texts, False)]
    assert tokens[0][0] == "[CLS]"


def test_asynchronous(connect: Connect) -> None:
    client = connect()
    batches = [texts_of("batch %d" % number, 1 + number * 13 % 50) for number in range(40)]
    for batch in batches:
        client.encode(batch, blocking=False)
    for batch, vectors in zip(batches, client.fetch_all()):
        np.testing.assert_array_equal(vectors, expected(batch))


def test_encode_async(connect: Connect) -> None:
    batches = {number: texts_of("stream %d" % number, number + 1) for number in range(1, 20)}
    client = connect()
    first = client.request_id
    responses = list(client.encode_async(iter(list(batches.values()))))
    assert len(responses) == len(batches)
    for response in responses:
        batch = batches[response.id - first]
        np.testing.assert_array_equal(response.embedding, expected(batch))


def test_many_clients_get_their_own(connect: Connect) -> None:
    clients = [connect() for _ in range(8)]
    wrong: List[str] = []

    def work(client: BertClient, name: str) -> None:
        for turn in range(15):
            texts = texts_of("%s turn %d" % (name, turn), 1 + turn * 5 % 30)
            if not np.array_equal(client.encode(texts), expected(texts)):
                wrong.append(name)

    threads = [
        threading.Thread(target=work, args=(client, "client %d" % number))
        for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_an_identity_that_is_anothers_prefix(connect: Connect) -> None:
    short, long = connect(identity=b"client-1"), connect(identity=b"client-10")
    for _ in range(5):
        short.encode(["of the first"], blocking=False)
        long.encode(["of the second"], blocking=False)
    for vectors in short.fetch_all():
        np.testing.assert_array_equal(vectors, expected(["of the first"]))
    for vectors in long.fetch_all():
        np.testing.assert_array_equal(vectors, expected(["of the second"]))


def test_concurrent_client(echo_server: BertServer) -> None:
    with ConcurrentBertClient(
        max_concurrency=3, port=echo_server.spec.port, port_out=echo_server.spec.port_out
    ) as client:
        np.testing.assert_array_equal(client.encode(["hi there"]), expected(["hi there"]))


def test_status_counts(connect: Connect) -> None:
    client = connect()
    before = client.server_status["statistic"]
    client.encode(["one", "two", "three"])
    after = client.server_status["statistic"]
    # The worker's word to the ventilator may come after its vectors have reached the client.
    while after["num_open_request"]:
        after = client.server_status["statistic"]
    assert after["num_data_request"] == before["num_data_request"] + 1
    assert after["num_total_seq"] == before["num_total_seq"] + 3
    assert client.server_config["server_version"] == "1.10.0"


def test_list_output(connect: Connect) -> None:
    vectors = connect(output_fmt="list").encode(["hello"])
    assert vectors == expected(["hello"]).tolist()


def test_token_level_results_are_padded_to_the_request() -> None:
    texts = ["a", "longer text here", "mid one"]
    encoded = TOKENIZER.encode(texts, False)
    longest = max(one.features.shape[1] for one in encoded)
    flags = ["-engine", "echo", "-pooling_strategy", "NONE"]
    with running(*flags) as server, client_of(server) as client:
        vectors = client.encode(texts)
        assert vectors.shape == (3, longest, 768)
        for row, one in zip(vectors, encoded):
            length = one.features.shape[1]
            assert row[:length].any(axis=1).all()
            assert not row[length:].any()
        # A large request is computed in many batches of different lengths.
        many = texts_of("token", 700)
        whole = client.encode(many)
        for row in (0, 3, 699):
            alone = client.encode([many[row]])[0]
            np.testing.assert_array_equal(whole[row, : len(alone)], alone)
            assert not whole[row, len(alone) :].any()


def test_token_level_results_of_a_fixed_length() -> None:
    flags = ["-engine", "echo", "-pooling_strategy", "NONE", "-max_seq_len", "12"]
    with running(*flags) as server, client_of(server) as client:
        assert client.encode(["a"]).shape == (1, 12, 768)
        with pytest.warns(UserWarning, match="in row 0, 1"):
            assert client.encode(["far too long a text for twelve"] * 2).shape == (2, 12, 768)


def test_a_text_without_tokens_is_refused() -> None:
    """Our client refuses it before it is sent; others may not."""
    with running("-engine", "echo", "-no_special_token") as server, RawClient(server) as sender:
        sender.send(sender.identity, b'[["a"], []]', b"1", b"2")
        _, info, _, _ = sender.receive()
        assert "text 1 has no tokens" in json.loads(info.decode("utf-8"))["error"]["message"]
        sender.send(sender.identity, b'[["a"]]', b"2", b"1")
        assert len(sender.receive()[2]) == 768 * 4


def test_a_deadline_that_passes(echo_server: BertServer) -> None:
    """The server drops what nobody waits for any more, and says so."""
    texts = json.dumps(texts_of("late", 5000)).encode("ascii")
    with RawClient(echo_server) as sender:
        sender.send(sender.identity, texts, b"1", b"5000", b'{"timeout": 0.001}')
        _, info, _, request_id = sender.receive()
    assert request_id == b"1"
    assert json.loads(info.decode("utf-8"))["error"]["kind"] == "deadline"


def test_a_client_that_leaves() -> None:
    """Its work is dropped before it is computed, and the queue empties."""
    rows = 40000
    # A row a batch, so that all of it would take many times as long as the client is waited for.
    with running("-engine", "echo", "-max_batch_size", "1") as server:
        with client_of(server) as leaver:
            for _ in range(rows // 2000):
                leaver.encode(texts_of("abandoned", 2000), blocking=False)
            assert leaver.server_config  # by now all of it is accepted
        with client_of(server) as observer:
            statistic = observer.server_status["statistic"]
            assert statistic["num_open_request"] > 0
            while statistic["num_open_request"]:
                statistic = observer.server_status["statistic"]
            assert statistic["num_total_seq"] == rows
            assert statistic["num_waiting_row"] == 0
            assert statistic["num_batch"] < rows


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6() -> None:
    with running("-engine", "echo", "-host", "::1") as server:
        with client_of(server, ip="::1") as client:
            np.testing.assert_array_equal(client.encode(["hi"]), expected(["hi"]))
        with pytest.raises(TimeoutError):
            client_of(server, ip="127.0.0.1", timeout=200)
