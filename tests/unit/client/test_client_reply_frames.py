from __future__ import annotations

import contextlib
import json
from typing import Any, List, Optional

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert_serving.client import reply_frames
from bert_serving.client.frames import encode_texts
from bert_serving.client.protocol import (
    Details,
    ErrorKind,
    ErrorReply,
    InfoReply,
    MalformedMessage,
    Part,
    Timings,
    VectorsReply,
    identity_of,
    topic_of,
)
from bert_serving.client.reply_frames import (
    decode_reply,
    dtype_name,
    error_frames,
    info_frames,
    vectors_frames,
)

identities = st.binary(min_size=1, max_size=254).filter(lambda identity: b"\0" not in identity)
request_ids = st.integers(0, 2**64 - 1)
any_text = st.text(st.characters())  # surrogates included
kinds = st.sampled_from([v for k, v in vars(ErrorKind).items() if not k.startswith("_")])


def test_all() -> None:
    assert reply_frames.__all__ == [
        "decode_reply",
        "dtype_name",
        "error_frames",
        "info_frames",
        "vectors_frames",
    ]
    assert dtype_name(np.dtype("<f4")) == b"float32"


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


spans = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(list), max_size=3)
seconds = st.integers(0, 10**9).map(lambda micros: micros / 10**6)


@given(st.data(), st.integers(1, 5), st.booleans(), st.none() | st.booleans())
def test_details_round_trip(
    data: Any, rows: int, has_timings: bool, is_last: Optional[bool]
) -> None:
    offsets = data.draw(st.none() | st.lists(spans, min_size=rows, max_size=rows))
    numbers = st.lists(st.integers(0, 2**40), max_size=4)
    timings = Timings(*data.draw(st.tuples(*[seconds] * 4))) if has_timings else None
    failed = data.draw(st.dictionaries(st.integers(0, 99), st.text(max_size=9), max_size=3))
    model = data.draw(st.none() | st.text(max_size=20))
    details = Details(
        data.draw(st.integers(0, 2**40)), tuple(data.draw(numbers)), timings, None, failed, model
    )
    part = None
    if is_last is not None:
        part = Part(data.draw(st.lists(st.integers(0, 99), min_size=rows, max_size=rows)), is_last)
    frames = vectors_frames(
        b"me",
        7,
        np.zeros((rows, 2), np.float16),
        details=details,
        part=part,
        offsets=None if offsets is None else json.dumps(offsets).encode(),
    )
    reply = decode_reply([bytes(frame) for frame in frames])
    assert isinstance(reply, VectorsReply)
    assert reply.details == details._replace(offsets=offsets)
    assert reply.part == part
    assert reply.array.dtype == np.float16


def test_protocol_1_has_no_details() -> None:
    frames = vectors_frames(b"me", 7, np.zeros((1, 2), np.float32))
    assert json.loads(bytes(frames[1])) == {"dtype": "float32", "shape": [1, 2], "tokens": ""}
    reply = decode_reply([bytes(frame) for frame in frames])
    assert isinstance(reply, VectorsReply)
    assert (reply.details, reply.part) == (None, None)


@given(identities, request_ids)
def test_info_round_trip(identity: bytes, request_id: int) -> None:
    frames = info_frames(identity, request_id, b'{"max_seq_len": null}')
    assert decode_reply(frames) == InfoReply(request_id, {"max_seq_len": None})


def printable(message: str) -> str:
    """Lone surrogates have no encoding; they are shown by their number."""
    return message.encode("utf-8", "backslashreplace").decode("utf-8")


@given(identities, request_ids, kinds, any_text, st.none() | st.floats(0, 1e9))
def test_error_round_trip(
    identity: bytes, request_id: int, kind: str, message: str, retry_after: Optional[float]
) -> None:
    frames = error_frames(identity, request_id, kind, message, retry_after)
    assert decode_reply(frames) == ErrorReply(request_id, kind, printable(message), retry_after)


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
        ([b"me", b'{"dtype":"i4,i4","shape":[1]}', b"12345678", b"7"], "dtype 'i4,i4'", 7),
        ([b"me", b'{"dtype":"f4","shape":[9999999,0]}', b"", b"7"], "has no vectors, but", 7),
        ([b"me", b'{"dtype":"f4","shape":[-1]}', b"1234", b"7"], "has|have the shape", 7),
        ([b"me", b'{"dtype":"f4","shape":[1],"tokens":5}', b"1234", b"7"], "tokens are int", 7),
        ([b"me", b'{"error":{}}', b"", b"7"], "'kind'", 7),
        ([b"me", b'{"error":5}', b"", b"7"], "can't be read", 7),
        ([b"me", b'{"error":{"kind":"a","message":"b","retry_after":[]}}', b"", b"7"], "read", 7),
        ([b"me", b'{"dtype":"f4","shape":[0],"num_tokens":1}', b"", b"7"], "'truncated'", 7),
        (
            [b"me", b'{"dtype":"f4","shape":[0],"num_tokens":1,"truncated":5}', b"", b"7"],
            "can't be read",
            7,
        ),
        (
            [
                b"me",
                b'{"dtype":"f4","shape":[0],"num_tokens":1,"truncated":[],"model":5}',
                b"",
                b"7",
            ],
            "its model is int",
            7,
        ),
        (
            [
                b"me",
                b'{"dtype":"f4","shape":[0],"num_tokens":1,"truncated":[],"rows":[1],"last":true}',
                b"",
                b"7",
            ],
            "has 1 rows, but vectors of 0",
            7,
        ),
    ],
)
def test_malformed_replies(frames: List[bytes], message: str, request_id: Optional[int]) -> None:
    with pytest.raises(MalformedMessage, match=message) as caught:
        decode_reply(frames)
    assert caught.value.request_id == request_id


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_time_to_wait_that_is_none(seconds: float) -> None:
    reply = decode_reply(error_frames(b"me", 7, "overloaded", "wait", seconds))
    assert isinstance(reply, ErrorReply)
    assert reply.retry_after is None


@pytest.mark.parametrize("name", ["tokens", "offsets"])
def test_parts_have_something_for_each_row(name: str) -> None:
    info = {"dtype": "f4", "shape": [1, 1], "num_tokens": 1, "truncated": [], "rows": [0]}
    info.update({"last": True, name: []})
    with pytest.raises(MalformedMessage, match=name + " are no list of 1"):
        decode_reply([b"me", json.dumps(info).encode(), b"1234", b"7"])


@given(st.lists(st.binary(max_size=30), max_size=6), st.integers(0, 99))
def test_any_frames_are_a_reply_or_malformed(frames: List[bytes], request_id: int) -> None:
    with contextlib.suppress(MalformedMessage):
        decode_reply([*frames, b"%d" % request_id])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
KEYS = ["dtype", "shape", "tokens", "num_tokens", "truncated", "timings", "offsets", "rows", "last"]
KEYS += ["failed", "model"]
infos = st.dictionaries(
    st.sampled_from([*KEYS, "error"]), json_values | st.sampled_from(["float32", [0], [1], [1, 1]])
)


@settings(max_examples=300)
@given(infos, st.binary(max_size=8))
@example({"dtype": "f4", "shape": [1], "num_tokens": float("inf"), "truncated": []}, b"1234")
def test_whatever_comes_is_a_reply_or_malformed(info: Any, content: bytes) -> None:
    encoded = json.dumps(info, ensure_ascii=False).encode("utf-8", "surrogatepass")
    with contextlib.suppress(MalformedMessage):
        decode_reply([b"me", encoded, content, b"7"])
