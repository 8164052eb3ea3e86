"""API keys: who may use the HTTP endpoints, where -http_api_key_file names some."""

from __future__ import annotations

import hmac
from typing import Any, Callable, Dict, Optional, Sequence

from fastapi import FastAPI

from bert_serving.server.http.errors import Problem
from bert_serving.server.http.middleware import App, Receive, Scope, Send, tell

__all__ = ["Authorized", "describe_keys", "user_of"]

#: What needs no key: whether the process lives and answers, and what it serves, which isn't secret.
#: Metrics aren't among them: they tell how much the service is used.
OPEN = frozenset(("/healthz", "/readyz", "/health", "/docs", "/openapi.json"))
#: Where a request's scope has the number of the key that it shows.
KEY = "bert_serving.key"
#: The files of /docs.
OPEN_FOLDER = "/static-offline-docs/"


class Authorized:
    """Answers 401 to requests that show none of the ``keys``, before anything of them is read."""

    def __init__(self, app: App, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode("ascii") for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_guarded = scope["type"] == "http" and not _is_open(scope["path"])
        number = self._number_of(_bearer(scope)) if is_guarded else None
        if is_guarded and number is None:
            message = "this server wants an API key: Authorization: Bearer KEY"
            await tell(Problem("unauthorized", message), scope, receive, send)
            return
        scope[KEY] = number
        await self._app(scope, receive, send)

    def _number_of(self, shown: Optional[bytes]) -> Optional[int]:
        """Which of the keys it is, counted from 0; None if it is none."""
        if shown is None:
            return None
        # In time that doesn't depend on how much of one is right, nor on which one it is.
        found = [hmac.compare_digest(shown, key) for key in self._keys]
        return found.index(True) if True in found else None


def user_of(scope: Scope) -> Optional[str]:
    """Who sent a request, as far as that can be told: whoever has a key, or else a machine."""
    if scope.get(KEY) is not None:
        return "key %d" % scope[KEY]
    client = scope.get("client")
    return None if client is None else str(client[0])


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(OPEN_FOLDER)


def _bearer(scope: Scope) -> Optional[bytes]:
    """The key that a request shows; None if it doesn't say exactly one."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, key = values[0].partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else None


def describe_keys(app: FastAPI) -> None:
    """Let the application's description say that it wants keys, so that /docs asks for one."""
    describe: Callable[[], Dict[str, Any]] = app.openapi

    def described() -> Dict[str, Any]:
        schema = describe()
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                if not _is_open(path):
                    operation["security"] = [{"key": []}]
                    operation["responses"]["401"] = {"description": "No key, or another one."}
        return schema

    app.openapi = described  # type: ignore[method-assign]
