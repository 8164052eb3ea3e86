from __future__ import annotations

import contextlib
import json
from typing import Any, List, Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bert_serving.client import frames as frames_module
from bert_serving.client.frames import (
    decode_request,
    encode_request,
    encode_texts,
    parse_texts,
    read_digits,
)
from bert_serving.client.options import Options
from bert_serving.client.protocol import MalformedMessage, Request

identities = st.binary(min_size=1, max_size=254).filter(lambda identity: b"\0" not in identity)
request_ids = st.integers(0, 2**64 - 1)
any_text = st.text(st.characters())  # surrogates included
timeouts = st.floats(min_value=1e-3, max_value=1e9)


def test_all() -> None:
    assert frames_module.__all__ == [
        "encode_request",
        "decode_request",
        "encode_texts",
        "parse_texts",
        "read_digits",
    ]


# --------------------------------------------------------------------------------- requests


@given(identities, st.binary(), request_ids, st.integers(0, 10**6), st.none() | timeouts)
def test_request_round_trip(
    identity: bytes, payload: bytes, request_id: int, rows: int, timeout: Optional[float]
) -> None:
    options = None if timeout is None else Options(timeout=timeout)
    request = Request(identity, payload, request_id, rows, options)
    frames = encode_request(request)
    assert len(frames) == (4 if timeout is None else 5)
    decoded = decode_request([memoryview(frame) for frame in frames])
    assert decoded == request
    assert decoded.timeout == timeout


@given(
    st.lists(any_text, min_size=1, max_size=5)
    | st.lists(st.lists(any_text, max_size=5), min_size=1, max_size=5)
)
def test_texts_round_trip(texts: Any) -> None:
    request = Request(b"me", encode_texts(texts), 1, len(texts))
    assert parse_texts(request) == (texts, isinstance(texts[0], list))


@given(
    st.lists(
        st.lists(any_text, min_size=2, max_size=2),
        min_size=1,
        max_size=5,
    )
)
def test_pairs_round_trip(pairs: Any) -> None:
    request = Request(b"me", encode_texts(pairs), 1, len(pairs), Options(pairs=True))
    assert parse_texts(request) == (pairs, False)


def test_an_empty_header() -> None:
    request = Request(b"me", b'["a"]', 1, 1, Options())
    frames = encode_request(request)
    assert frames[4] == b"{}"
    assert decode_request(frames) == request
    assert decode_request([*frames[:4], b" { } "]) == request


def test_digits() -> None:
    assert read_digits(b"18446744073709551615", "id", b"me", None) == 2**64 - 1
    with pytest.raises(MalformedMessage, match="the id must be"):
        read_digits(b"\xd9\xa3", "id", b"me", None)


def test_request_of_1_10() -> None:
    frames = [b"me", b'["First do it"]', b"7", b"1"]
    request = decode_request(frames)
    assert request == Request(b"me", b'["First do it"]', 7, 1)
    assert encode_request(request) == frames
    assert request.timeout is None


@pytest.mark.parametrize(
    ("payload", "is_command"),
    [
        (b"SHOW_CONFIG", True),
        (b"SHOW_STATUS", True),
        (b"TERMINATION", True),
        (b"CANCEL", True),
        (b'["X"]', False),
    ],
)
def test_commands(payload: bytes, is_command: bool) -> None:
    assert Request(b"me", payload, 1).is_command is is_command


@pytest.mark.parametrize(
    ("frames", "message", "identity", "request_id"),
    [
        ([], "has 0", None, None),
        ([b"me"], "has 1", None, None),
        ([b"me", b"[]", b"7"], "has 3", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b"{}", b""], "has 6", b"me", 7),
        ([b"", b"[]", b"7"], "has 3", None, None),
        ([b"me", b"[]", b"seven"], "has 3", None, None),
        ([b"", b"[]", b"7", b"1"], "identity must have 1 to 254 bytes", None, None),
        ([b"a\0b", b"[]", b"7", b"1"], "none of them NUL", None, None),
        ([b"x" * 255, b"[]", b"7", b"1"], r"\(255 bytes\)", None, None),
        ([b"me", b"[]", b"-7", b"1"], "the request id must be .* b'-7'", b"me", None),
        ([b"me", b"[]", b"", b"1"], "the request id must be", b"me", None),
        ([b"me", b"[]", b"1" * 21, b"1"], "the request id must be 1 to 20", b"me", None),
        ([b"me", b"[]", b"7", b"1.5"], "the number of rows must be .* b'1.5'", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b"{"], "the header is not JSON", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b"\xff"], "the header is not JSON", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b"[" * 60000], "the header is not JSON", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b" " * 65537], "65537 bytes; at most 65536", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b"[]"], "JSON object, but is list", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b'{"timeout":0}'], "positive .* is 0", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b'{"timeout":true}'], "positive .* is True", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b'{"timeout":NaN}'], "positive .* is nan", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b'{"timeout":"1"}'], "positive .* is '1'", b"me", 7),
        ([b"me", b"[]", b"7", b"1", b'{"strem":true}'], "key 'strem' is not known", b"me", 7),
    ],
)
def test_malformed_requests(
    frames: List[bytes], message: str, identity: Optional[bytes], request_id: Optional[int]
) -> None:
    with pytest.raises(MalformedMessage, match=message) as caught:
        decode_request(frames)
    assert (caught.value.identity, caught.value.request_id) == (identity, request_id)


@pytest.mark.parametrize(
    ("payload", "rows", "message"),
    [
        (b"SHOW", 1, "neither a command nor JSON: b'SHOW'"),
        (b"\xff", 1, "neither a command nor JSON"),
        (b"[" * 100_000, 1, "neither a command nor JSON"),
        (b'{"a":1}', 1, "JSON list of texts, but is dict"),
        (b"[]", 0, "the list of texts is empty"),
        (b'["a"]', 2, "says that it has 2 rows, but has 1 texts"),
        (b'["a",1]', 2, "text 1 must be a string, but is int"),
        (b'["a",["b"]]', 2, "text 1 is a list of tokens, but text 0 is a string"),
        (b'[["a"],"b"]', 2, "text 1 must be a list of tokens, as text 0 is, but is str"),
        (b'[["a",null]]', 1, "text 0 must have strings as tokens, but token 1 is NoneType"),
    ],
)
def test_malformed_texts(payload: bytes, rows: int, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message) as caught:
        parse_texts(Request(b"me", payload, 7, rows))
    assert (caught.value.identity, caught.value.request_id) == (b"me", 7)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b'["a"]', "text 0 must be a pair, a list of two strings, but is str"),
        (b'[["a"]]', "text 0 must be a pair, .* has 1 elements, of which 1 are"),
        (b'[["a",5]]', "text 0 must be a pair, .* has 2 elements, of which 1 are"),
    ],
)
def test_malformed_pairs(payload: bytes, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message):
        parse_texts(Request(b"me", payload, 7, 1, Options(pairs=True)))


@given(st.lists(st.binary(max_size=30), max_size=7))
def test_any_frames_decode_or_are_malformed(frames: List[bytes]) -> None:
    with contextlib.suppress(MalformedMessage):
        parse_texts(decode_request(frames))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
headers = st.dictionaries(st.sampled_from(["timeout", "pairs", "tokens", "other"]), json_values)


def dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@given(
    st.lists(st.binary(max_size=12), max_size=7)
    | st.tuples(
        identities | st.binary(max_size=3),
        st.binary(max_size=20) | json_values.map(dumped),
        st.integers(-5, 10**25).map(b"%d".__mod__) | st.binary(max_size=3),
        st.integers(0, 4).map(b"%d".__mod__),
        headers.map(dumped) | st.binary(max_size=10),
    )
)
@example((b"me", b'["a"]', b"1", b"1", b'{"timeout": 1%s}' % (b"0" * 400)))
@example((b"me", b'["a"]', b"1", b"1", b'{"timeout": 1e999}'))
@example((b"me", b'["a"]', b"1", b"1", b'{"timeout": NaN}'))
def test_whatever_comes_is_a_request_or_malformed(frames: Any) -> None:
    problem = ""
    try:
        request = decode_request(frames)
        assert request.timeout is None or 0 < request.timeout < 1e10
        texts, is_tokenized = parse_texts(request)
    except MalformedMessage as error:
        problem = str(error)
    assert len(problem) < 600
    if not problem:
        assert len(texts) == request.rows > 0
        rows = texts if is_tokenized else [texts]
        assert all(isinstance(text, str) for row in rows for text in row)
