"""Target: the whole HTTP application, around a client that computes at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Tuple

from fuzz.container import compressed, pack, unpack
from fuzz.engine import Target
from fuzz.formats import mutate_container

__all__ = ["TARGETS"]

FLAGS = ("-http_max_body", "65536", "-http_max_rows", "20")
BODIES: Tuple[Tuple[str, Any], ...] = (
    ("/encode", {"id": 1, "texts": ["a text", "another"], "is_tokenized": False}),
    ("/encode", {"id": 1, "texts": [["a", "text"], ["b"]], "is_tokenized": True}),
    (
        "/v1/embeddings",
        {"model": "default", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 2},
    ),
    ("/v1/embeddings", {"model": "default", "input": [[1, 2], [3.0]]}),
    ("/embed", {"inputs": "a text", "normalize": True, "truncate": True}),
    ("/", {"inputs": ["a text"], "truncation_direction": "Left", "prompt_name": None}),
    ("/tokenize", {"inputs": ["a \u0130 text"], "add_special_tokens": True}),
)
PATHS = ("/v1/models", "/v1/models/x", "/info", "/health", "/metrics", "/status/server", "/docs")


@lru_cache(maxsize=None)
def _app() -> Tuple[Any, Any]:
    """The application, and the event loop that it is asked in."""
    from unit.server.http.conftest import Harness

    return Harness(*FLAGS).app, asyncio.new_event_loop()


def run(data: bytes) -> None:
    """Ask with a method, a path and headers, and a body in chunks: the rest of the entries."""
    entries = unpack(data)
    asked: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        asked = json.loads(entries[0][1].decode("utf-8")) if entries else None
    if not isinstance(asked, dict):
        return
    headers = asked.get("headers")
    app, loop = _app()
    status = loop.run_until_complete(
        _ask(
            app,
            str(asked.get("method")),
            str(asked.get("path")),
            headers if isinstance(headers, dict) else {},
            [content for _, content in entries[1:]],
        )
    )
    assert 200 <= status < 500, status


async def _ask(
    app: Any, method: str, path: str, headers: Mapping[str, Any], chunks: List[bytes]
) -> int:
    """The status of the answer. What uvicorn wouldn't let through is made fit."""
    path, _, query = path.partition("?")
    scope: Dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method if method.isalpha() and method.isascii() else "POST",
        "path": path.encode("utf-8", "replace").decode("utf-8"),
        "raw_path": path.encode("ascii", "replace"),
        "root_path": "",
        "query_string": query.encode("ascii", "replace"),
        "headers": [
            (name.lower().encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
            for name, value in headers.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    rest = list(chunks)
    statuses: List[int] = []

    async def receive() -> Dict[str, Any]:
        if rest:
            return {"type": "http.request", "body": rest.pop(0), "more_body": bool(rest)}
        if not chunks and not statuses:
            chunks.append(b"")
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    (status,) = statuses
    return status


def seeds() -> List[bytes]:
    found = []
    for path, body in BODIES:
        content = json.dumps(body).encode("utf-8")
        found.append(pack([_request("POST", path), ("body.json", content)]))
        halves = [("body.bin", content[:20]), ("body.bin", content[20:])]
        found.append(pack([_request("POST", path, **{"accept-encoding": "gzip"})] + halves))
        packed = _request("POST", path, **{"content-encoding": "gzip"})
        found.append(pack([packed, ("body.gz", compressed(content))]))
    bomb = compressed(b" " * 200000)
    found.append(pack([_request("POST", "/", **{"content-encoding": "gzip"}), ("body.gz", bomb)]))
    return found + [pack([_request("GET", path, origin="http://x")]) for path in PATHS]


def _request(method: str, path: str, **headers: str) -> Tuple[str, bytes]:
    asked = {"method": method, "path": path, "headers": headers}
    return "request.json", json.dumps(asked).encode("ascii")


TARGETS = (Target("http", run, (), seeds, mutate_container),)
