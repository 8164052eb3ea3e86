"""The application around a client that is made up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import free_ports
from unit.server.support import echo_spec

from bert_serving.client.responses import Response
from bert_serving.server.engines.echo import echo_vector, vocabulary
from bert_serving.server.http.app import create_app
from bert_serving.server.http.readiness import Readiness
from bert_serving.server.http.service import Service
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings

TOKENIZER = Tokenizer(vocabulary(), TokenizerSettings(max_length=1 << 20))


def expected(texts: List[Any], is_tokenized: bool = False) -> np.ndarray:
    """Float32 [rows, dimension]: the echo engine's vectors."""
    encoded = TOKENIZER.encode(texts, is_tokenized)
    return np.array([echo_vector(one.features[0].tolist()) for one in encoded])


class FakeClient:
    """An AsyncBertClient of an echo server, that fails or waits when it is told to."""

    def __init__(self) -> None:
        self.calls: List[Dict[str, Any]] = []
        self.error: Optional[Exception] = None
        self.gate: Optional[asyncio.Event] = None
        self.cancelled = 0
        self.statistic: Dict[str, Any] = {"num_data_request": 3}
        self.status = {"identity": b"\xff1", "num_request": 5, "pending_request": {4, 2}}

    async def encode(self, texts: List[Any], **options: Any) -> Response:
        self.calls.append(dict(options, texts=texts))
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.error is not None:
            raise self.error
        vectors = expected(texts, options.get("is_tokenized", False))
        vectors.setflags(write=False)
        number = sum(
            one.features.shape[1] for one in TOKENIZER.encode(texts, isinstance(texts[0], list))
        )
        fields = dict.fromkeys(Response._fields)
        fields.update(id=1, embedding=vectors, tokens="", num_tokens=number)
        return Response(**fields)  # type: ignore[arg-type]

    async def server_status(self) -> Dict[str, Any]:
        if self.error is not None:
            raise self.error
        return {"num_worker": 1, "statistic": self.statistic}


class Harness:
    """A served application. ``http`` asks it; ``fake`` is the client behind it."""

    def __init__(self, *flags: str, normalize: bool = False) -> None:
        spec = echo_spec("-http_port", str(free_ports()[0]), *flags)
        spec = replace(spec, pooling=replace(spec.pooling, normalize=normalize))
        assert spec.http is not None
        self.fake = FakeClient()

        async def check() -> None:
            await self.fake.encode(["ready"])

        self.readiness = Readiness(check)
        self.service = Service(spec, spec.http, self.fake, vocabulary(), self.readiness)
        self.app = create_app(self.service)
        self.http = TestClient(self.app, raise_server_exceptions=False)

    def post(self, path: str, body: Any, **options: Any) -> Any:
        return self.http.post(path, json=body, **options)


@pytest.fixture
def serve() -> Iterator[Callable[..., Harness]]:
    """Makes harnesses of servers with these flags."""
    made: List[Harness] = []

    def make(*flags: str, **options: Any) -> Harness:
        made.append(Harness(*flags, **options))
        return made[-1]

    yield make
    for harness in made:
        harness.http.close()


@pytest.fixture
def served(serve: Callable[..., Harness]) -> Harness:
    return serve()
