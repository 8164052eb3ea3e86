"""How an endpoint of any API is made: its body read and checked, its errors told in the API's form,
and both documented.
"""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Coroutine, Dict, Optional, Sequence, Type

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from bert_serving.server.http.access import user_of
from bert_serving.server.http.answers import answer_json
from bert_serving.server.http.bodies import read_body
from bert_serving.server.http.errors import Dialect, problem_of
from bert_serving.server.http.parsing import parse
from bert_serving.server.http.service import Call, Service

__all__ = ["Api", "DirectRoute"]

MEANINGS = {
    400: "The request is wrong; the message names the field.",
    404: "What was asked for isn't served here.",
    408: "The body didn't come in time.",
    413: "The body is too large, or has too many texts, characters or values.",
    415: "The body's encoding isn't known.",
    424: "The engine failed on this request.",
    429: "Too much waits; Retry-After says for how long to wait.",
    500: "A bug of the server's, or the engine failed on this request.",
    503: "Too many requests at a time, or the service stops; ask again after Retry-After.",
    504: "The answer would have taken too long.",
}
#: What may happen to any request with a body.
POST_STATUSES = (400, 408, 413, 415, 429, 500, 503, 504)
GET_STATUSES = (500, 503, 504)

Handler = Callable[[Call, Any], Awaitable[Any]]


class DirectRoute(APIRoute):
    """A documented route whose endpoint takes a request and returns a response.

    What FastAPI does in between, to find other arguments and to check results, takes longer than
    all that an endpoint does.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


class Api:
    """The endpoints that tell errors in one dialect."""

    def __init__(
        self,
        app: FastAPI,
        service: Service,
        dialect: Dialect,
        error: Type[BaseModel],
        tag: str,
    ) -> None:
        self._app = app
        self._tag = tag
        self._service = service
        self._dialect = dialect
        self._error = error

    def post(
        self,
        path: str,
        handler: Handler,
        body: Type[BaseModel],
        answer: Any,
        changes: Dict[str, Any],
        example: Dict[str, Any],
        more: Optional[Dict[str, Any]] = None,
        statuses: Sequence[int] = (),
    ) -> None:
        """``handler`` gets the call and its body, checked, and returns what becomes JSON.

        ``changes`` are properties of the body's schema in place of what pydantic knows of them, and
        ``more`` is what it doesn't know at all; ``example`` is a body to try.
        """
        service = self._service

        async def parsed(request: Request, call: Call) -> Any:
            headers = request.headers
            content = await read_body(
                request.stream(),
                headers.get("content-encoding", ""),
                headers.get("content-length"),
                service.http.max_body,
                call.seconds,
            )
            return await service.apart(len(content), parse, body, content, service.served)

        async def take(request: Request, call: Call) -> Any:
            return await handler(call, await parsed(request, call))  # the bytes are let go

        schema = dict(body.model_json_schema(), **(more or {}))
        schema["properties"].update(changes)
        content = {"application/json": {"schema": schema, "example": example}}
        extra = {"requestBody": {"required": True, "content": content}}
        self._add(path, "POST", take, handler, answer, POST_STATUSES + tuple(statuses), extra)

    def get(
        self,
        path: str,
        handler: Handler,
        answer: Any,
        statuses: Sequence[int] = GET_STATUSES,
        parameters: Sequence[Dict[str, Any]] = (),
    ) -> None:
        """``handler`` gets the call and the path's parameters, and returns what becomes JSON.

        ``parameters`` documents the path's.
        """

        async def take(request: Request, call: Call) -> Any:
            return await handler(call, request.path_params)

        extra = {"parameters": list(parameters)} if parameters else None
        self._add(path, "GET", take, handler, answer, statuses, extra)

    def _add(
        self,
        path: str,
        method: str,
        take: Callable[[Request, Call], Awaitable[Any]],
        handler: Handler,
        answer: Any,
        statuses: Sequence[int],
        extra: Optional[Dict[str, Any]],
    ) -> None:
        async def run(request: Request) -> Response:
            deadline = asyncio.get_event_loop().time() + self._service.http.timeout
            call = Call(self._service, request.receive, deadline, user_of(request.scope))
            encoding = request.headers.get("accept-encoding", "")
            try:
                value = await take(request, call)
                return value if isinstance(value, Response) else await answer_json(value, encoding)
            except asyncio.CancelledError:  # on Python 3.7 it is an Exception
                raise
            except Exception as error:
                return await self.tell(error)

        text = (handler.__doc__ or "").strip()
        self._app.add_api_route(
            path,
            run,
            tags=[self._tag],
            methods=[method],
            name=handler.__name__.strip("_"),
            summary=text.partition("\n")[0].rstrip("."),
            description=text,
            response_model=answer,
            responses={
                status: {"model": self._error, "description": MEANINGS[status]}
                for status in statuses
            },
            openapi_extra=extra,
        )

    async def tell(self, error: Exception) -> Response:
        """The answer that tells an error."""
        problem = problem_of(error)
        dialect = self._dialect
        return await answer_json(
            dialect.body(problem), status=dialect.status(problem), headers=problem.headers
        )
