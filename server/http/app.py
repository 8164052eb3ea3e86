"""The application: the APIs, what stands around them, and the documentation."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from bert_serving.client.version import __version__
from bert_serving.server.http.access import Authorized, describe_keys
from bert_serving.server.http.answers import answer_json
from bert_serving.server.http.api import DirectRoute
from bert_serving.server.http.errors import Problem, dialect_of, problem_of
from bert_serving.server.http.legacy import add_legacy
from bert_serving.server.http.metrics import HttpMetrics
from bert_serving.server.http.middleware import Counted, Limited
from bert_serving.server.http.openai import add_openai
from bert_serving.server.http.probes import add_probes
from bert_serving.server.http.service import Service
from bert_serving.server.http.tei import add_tei

__all__ = ["create_app"]

DESCRIPTION = """\
Sentence and token embeddings over HTTP, by three APIs: that of bert-as-service 1.10, OpenAI's for
embeddings, and that of text-embeddings-inference. Answers of more than 2 KiB are compressed for
clients that accept gzip; bodies may be, too.
"""


def create_app(service: Service) -> FastAPI:
    """The ASGI application that serves ``service``."""
    app: FastAPI = FastAPIOffline(
        title="bert-serving",
        description=DESCRIPTION,
        version=__version__,
        redoc_url=None,
        swagger_ui_parameters={"defaultModelsExpandDepth": 0},
    )
    metrics = HttpMetrics()
    app.router.route_class = DirectRoute
    add_legacy(app, service)
    add_openai(app, service)
    add_tei(app, service)
    add_probes(app, service, metrics)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(Exception, _tell_bug)
    # The last one that is added stands outermost.
    app.add_middleware(Limited, most=service.http.max_connect)
    if service.http.api_keys:
        app.add_middleware(Authorized, keys=service.http.api_keys)
        describe_keys(app)
    origins = [origin.strip() for origin in service.http.cors.split(",") if origin.strip()]
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["Retry-After"],
    )
    paths = frozenset(
        route.path
        for route in app.routes
        if isinstance(route, DirectRoute) and "{" not in route.path
    )
    app.add_middleware(Counted, metrics=metrics, paths=paths)
    return app


async def _tell_http(request: Request, error: Any) -> Response:
    """What the router itself refuses."""
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow")
        message = "%s is not served at %s; see /docs" % (request.method, request.url.path)
        problem = Problem("bad_method", message, allow=allowed)
    else:
        problem = Problem("not_found", "nothing is served at %s; see /docs" % request.url.path)
    return await _tell(request, problem)


async def _tell_bug(request: Request, error: Exception) -> Response:
    return await _tell(request, problem_of(error))


async def _tell(request: Request, problem: Problem) -> Response:
    dialect = dialect_of(request.url.path)
    return await answer_json(
        dialect.body(problem), status=dialect.status(problem), headers=problem.headers
    )
