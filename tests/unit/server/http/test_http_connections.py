"""What a client sends, on a transport that is made up; the integration tests have real ones."""

from __future__ import annotations

import pytest
from unit.server.http.connecting import GET, SHORT, Connected, play

from bert_serving.server.http.connections import MAX_HEAD, MAX_WAITING

CHUNKED = b"POST /some HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

# ------------------------------------------------------------------------------ bytes of a head

ENDLESS = {
    "url": b"GET /" + b"a" * (2 * MAX_HEAD),
    "name": b"GET / HTTP/1.1\r\n" + b"a" * (2 * MAX_HEAD),
    "value": b"GET / HTTP/1.1\r\nX: " + b"a" * (2 * MAX_HEAD),
    "headers": b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * MAX_HEAD,
}


@pytest.mark.parametrize("size", [1000, 100_000_000])
@pytest.mark.parametrize("kind", sorted(ENDLESS))
def test_a_head_that_is_too_long(kind: str, size: int) -> None:
    """However many bytes the transport gives at a time, and also after another request."""

    async def test(there: Connected) -> None:
        there.feed(GET)
        await there.until(lambda: b"0 bytes" in there.written)
        data = ENDLESS[kind]
        for start in range(0, len(data), size):
            there.feed(data[start : start + size])
        await there.end()
        answer = there.written.partition(b"0 bytes")[2]
        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b"more than 65536 bytes.")
        assert len(there.app.scopes) == 1

    play(test)


def test_heads_and_bodies_within_the_bounds() -> None:
    """All of them are more than a head may have."""
    head = b"GET /some HTTP/1.1\r\nX: %s\r\n\r\n" % (b"a" * (MAX_HEAD - 100))
    body = b"a" * (3 * MAX_HEAD)
    length = b"POST /some HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    chunks = CHUNKED + b"1\r\na\r\n" * MAX_HEAD + b"0\r\n\r\n"

    async def test(there: Connected) -> None:
        for number, request in enumerate((head, head, length + body, chunks)):
            there.feed(request)
            await there.until(lambda n=number: there.written.count(b"200 OK") == n + 1)
        assert b"196608 bytes" in there.written
        assert there.written.endswith(b"65536 bytes")
        assert not there.transport.is_closing()

    play(test)


@pytest.mark.parametrize("data", [b"5;" + b"a" * (2 * MAX_HEAD), b"0\r\n" + b"X: 1\r\n" * MAX_HEAD])
def test_chunks_and_trailers_without_end(data: bytes) -> None:
    """The connection is cut; the request, whose body doesn't come, isn't answered."""

    async def test(there: Connected) -> None:
        there.feed(CHUNKED)
        there.feed(data)
        await there.end()
        assert there.written == b""

    play(test)


def test_requests_that_wait_for_others() -> None:
    """Some may; their answers come in order. Too many end the connection."""

    async def test(there: Connected) -> None:
        there.app.gate.clear()
        there.feed(GET * MAX_WAITING)
        assert not there.transport.is_closing()
        there.app.gate.set()
        await there.until(lambda: there.written.count(b"200 OK") == MAX_WAITING)
        there.app.gate.clear()
        there.feed(GET * 10_000)
        await there.end()
        assert len(there.protocol.pipeline) < 1000

    play(test)


# ------------------------------------------------------------------------------ time of a head


@pytest.mark.parametrize("begun", [b"", b"\r\n", GET[:-2]])
def test_a_head_that_does_not_come(begun: bytes) -> None:
    """Who has sent some of it is told."""

    async def test(there: Connected) -> None:
        there.feed(begun)
        await there.end()
        assert there.written.startswith(b"HTTP/1.1 408 Request Timeout") == (begun == GET[:-2])
        assert bool(there.written) == (begun == GET[:-2])

    play(test, seconds=SHORT)


def test_the_next_head_does_not_come() -> None:
    async def test(there: Connected) -> None:
        there.feed(GET)
        await there.until(lambda: b"0 bytes" in there.written)
        there.feed(GET[:10])
        await there.end()
        assert there.written.partition(b"0 bytes")[2].startswith(b"HTTP/1.1 408 ")

    play(test, seconds=SHORT)


def test_the_head_behind_a_request_does_not_come() -> None:
    """Its time begins when the request before it is answered."""

    async def test(there: Connected) -> None:
        there.app.gate.clear()
        there.feed(GET + GET[:10])
        await there.pass_time(2 * SHORT)
        assert there.written == b""
        there.app.gate.set()
        await there.end()
        assert there.written.partition(b"0 bytes")[2].startswith(b"HTTP/1.1 408 ")

    play(test, seconds=SHORT)


def test_a_body_that_nobody_waits_for() -> None:
    """Its request is answered already, so it ends the connection without another answer."""

    async def test(there: Connected) -> None:
        there.feed(b"POST /some HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        await there.until(lambda: b"0 bytes" in there.written)
        there.feed(b"a")
        await there.end()
        assert there.written.endswith(b"0 bytes")

    play(test, seconds=SHORT, reads=False)


def test_the_rest_of_such_a_body() -> None:
    """The connection can be used again, and is closed as others are."""

    async def test(there: Connected) -> None:
        for count in (1, 2):
            there.feed(b"POST /some HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
            await there.until(lambda n=count: there.written.count(b"0 bytes") == n)
            there.feed(b"a")
        await there.end()

    play(test, reads=False, keep_alive=1)


def test_what_is_served_has_its_own_time() -> None:
    async def test(there: Connected) -> None:
        there.app.gate.clear()
        there.feed(CHUNKED)
        await there.pass_time(2 * SHORT)
        there.feed(b"1\r\na\r\n0\r\n\r\n")
        await there.pass_time(2 * SHORT)
        there.app.gate.set()
        await there.until(lambda: b"1 bytes" in there.written)
        await there.pass_time(2 * SHORT)
        assert not there.transport.is_closing()

    play(test, seconds=SHORT)


def test_a_refusal_that_is_not_taken() -> None:
    async def test(there: Connected) -> None:
        there.feed(GET[:10])
        await there.end()
        assert there.transport.is_aborted

    play(test, seconds=SHORT, is_stuck=True)
