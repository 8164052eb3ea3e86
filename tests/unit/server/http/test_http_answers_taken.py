"""Answers that clients don't take, on a transport that is made up."""

from __future__ import annotations

import asyncio
from typing import Any, List, MutableMapping

import pytest
from unit.server.http.connecting import GET, SHORT, Connected, play

from bert_serving.server.http.connections import BODY_PORTION, in_portions


def hold(there: Connected) -> None:
    """From the answer's body on, the client takes nothing."""
    write = there.transport.write

    def held(data: bytes) -> None:
        write(data)
        if data.endswith(b"bytes"):
            there.protocol.pause_writing()

    there.transport.write = held  # type: ignore[method-assign]


def test_an_answer_that_is_taken_late() -> None:
    """The application, and with it one of the places, waits for that."""

    async def test(there: Connected) -> None:
        hold(there)
        there.feed(GET)
        await there.until(lambda: b"0 bytes" in there.written)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not there.app.is_taken
        there.protocol.resume_writing()
        await there.until(lambda: there.app.is_taken)
        assert not there.transport.is_closing()

    play(test)


def test_an_answer_that_is_not_taken() -> None:
    async def test(there: Connected) -> None:
        hold(there)
        there.feed(GET)
        await there.end()
        assert there.written.endswith(b"0 bytes")
        assert there.transport.is_aborted
        await there.until(lambda: there.app.is_taken)

    play(test, seconds=SHORT)


def test_a_client_that_takes_a_little_now_and_then() -> None:
    """The time is that of the whole answer."""

    async def test(there: Connected) -> None:
        there.app.gate.clear()
        there.feed(GET)
        there.protocol.pause_writing()
        there.protocol.resume_writing()
        await there.end()
        assert there.transport.is_aborted

    play(test, seconds=SHORT)


def test_an_answer_that_is_taken_before_its_end() -> None:
    async def test(there: Connected) -> None:
        there.app.gate.clear()
        there.feed(GET)
        await there.until(lambda: there.app.scopes)
        there.protocol.pause_writing()
        there.protocol.resume_writing()
        there.app.gate.set()
        await there.until(lambda: there.app.is_taken)
        assert there.protocol._taking is None

    play(test)


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("size", [0, 1, BODY_PORTION, BODY_PORTION + 1, 3 * BODY_PORTION])
def test_portions(size: int, more: bool) -> None:
    sent: List[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        await in_portions(send)({"type": "http.response.start", "status": 200})
        body = bytes(range(256)) * (size // 256) + b"a" * (size % 256)
        await in_portions(send)({"type": "http.response.body", "body": body, "more_body": more})
        assert b"".join(message["body"] for message in sent[1:]) == body

    asyncio.run(run())
    assert sent[0] == {"type": "http.response.start", "status": 200}
    assert len(sent) == 1 + max(1, -(-size // BODY_PORTION))
    assert all(len(message["body"]) <= BODY_PORTION for message in sent[1:])
    assert all(message["more_body"] for message in sent[1:-1])
    assert sent[-1]["more_body"] == more


def test_an_answer_that_is_not_taken_before_the_end() -> None:
    """Neither a connection that is to be closed, nor one whose keep-alive has ended."""

    async def test(there: Connected) -> None:
        there.feed(GET.replace(b"Host", b"Connection: close\r\nHost"))
        await there.until(lambda: b"0 bytes" in there.written)
        await there.end()
        assert there.transport.is_aborted

    play(test, seconds=SHORT, is_stuck=True)


def test_only_what_waits_for_clients_is_abandoned() -> None:
    async def test(there: Connected) -> None:
        there.app.gate.clear()
        there.feed(GET)
        await there.until(lambda: there.app.scopes)
        there.protocol.abandon()
        assert not there.transport.is_closing()
        hold(there)
        there.app.gate.set()
        await there.until(lambda: b"0 bytes" in there.written)
        there.protocol.shutdown()
        there.protocol.abandon()
        assert there.transport.is_aborted
        await there.until(lambda: there.app.is_taken)

    play(test, is_stuck=True)
