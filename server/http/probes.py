"""What watches the service: is the process alive, does the service answer, what does it count."""

from __future__ import annotations

import asyncio
from typing import Any, Dict, Optional

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from bert_serving.client.errors import BertServingError
from bert_serving.server.http.answers import answer_json
from bert_serving.server.http.metrics import CONTENT_TYPE, HttpMetrics
from bert_serving.server.http.schemas import StateAnswer
from bert_serving.server.http.service import Service

__all__ = ["PROBE_SECONDS", "add_probes"]

#: Seconds in which a tiny request has to come back, and in which statistics have to.
PROBE_SECONDS = 5.0
STATUS_SECONDS = 2.0


def add_probes(app: FastAPI, service: Service, metrics: HttpMetrics) -> None:
    """Add their endpoints."""
    unavailable: Dict[Any, Any] = {503: {"model": StateAnswer, "description": "It doesn't."}}

    async def healthz(request: Request) -> Response:
        """Whether this process is alive"""
        return await _state(None)

    async def readyz(request: Request) -> Response:
        """Whether the service answers: found out by a request, at most once a second"""
        return await _state(await service.readiness.reason())

    async def scrape(request: Request) -> Response:
        """Metrics in Prometheus' text format"""
        return Response(metrics.text(await _statistic(service)), media_type=CONTENT_TYPE)

    def add(path: str, endpoint: Any, **more: Any) -> None:
        app.add_api_route(path, endpoint, summary=endpoint.__doc__, tags=["probes"], **more)

    add("/healthz", healthz, response_model=StateAnswer)
    # text-embeddings-inference has the other name for it.
    for path in ("/readyz", "/health"):
        add(path, readyz, response_model=StateAnswer, responses=unavailable)
    add("/metrics", scrape, response_class=PlainTextResponse, response_model=None)


async def _state(reason: Optional[str]) -> Response:
    if reason is None:
        return await answer_json({"status": "ok", "reason": None})
    headers = {"Retry-After": "1"}
    return await answer_json({"status": "unavailable", "reason": reason}, "", 503, headers)


async def _statistic(service: Service) -> Optional[Dict[str, Any]]:
    """The pipeline's; None if it doesn't answer."""
    try:
        status = await asyncio.wait_for(service.client.server_status(), STATUS_SECONDS)
    except (BertServingError, asyncio.TimeoutError):
        return None  # which the metric "up" tells
    statistic: Optional[Dict[str, Any]] = status.get("statistic")
    return statistic
