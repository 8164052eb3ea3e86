"""Protocol 2 on the wire, frame by frame, as docs/protocol.md has it."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from support import RawClient, running

from bert_serving.client.frames import encode_texts
from bert_serving.server import BertServer
from bert_serving.server.engines.echo import echo_vector, vocabulary
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings

IDS = vocabulary()


@pytest.fixture(scope="module")
def server() -> Iterator[BertServer]:
    flags = ["-max_seq_len", "12", "-max_queue_rows", "5000", "-max_client_share", "1"]
    with running("-engine", "echo", *flags) as made:
        yield made


@pytest.fixture
def raw(server: BertServer) -> Iterator[RawClient]:
    with RawClient(server) as client:
        yield client


def expected(texts: List[str]) -> np.ndarray:
    encoded = Tokenizer(IDS, TokenizerSettings(12)).encode(texts, False)
    return np.array([echo_vector(one.features[0]) for one in encoded])


def send(raw: RawClient, texts: List[Any], number: int = 1, **header: Any) -> None:
    rows = b"%d" % len(texts)
    head = json.dumps(header).encode("ascii")
    raw.send(raw.identity, encode_texts(texts), b"%d" % number, rows, head)


def receive(raw: RawClient) -> Tuple[int, Dict[str, Any], np.ndarray]:
    topic, info, content, number = raw.receive()
    assert topic == raw.identity + b"\0"
    values = json.loads(info)
    if "error" in values:
        return int(number), values, np.empty(0)
    array = np.frombuffer(content, values["dtype"]).reshape(values["shape"])
    return int(number), values, array


def test_a_reply_has_details(raw: RawClient) -> None:
    texts = ["ab", "c" * 30]
    send(raw, texts)
    number, info, array = receive(raw)
    assert number == 1
    np.testing.assert_array_equal(array, expected(texts))
    known = {"dtype", "shape", "tokens", "num_tokens", "truncated", "timings", "model"}
    assert set(info) == known
    assert info["tokens"] == ""
    assert info["num_tokens"] == 4 + 12
    assert info["truncated"] == [1]
    timings = info["timings"]
    assert 0 <= timings["tokenize"] <= timings["queue"] <= timings["total"]
    assert timings["queue"] + timings["compute"] == pytest.approx(timings["total"], abs=1e-5)


def test_protocol_1_has_none(raw: RawClient) -> None:
    raw.send(raw.identity, b'["ab"]', b"1", b"1")
    _, info, _ = receive(raw)
    assert info == {"dtype": "float32", "shape": [1, 768], "tokens": ""}


def test_tokens_offsets_and_half_precision(raw: RawClient) -> None:
    send(raw, ["ab c", "d"], tokens=True, offsets=True, dtype="float16")
    _, info, array = receive(raw)
    assert info["tokens"] == [["[CLS]", "a", "##b", "c", "[SEP]"], ["[CLS]", "d", "[SEP]"]]
    assert info["offsets"][0] == [[0, 0], [0, 1], [1, 2], [3, 4], [0, 0]]
    np.testing.assert_array_equal(array, expected(["ab c", "d"]).astype(np.float16))


def test_a_stream_has_every_row_once(raw: RawClient) -> None:
    texts = ["text %d" % (number % 1000) for number in range(3000)]
    send(raw, texts, stream=True, tokens=True)
    vectors = np.zeros((len(texts), 768), np.float32)
    seen: List[int] = []
    is_last = False
    while not is_last:
        _, info, array = receive(raw)
        is_last = info["last"]
        vectors[info["rows"]] = array
        seen += info["rows"]
        for row, tokens in zip(info["rows"], info["tokens"]):
            assert "".join(tokens[1:-1]).replace("##", "") == texts[row].replace(" ", "")
    assert sorted(seen) == list(range(len(texts)))
    np.testing.assert_array_equal(vectors, expected(texts))


def test_token_vectors_on_request(raw: RawClient) -> None:
    send(raw, ["ab", "c"], pooling_strategy="NONE")
    _, info, array = receive(raw)
    assert info["shape"] == [2, 12, 768]
    assert (array[0, :4] != 0).any(axis=-1).all()
    assert not array[0, 4:].any()


def test_requests_with_different_poolings_at_a_time(raw: RawClient) -> None:
    poolings: List[Dict[str, Any]] = [
        {},
        {"pooling_strategy": "REDUCE_MAX"},
        {"pooling_layer": [1, 2]},
        {"normalize": True},
        {"pooling_strategy": "NONE", "dtype": "float16"},
    ]
    texts = ["some text", "more"]
    alone = {}
    for number, pooling in enumerate(poolings):
        send(raw, texts, number, **pooling)
        alone[number] = receive(raw)[2]
    np.testing.assert_array_equal(alone[0], expected(texts))
    assert alone[2].shape == (2, 1536)
    np.testing.assert_allclose(np.linalg.norm(alone[3], axis=1), 1, atol=1e-6)
    for _ in range(20):
        for number, pooling in enumerate(poolings):
            send(raw, texts, number, **pooling)
    for _ in range(20 * len(poolings)):
        number, _, array = receive(raw)
        np.testing.assert_array_equal(array, alone[number])


@pytest.mark.parametrize(
    ("header", "kind", "message"),
    [
        ({"truncate": False}, "too_long", "text 1 has 32 tokens"),
        ({"pooling": 1}, "bad_request", "the header's key 'pooling' is not known"),
        ({"pooling_strategy": "x"}, "bad_request", "'x'"),
        ({"pooling_layer": 12}, "bad_request", "12"),
        ({"dtype": "int8"}, "bad_request", "dtype must be float32 or float16, but is 'int8'"),
        ({"pairs": True}, "bad_request", "text 0 must be a pair"),
        ({"timeout": 1e-6}, "deadline", "time ran out"),
    ],
)
def test_errors(raw: RawClient, header: Dict[str, Any], kind: str, message: str) -> None:
    send(raw, ["ab", "c" * 30], **header)
    _, info, _ = receive(raw)
    assert info["error"]["kind"] == kind
    assert message in info["error"]["message"]


def test_too_many_rows_are_refused_with_a_hint(raw: RawClient) -> None:
    for number in range(1, 40):
        send(raw, ["text"] * 1000, number)
    kinds = [receive(raw)[1].get("error", {"kind": "none"}) for _ in range(39)]
    overloaded = [error for error in kinds if error["kind"] == "overloaded"]
    assert overloaded
    assert all(0.1 <= error["retry_after"] <= 30 for error in overloaded)
    assert len(overloaded) + sum(error["kind"] == "none" for error in kinds) == 39


def test_a_cancelled_request_is_not_answered(raw: RawClient) -> None:
    send(raw, ["a b c d e f"] * 5000, 1)
    raw.send(raw.identity, b"CANCEL", b"1", b"0")
    send(raw, ["after"], 2)
    number, _, array = receive(raw)
    # It may have been faster than its cancellation; then that came to nothing.
    if number == 1:
        number, _, array = receive(raw)
    assert number == 2
    np.testing.assert_array_equal(array, expected(["after"]))
