from __future__ import annotations

import contextlib
import json
from typing import Any, List, Optional

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert_serving.client import frames as frames_module
from bert_serving.client.frames import (
    decode_reply,
    decode_request,
    encode_request,
    encode_texts,
    error_frames,
    info_frames,
    parse_texts,
    vectors_frames,
)
from bert_serving.client.protocol import (
    ErrorKind,
    ErrorReply,
    InfoReply,
    MalformedMessage,
    Request,
    VectorsReply,
    identity_of,
    topic_of,
)

identities = st.binary(min_size=1, max_size=254).filter(lambda identity: b"\0" not in identity)
request_ids = st.integers(0, 2**64 - 1)
any_text = st.text(st.characters())  # surrogates included
kinds = st.sampled_from([v for k, v in vars(ErrorKind).items() if not k.startswith("_")])
timeouts = st.floats(min_value=1e-3, max_value=1e9)


def test_all() -> None:
    assert frames_module.__all__ == [
        "encode_request",
        "decode_request",
        "encode_texts",
        "parse_texts",
        "dtype_name",
        "vectors_frames",
        "info_frames",
        "error_frames",
        "decode_reply",
    ]


# --------------------------------------------------------------------------------- requests


@given(identities, st.binary(), request_ids, st.integers(0, 10**6), st.none() | timeouts)
def test_request_round_trip(
    identity: bytes, payload: bytes, request_id: int, rows: int, timeout: Optional[float]
) -> None:
    header = {} if timeout is None else {"timeout": timeout}
    request = Request(identity, payload, request_id, rows, header)
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


def test_request_of_1_10() -> None:
    frames = [b"me", b'["First do it"]', b"7", b"1"]
    request = decode_request(frames)
    assert request == Request(b"me", b'["First do it"]', 7, 1)
    assert encode_request(request) == frames
    assert request.timeout is None


@pytest.mark.parametrize(
    ("payload", "is_command"),
    [(b"SHOW_CONFIG", True), (b"SHOW_STATUS", True), (b"TERMINATION", True), (b'["X"]', False)],
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


@given(st.lists(st.binary(max_size=30), max_size=7))
def test_any_frames_decode_or_are_malformed(frames: List[bytes]) -> None:
    with contextlib.suppress(MalformedMessage):
        parse_texts(decode_request(frames))


# ---------------------------------------------------------------------------------- replies


@given(identities)
def test_topics(identity: bytes) -> None:
    assert identity_of(topic_of(identity)) == identity
    assert identity_of(identity) == identity
    assert topic_of(identity).startswith(identity)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "float64"])
@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (2, 3, 4), (0, 4)])
def test_vectors_round_trip(dtype: str, shape: Any) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    frames = vectors_frames(b"me", 7, array)
    reply = decode_reply([memoryview(bytes(frame)) for frame in frames])
    assert isinstance(reply, VectorsReply)
    assert reply.request_id == 7
    assert reply.tokens == ""
    assert reply.array.dtype == array.dtype
    assert reply.array.shape == array.shape
    np.testing.assert_array_equal(reply.array, array)
    assert not reply.array.flags.writeable


def test_vectors_of_a_view_that_is_not_contiguous() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    reply = decode_reply([bytes(frame) for frame in vectors_frames(b"me", 7, array)])
    assert isinstance(reply, VectorsReply)
    np.testing.assert_array_equal(reply.array, array)


def test_vectors_share_the_buffer() -> None:
    array = np.zeros((2, 3), dtype=np.float32)
    frames = vectors_frames(b"me", 7, array)
    assert np.shares_memory(np.frombuffer(frames[2], dtype=np.uint8), array)


@given(st.lists(st.lists(any_text)))
def test_tokens_round_trip(tokens: List[List[str]]) -> None:
    frames = vectors_frames(b"me", 7, np.zeros((1, 2), np.float32), encode_texts(tokens))
    reply = decode_reply([bytes(frame) for frame in frames])
    assert isinstance(reply, VectorsReply)
    assert reply.tokens == tokens


def test_reply_of_1_10() -> None:
    array = np.ones((2, 3), np.float32)
    info = b'{"dtype": "float32", "shape": [2, 3], "tokens": ""}'
    reply = decode_reply([b"me", info, array.tobytes(), b"7"])
    assert isinstance(reply, VectorsReply)
    np.testing.assert_array_equal(reply.array, array)
    info = b'{"dtype": "float32", "shape": [2, 3]}'
    reply = decode_reply([b"me", info, array.tobytes(), b"7"])
    assert isinstance(reply, VectorsReply)
    assert reply.tokens == ""


@given(identities, request_ids)
def test_info_round_trip(identity: bytes, request_id: int) -> None:
    frames = info_frames(identity, request_id, b'{"max_seq_len": null}')
    assert decode_reply(frames) == InfoReply(request_id, {"max_seq_len": None})


def printable(message: str) -> str:
    """Lone surrogates have no encoding; they are shown by their number."""
    return message.encode("utf-8", "backslashreplace").decode("utf-8")


@given(identities, request_ids, kinds, any_text)
def test_error_round_trip(identity: bytes, request_id: int, kind: str, message: str) -> None:
    frames = error_frames(identity, request_id, kind, message)
    assert decode_reply(frames) == ErrorReply(request_id, kind, printable(message))


@settings(max_examples=300)
@given(kinds, any_text | st.text(st.sampled_from("(),{}[]<>=|:'\" 0123456789ifuSUOVMmdatetime64")))
@example(ErrorKind.BAD_REQUEST, "")
@example(ErrorKind.BAD_REQUEST, "i4")
@example(ErrorKind.BAD_REQUEST, "), f4, f4")
@example(ErrorKind.BAD_REQUEST, "(2,3)f4, i4")
@example(ErrorKind.BAD_REQUEST, "{'names': ['a'], 'formats': ['i4']}")
@example(ErrorKind.BAD_REQUEST, "a\0b")
@example(ErrorKind.BAD_REQUEST, "lone \ud800")
@example(ErrorKind.BAD_REQUEST, "x" * 10_000)
def test_error_raises_in_a_1_10_client(kind: str, message: str) -> None:
    """Which reads a reply in these two lines, and knows no error."""
    frames = error_frames(b"me", 7, kind, message)
    info = json.loads(frames[1].decode("utf-8"))
    with pytest.raises((TypeError, ValueError)) as caught:
        np.frombuffer(frames[2], dtype=str(info["dtype"]))
    message = printable(message)
    assert message in str(caught.value) or repr(message)[1:-1] in str(caught.value)


@pytest.mark.parametrize(
    ("frames", "message", "request_id"),
    [
        ([b"me", b"{}"], "3 or 4 frames, but this one has 2", None),
        ([b"me", b"{}", b"", b"7", b""], "3 or 4 frames, but this one has 5", None),
        ([b"me", b"{}", b"x"], "the request id must be", None),
        ([b"me", b"{", b"7"], "can't be read", 7),
        ([b"me", b"\xff", b"", b"7"], "can't be read", 7),
        ([b"me", b"{}", b"", b"7"], "'dtype'", 7),
        ([b"me", b"[]", b"", b"7"], "can't be read", 7),
        ([b"me", b"5", b"", b"7"], "can't be read", 7),
        ([b"me", b'{"dtype":"f9","shape":[1]}', b"", b"7"], "f9", 7),
        ([b"me", b'{"dtype":"O","shape":[1]}', b"12345678", b"7"], "can't be read", 7),
        ([b"me", b'{"dtype":"float32"}', b"1234", b"7"], "'shape'", 7),
        ([b"me", b'{"dtype":"float32","shape":[2]}', b"1234", b"7"], "reshape", 7),
        ([b"me", b'{"dtype":"float32","shape":[1]}', b"123", b"7"], "multiple", 7),
        ([b"me", b'{"error":{}}', b"", b"7"], "'kind'", 7),
    ],
)
def test_malformed_replies(frames: List[bytes], message: str, request_id: Optional[int]) -> None:
    with pytest.raises(MalformedMessage, match=message) as caught:
        decode_reply(frames)
    assert caught.value.request_id == request_id


@given(st.lists(st.binary(max_size=30), max_size=6), st.integers(0, 99))
def test_any_frames_are_a_reply_or_malformed(frames: List[bytes], request_id: int) -> None:
    with contextlib.suppress(MalformedMessage):
        decode_reply([*frames, b"%d" % request_id])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
headers = st.dictionaries(st.sampled_from(["timeout", "other"]), json_values)


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
