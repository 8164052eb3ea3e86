"""A connection of HTTP whose transport and application are made up."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Dict, List, Optional

import uvicorn
from support import PATIENCE
from uvicorn.server import ServerState

from bert_serving.server.http.connections import BoundedProtocol, protocol_within, until_taken

__all__ = ["GET", "LONG", "SHORT", "Connected", "play"]

GET = b"GET /some HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Seconds that pass in a test in which something waits for them, and that pass in none.
SHORT, LONG = 0.05, 1000.0


class FakeTransport:
    """One whose client takes what is written, unless it ``is_stuck``."""

    def __init__(self, is_stuck: bool = False) -> None:
        self.protocol: Any = None
        self.written = b""
        self.is_aborted = False
        self.ended = asyncio.Event()
        self._is_stuck = is_stuck
        self._is_closing = False

    def get_extra_info(self, _: str) -> Any:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True
        if not self._is_stuck:
            self._end()

    def abort(self) -> None:
        self.is_aborted = self._is_closing = True
        self._end()

    def _end(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            asyncio.get_event_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Application:
    """Answers with the size of the body, or at once without a look at it. ``gate`` holds it up."""

    def __init__(self, reads: bool) -> None:
        self._reads = reads
        self.gate = asyncio.Event()
        self.gate.set()
        self.scopes: List[Dict[str, Any]] = []
        self.is_taken = False

    async def __call__(self, scope: Dict[str, Any], receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        size, more = 0, self._reads
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message["body"])
            more = message["more_body"]
        await self.gate.wait()
        body = b"%d bytes" % size
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        await until_taken(scope)
        self.is_taken = True


class Connected:
    """A connection and what is at its ends."""

    def __init__(self, seconds: float, is_stuck: bool, reads: bool, keep_alive: int) -> None:
        self.app = Application(reads)
        app: Any = self.app
        config = uvicorn.Config(
            app,
            http=protocol_within(seconds),
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=keep_alive,
        )
        config.load()
        make: Any = config.http_protocol_class
        self.transport = FakeTransport(is_stuck)
        self.state = ServerState()
        self.protocol: BoundedProtocol = make(
            config=config, server_state=self.state, app_state={}, _loop=asyncio.get_event_loop()
        )
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)

    def feed(self, data: bytes) -> None:
        """As a transport does: not when it is closed."""
        if not self.transport.is_closing():
            self.protocol.data_received(data)

    @property
    def written(self) -> bytes:
        return self.transport.written

    async def end(self) -> None:
        await asyncio.wait_for(self.transport.ended.wait(), PATIENCE)

    async def pass_time(self, seconds: float) -> None:
        """Put the loop's clock forward, and let what is due then happen."""
        loop: Any = asyncio.get_event_loop()
        before = loop.time
        loop.time = lambda: before() + seconds
        for _ in range(3):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], Any]) -> None:
        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0)

        await asyncio.wait_for(wait(), PATIENCE)


def play(
    test: Callable[[Connected], Awaitable[None]],
    seconds: float = LONG,
    is_stuck: bool = False,
    reads: bool = True,
    keep_alive: int = 1000,
) -> None:
    """Run it with a connection."""

    async def run() -> None:
        there: Optional[Connected] = None
        try:
            there = Connected(seconds, is_stuck, reads, keep_alive)
            await test(there)
        finally:
            if there is not None:
                there.transport.abort()
                there.app.gate.set()
                await there.until(lambda: not there.state.tasks)  # type: ignore[union-attr]

    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(run())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
