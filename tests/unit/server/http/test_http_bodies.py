from __future__ import annotations

import asyncio
import gzip
from typing import Any, AsyncIterator, List

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from bert_serving.server.http.bodies import read_body
from bert_serving.server.http.errors import HttpError


async def stream(chunks: List[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def read(chunks: List[bytes], encoding: str = "", length: Any = None, limit: int = 100) -> bytes:
    return asyncio.run(read_body(stream(chunks), encoding, length, limit, 10.0))


def cut(content: bytes, size: int) -> List[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@given(st.binary(max_size=300), st.integers(1, 40), st.integers(0, 300), st.booleans())
def test_all_of_it_or_an_error(content: bytes, size: int, limit: int, is_gzip: bool) -> None:
    sent = gzip.compress(content) if is_gzip else content
    chunks = cut(sent, size)
    encoding = "gzip" if is_gzip else "identity"
    if len(content) <= limit:
        assert read(chunks, encoding, None, limit) == content
    else:
        with pytest.raises(HttpError, match="more than %d bytes" % limit) as raised:
            read(chunks, encoding, None, limit)
        assert raised.value.problem.status == 413


def test_a_length_that_is_too_large_is_enough() -> None:
    with pytest.raises(HttpError) as raised:
        read([], length="101")
    assert raised.value.problem.status == 413
    assert read([b"a"], length="1") == b"a"
    assert read([b"a"], length="nonsense") == b"a"


def test_little_that_becomes_much() -> None:
    """No more than the limit is ever decompressed."""
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(HttpError) as raised:
        read([bomb], "gzip", str(len(bomb)), 1_000_000)
    assert raised.value.problem.status == 413


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x" * 1000])
def test_other_encodings(encoding: str) -> None:
    with pytest.raises(HttpError, match="must be gzip or identity") as raised:
        read([b"{}"], encoding)
    assert raised.value.problem.status == 415
    assert len(raised.value.problem.message) < 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "not gzip"),
        (gzip.compress(b"{}")[:-3], "no end"),
        (b"", "no end"),
        (gzip.compress(b"{}") + b"{}", "behind the end"),
    ],
)
def test_what_is_no_gzip(content: bytes, message: str) -> None:
    with pytest.raises(HttpError, match=message) as raised:
        read([content] if content else [], "gzip")
    assert raised.value.problem.status == 400


def test_a_body_that_does_not_come() -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.get_event_loop().create_future()

    with pytest.raises(HttpError, match=r"didn't come within 0\.01 s") as raised:
        asyncio.run(read_body(silent(), "", None, 100, 0.01))
    assert raised.value.problem.status == 408


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_client_that_hangs_up(encoding: str) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield gzip.compress(b"{")[:5]
        raise ClientDisconnect

    with pytest.raises(HttpError, match="disconnected") as raised:
        asyncio.run(read_body(broken(), encoding, None, 100, 10.0))
    assert raised.value.problem.status == 499
