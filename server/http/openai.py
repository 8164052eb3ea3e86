"""OpenAI's API for embeddings: https://platform.openai.com/docs/api-reference/embeddings.

Token ids are those of the served model's vocabulary, not of OpenAI's models. Texts that are too
long are cut, as the server does for its own clients.
"""

from __future__ import annotations

import base64
from reprlib import repr as shorten
from typing import Any, Dict, List

import numpy as np
from fastapi import FastAPI

from bert_serving.server.http.answers import shortened
from bert_serving.server.http.api import GET_STATUSES, Api
from bert_serving.server.http.errors import OPENAI, HttpError
from bert_serving.server.http.json_schema import TEXT, any_of, array, dimensions
from bert_serving.server.http.schemas import (
    EmbeddingsAnswer,
    EmbeddingsRequest,
    ModelAnswer,
    ModelsAnswer,
    OpenAiError,
)
from bert_serving.server.http.service import Call, Service

__all__ = ["add_openai"]


def add_openai(app: FastAPI, service: Service) -> None:
    """Add its endpoints."""
    api = Api(app, service, OPENAI, OpenAiError, "OpenAI")
    most = service.http.max_rows
    ids = array({"type": "integer", "minimum": 0, "maximum": service.served.most_id})
    changes = {
        "input": any_of(
            "a text, texts, token ids of the served model, or lists of such",
            TEXT,
            array(TEXT, most),
            ids,
            array(ids, most),
        ),
        "dimensions": dimensions(service.spec.engine.dimension),
        "model": {"type": "string", "description": "one of " + ", ".join(_names(service))},
        "user": {"description": "ignored"},
    }
    example = {"model": "default", "input": ["First do it", "then do it right"]}
    api.post(
        "/v1/embeddings",
        _embeddings,
        EmbeddingsRequest,
        EmbeddingsAnswer,
        changes,
        example,
        statuses=[404],
    )
    api.get("/v1/models", _models, ModelsAnswer)
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    statuses = (404,) + GET_STATUSES
    api.get("/v1/models/{model:path}", _model, ModelAnswer, statuses, parameters=[name])


async def _embeddings(call: Call, body: EmbeddingsRequest) -> Dict[str, Any]:
    """Vectors of texts, or of token ids of the served model."""
    service = call.service
    _check_model(body.model, service)
    service.check_pooled()
    service.check_dimensions(body.dimensions)
    texts = body.input
    is_ids = isinstance(texts[0], list)
    if is_ids:
        special = not service.spec.tokenizer.no_special
        names = service.tokens, service.vocabulary, special
        texts = await service.apart(sum(map(len, texts)), _in_tokens, texts, *names)
    found = await call.encode(texts, is_tokenized=is_ids)
    vectors = shortened(found.embedding, body.dimensions)
    rows = _in_base64(vectors) if body.encoding_format == "base64" else list(vectors)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows)
        ],
        "model": service.spec.model,
        "usage": {"prompt_tokens": found.num_tokens, "total_tokens": found.num_tokens},
    }


async def _models(call: Call, _: Any) -> Dict[str, Any]:
    """The model that is served."""
    return {"object": "list", "data": [_describe(call.service)]}


async def _model(call: Call, path: Any) -> Dict[str, Any]:
    """The model that is served, by its id."""
    _check_model(path["model"], call.service)
    return _describe(call.service)


def served_names(model: str) -> List[str]:
    """The names by which clients may call the model."""
    last = model.rstrip("/").rpartition("/")[2]
    return list(dict.fromkeys([model, last, "default"]))


def _names(service: Service) -> List[str]:
    return served_names(service.spec.model)


def _check_model(name: str, service: Service) -> None:
    if name not in _names(service):
        raise HttpError(
            "model_not_found",
            "the model %s isn't served here; served are %s"
            % (shorten(name), ", ".join(_names(service))),
            "model",
        )


def _describe(service: Service) -> Dict[str, Any]:
    return {
        "id": service.spec.model,
        "object": "model",
        "created": service.created,
        "owned_by": "bert-serving",
    }


def _in_tokens(
    rows: List[List[int]], tokens: Dict[int, str], vocabulary: Dict[str, int], special: bool
) -> List[List[str]]:
    """The tokens of these ids; with ``special`` the special ones around them go, for the server
    puts its own there.

    Raises HttpError for an id without a token.
    """
    around = [vocabulary["[CLS]"], vocabulary["[SEP]"]]
    texts = []
    for row, ids in enumerate(rows):
        if special and [ids[0], ids[-1]] == around and len(ids) > 2:
            ids = ids[1:-1]
        try:
            texts.append([tokens[number] for number in ids])
        except KeyError as error:
            raise HttpError(
                "bad_request",
                "input has the token id %s in row %d, which the served model's vocabulary has no "
                "token for" % (error, row),
                "input",
            ) from None
    return texts


def _in_base64(vectors: np.ndarray) -> List[str]:
    little_endian = vectors.astype("<f4", copy=False)
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in little_endian]
