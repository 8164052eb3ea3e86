from __future__ import annotations

import pytest

from bert_serving.client.arguments import LARGE, Arguments
from bert_serving.client.checks import check_size
from bert_serving.client.facts import facts_of
from bert_serving.client.frames import decode_request, encode_request, encode_texts
from bert_serving.client.options import Options
from bert_serving.client.protocol import TERMINATION, MalformedMessage, Request


def test_texts_are_as_large_as_their_json_at_most_by_far() -> None:
    texts = ["\x00" * (LARGE // 2), "a" * 100]
    assert not Arguments(texts).is_large
    assert len(encode_texts(texts)) < 1_000_000


@pytest.mark.parametrize(
    "arguments",
    [
        Arguments(["a" * (LARGE + 1)]),
        Arguments(["a"] * LARGE),
        Arguments([["a"] * 1000] * 100, is_tokenized=True),
        Arguments(pairs=[("a" * 50, "b" * 50)] * 1000),
    ],
)
def test_large_texts(arguments: Arguments) -> None:
    assert arguments.is_large


def test_what_a_server_takes() -> None:
    assert facts_of({"max_message_mb": 2}).max_message == 2_000_000
    for config in ({}, {"max_message_mb": None}, {"max_message_mb": "x"}, {"max_message_mb": 0}):
        assert facts_of(config).max_message is None
    check_size(10**12, None)
    check_size(2_000_000, 2_000_000)
    with pytest.raises(ValueError, match="have 2000001 bytes together, and the server takes 2000"):
        check_size(2_000_001, 2_000_000)


def test_the_admin_token_travels_in_the_header() -> None:
    request = Request(b"me", TERMINATION, 1, options=Options(), admin_token="of-an-admin")
    assert decode_request(encode_request(request)) == request
    frames = encode_request(Request(b"me", TERMINATION, 1, admin_token="of-an-admin"))
    assert frames[4] == b'{"admin_token": "of-an-admin"}'
    assert len(encode_request(Request(b"me", TERMINATION, 1))) == 4


@pytest.mark.parametrize("header", [b'{"admin_token": ["secret"]}', b'{"admin_token": "secret"'])
def test_a_token_that_cannot_be_read_is_not_quoted(header: bytes) -> None:
    with pytest.raises(MalformedMessage) as raised:
        decode_request([b"me", TERMINATION, b"1", b"0", header])
    assert "secret" not in str(raised.value)
