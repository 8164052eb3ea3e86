"""The HTTP API of bert-as-service 1.10, with its shapes.

Its answers are objects with a ``status``, 200 or that of the error. /status/client is about one of
the clients that 1.10 kept, and here about the only one.
"""

from __future__ import annotations

from typing import Any, Dict, List

from fastapi import FastAPI

from bert_serving.server.http.answers import echoed
from bert_serving.server.http.api import Api
from bert_serving.server.http.errors import LEGACY, HttpError
from bert_serving.server.http.json_schema import TEXT, any_of, array
from bert_serving.server.http.schemas import EncodeAnswer, EncodeRequest, LegacyError
from bert_serving.server.http.service import Call, Service

__all__ = ["add_legacy"]

#: What of JSON is false in Python, and so for ``is_tokenized``.
FALSE: List[Any] = [False, None, 0, "", [], {}]


def add_legacy(app: FastAPI, service: Service) -> None:
    """Add its endpoints."""
    api = Api(app, service, LEGACY, LegacyError, "bert-as-service 1.10")
    most = service.http.max_rows
    texts, tokenized = array(TEXT, most), array(array(TEXT), most)
    changes = {
        "texts": any_of("texts, or lists of tokens if is_tokenized", texts, tokenized),
        "id": {"description": "comes back in the answer"},
        "is_tokenized": {
            "description": "true if texts are lists of tokens, else false; of any other type, "
            "what Python takes it for",
            "default": False,
        },
    }
    either = [
        {"properties": {"texts": texts, "is_tokenized": {"enum": FALSE}}},
        {
            "properties": {"texts": tokenized, "is_tokenized": {"not": {"enum": FALSE}}},
            "required": ["is_tokenized"],
        },
    ]
    example = {"id": 123, "texts": ["First do it", "then do it right"], "is_tokenized": False}
    more = {"anyOf": either}
    api.post("/encode", _encode, EncodeRequest, EncodeAnswer, changes, example, more)

    async def server_status(call: Call, _: Any) -> Dict[str, Any]:
        """The server's configuration and statistics."""
        return dict(await call.status(), status=200)

    async def client_status(call: Call, _: Any) -> Dict[str, Any]:
        """The client that asks the service for HTTP."""
        return client_state(service)

    api.get("/status/server", server_status, Dict[str, Any])
    api.get("/status/client", client_status, Dict[str, Any])


async def _encode(call: Call, body: EncodeRequest) -> Dict[str, Any]:
    """Vectors of texts, or of lists of tokens."""
    if isinstance(body.texts[0], list) != body.is_tokenized:
        raise HttpError(
            "bad_request",
            "texts are %s, but is_tokenized is %s; they must agree"
            % (("strings", "true") if body.is_tokenized else ("lists of tokens", "false")),
            "is_tokenized",
        )
    vectors = await call.encode(body.texts, is_tokenized=body.is_tokenized)
    return {"id": echoed(body.id), "result": vectors.embedding, "status": 200}


def client_state(service: Service) -> Dict[str, Any]:
    """As 1.10's ``BertClient.status``, of the client that this process has."""
    status = service.client.status
    return dict(
        status,
        identity=status["identity"].decode("ascii", "backslashreplace"),
        pending_request=sorted(status["pending_request"]),
        status=200,
    )
