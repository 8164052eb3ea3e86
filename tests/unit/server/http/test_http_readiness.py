from __future__ import annotations

import asyncio
from typing import List, Optional

from bert_serving.server.http.readiness import BELIEVED, Readiness


class Checked:
    """A check that waits until it is told what to find."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.error: Optional[Exception] = None
        self.gate = asyncio.Event()
        self.readiness = Readiness(self._check, clock=lambda: self.now)

    async def _check(self) -> None:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error


async def share_one() -> None:
    checked = Checked()
    waiting: "List[asyncio.Future[Optional[str]]]" = [
        asyncio.ensure_future(checked.readiness.reason()) for _ in range(5)
    ]
    while not checked.asked:
        await asyncio.sleep(0)
    waiting[0].cancel()  # who asked first goes away
    checked.gate.set()
    assert await asyncio.gather(*waiting[1:]) == [None] * 4
    assert checked.asked == 1


def test_those_who_ask_at_a_time_share_one_check() -> None:
    asyncio.run(share_one())


async def believe() -> None:
    checked = Checked()
    checked.gate.set()
    assert await checked.readiness.reason() is None
    checked.error = TimeoutError("no answer")
    checked.now = BELIEVED * 0.9
    assert await checked.readiness.reason() is None
    assert checked.asked == 1
    checked.now = BELIEVED
    assert await checked.readiness.reason() == "TimeoutError: no answer"
    checked.error = None
    checked.now = 2 * BELIEVED
    assert await checked.readiness.reason() is None
    assert checked.asked == 3
    checked.readiness.stop()
    checked.now = 5 * BELIEVED
    assert await checked.readiness.reason() == "the service stops"
    assert checked.asked == 3


def test_what_was_found_is_believed_for_a_while() -> None:
    asyncio.run(believe())


async def stop_meanwhile() -> None:
    checked = Checked()
    waiting = asyncio.ensure_future(checked.readiness.reason())
    while not checked.asked:
        await asyncio.sleep(0)
    checked.readiness.stop()
    checked.gate.set()
    assert await waiting == "the service stops"


def test_a_service_that_stops_meanwhile_is_not_ready() -> None:
    asyncio.run(stop_meanwhile())


async def pause() -> None:
    checked = Checked()
    checked.gate.set()
    assert await checked.readiness.reason() is None
    checked.readiness.pause(True)
    assert await checked.readiness.reason() == "the service recovers"
    assert checked.asked == 1
    checked.readiness.pause(False)
    assert await checked.readiness.reason() is None
    assert checked.asked == 2, "what was found before isn't believed any more"


def test_a_pipeline_that_is_started_again() -> None:
    asyncio.run(pause())
