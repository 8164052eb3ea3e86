"""Around all endpoints: requests are counted, and no more are served at a time than may be."""

from __future__ import annotations

import logging
import time
from typing import Any, Awaitable, Callable, FrozenSet, MutableMapping

from bert_serving.server.http.answers import answer_json
from bert_serving.server.http.connections import in_portions, until_taken
from bert_serving.server.http.errors import RETRY_AFTER, Problem, dialect_of
from bert_serving.server.http.metrics import HttpMetrics

__all__ = ["ALWAYS_SERVED", "Counted", "Limited", "tell"]

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Who watches the service must see it also when it is full.
ALWAYS_SERVED = frozenset(("/healthz", "/readyz", "/health", "/metrics"))
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Counted:
    """Counts and times requests, by the paths that are known: others could be made up."""

    def __init__(self, app: App, metrics: HttpMetrics, paths: FrozenSet[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        self._metrics.begin()
        try:
            await self._app(scope, receive, watch)
        finally:
            path, method = scope["path"], scope["method"]
            seconds = time.perf_counter() - began
            self._metrics.end(
                path if path in self._paths else "other",
                method if method in METHODS else "other",
                status,
                seconds,
            )
            logger.debug("%s %s: %d (%.1f ms)", method, path, status, seconds * 1000)


async def tell(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Tell it in the form of the API that was asked."""
    dialect = dialect_of(scope["path"])
    answer = await answer_json(
        dialect.body(problem), status=dialect.status(problem), headers=problem.headers
    )
    await answer(scope, receive, send)


class Limited:
    """Answers 503 at once while as many requests are served as may be.

    One is served until its answer was taken, for that takes memory as long.
    """

    def __init__(self, app: App, most: int) -> None:
        self._app = app
        self._most = most
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS_SERVED:
            await self._app(scope, receive, send)
            return
        if self._served >= self._most:
            problem = Problem(
                "busy",
                "%d requests are served already; ask again later, or start the server with a "
                "larger -http_max_connect" % self._served,
                retry_after=RETRY_AFTER,
            )
            await tell(problem, scope, receive, send)
            return
        self._served += 1
        try:
            await self._app(scope, receive, in_portions(send))
            await until_taken(scope)
        finally:
            self._served -= 1
