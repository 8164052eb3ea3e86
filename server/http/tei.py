"""The API of Hugging Face's text-embeddings-inference, as far as clients for embeddings need it:
https://huggingface.github.io/text-embeddings-inference/.
"""

from __future__ import annotations

import asyncio
from typing import Any, Dict, List

import numpy as np
import orjson
from fastapi import FastAPI

from bert_serving.client.version import __version__
from bert_serving.server.http.answers import shortened, unit_length
from bert_serving.server.http.api import Api
from bert_serving.server.http.errors import TEI, HttpError
from bert_serving.server.http.json_schema import TEXT, any_of, array, dimensions
from bert_serving.server.http.schemas import (
    EmbedRequest,
    InfoAnswer,
    TeiError,
    TokenAnswer,
    TokenizeRequest,
)
from bert_serving.server.http.service import Call, Service

__all__ = ["add_tei"]

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
#: Its names of pooling strategies.
POOLINGS = {"REDUCE_MEAN": "mean", "CLS_TOKEN": "cls", "FIRST_TOKEN": "cls"}
POOLINGS.update({"LAST_TOKEN": "last_token", "SEP_TOKEN": "last_token"})
#: Characters that are tokenized in a request: each may become a token, which takes 500 bytes here
#: and 70 in the answer.
MOST_CHARACTERS = 2**18
#: Texts, and their characters, that are tokenized on the spot: in some 5 ms, and more would keep
#: other requests waiting.
ROWS_AT_ONCE, CHARACTERS_AT_ONCE = 16, 2048


def add_tei(app: FastAPI, service: Service) -> None:
    """Add its endpoints."""
    api = Api(app, service, TEI, TeiError, "text-embeddings-inference")

    async def embed(call: Call, body: EmbedRequest) -> List[np.ndarray]:
        """Vectors of texts."""
        service.check_pooled()
        service.check_dimensions(body.dimensions)
        normalized = service.spec.pooling.normalize
        cut = body.truncation_direction.lower() if body.truncate else False
        # Only if it differs, for the server may allow nothing else than its own.
        plain = False if normalized and body.normalize is False else None
        found = await call.encode(body.inputs, truncate=cut, normalize=plain)
        # Another model may have taken its place meanwhile, and either may have computed them.
        normalized = normalized and service.spec.pooling.normalize
        vectors = shortened(found.embedding, body.dimensions)
        if body.normalize is not False and not (normalized and body.dimensions is None):
            vectors = unit_length(vectors)
        return list(vectors)

    async def tokenize(call: Call, body: TokenizeRequest) -> orjson.Fragment:
        """The tokens of texts, without cutting any; of 262,144 characters at most in all."""
        characters = sum(map(len, body.inputs))
        if characters > MOST_CHARACTERS:
            raise HttpError(
                "too_large",
                "inputs has %d characters, but at most %d are tokenized in a request; send them in "
                "several" % (characters, MOST_CHARACTERS),
                "inputs",
            )
        arguments = service, body.inputs, body.add_special_tokens
        if len(body.inputs) <= ROWS_AT_ONCE and characters <= CHARACTERS_AT_ONCE:
            return tokens_in_json(*arguments)
        return await asyncio.get_event_loop().run_in_executor(None, tokens_in_json, *arguments)

    async def info(call: Call, _: Any) -> Dict[str, Any]:
        """What is served, and within which limits."""
        return describe(service)

    most = service.http.max_rows
    inputs = any_of("a text or a list of texts", TEXT, array(TEXT, most))
    changes = {"inputs": inputs, "dimensions": dimensions(service.spec.engine.dimension)}
    example = {"inputs": ["First do it", "then do it right"]}
    answer: Any = List[List[float]]
    for path in ("/embed", "/"):
        api.post(path, embed, EmbedRequest, answer, changes, example, statuses=[424])
    answer, changes = List[List[TokenAnswer]], {"inputs": inputs}
    api.post("/tokenize", tokenize, TokenizeRequest, answer, changes, example)
    api.get("/info", info, InfoAnswer)


def tokens_in_json(service: Service, texts: List[str], special: bool) -> orjson.Fragment:
    """What tokens_of returns, as it stands in an answer: a fraction of the memory."""
    return orjson.Fragment(orjson.dumps(tokens_of(service, texts, special)))


def tokens_of(service: Service, texts: List[str], special: bool) -> List[List[Dict[str, Any]]]:
    """For each text its tokens as objects, special ones only if ``special``."""
    tokenizer = service.tokenizer()
    encoded = tokenizer.encode(texts, False, offsets=True)
    assert encoded.offsets is not None
    answer = []
    for text, one, spans in zip(texts, encoded, encoded.offsets):
        tokens = []
        for number, token, (start, stop) in zip(
            one.features[0].tolist(), tokenizer.tokens_of(one), spans
        ):
            is_special = start == stop
            if is_special and not special:
                continue
            tokens.append(
                {
                    "id": number,
                    "text": token if is_special else text[start:stop],
                    "special": is_special,
                    "start": None if is_special else start,
                    "stop": None if is_special else stop,
                }
            )
        answer.append(tokens)
    return answer


def describe(service: Service) -> Dict[str, Any]:
    """What GET /info answers."""
    spec, http = service.spec, service.http
    strategy = spec.pooling.strategy
    return {
        "model_id": spec.model,
        "model_sha": None,
        "model_dtype": DTYPES.get(str(spec.config.get("precision")), "float32"),
        "model_type": {"embedding": {"pooling": POOLINGS.get(strategy, strategy.lower())}},
        "max_concurrent_requests": http.max_connect,
        "max_input_length": spec.tokenizer.max_length,
        "max_batch_tokens": spec.token_budget,
        "max_batch_requests": spec.max_batch_size,
        "max_client_batch_size": http.max_rows,
        "auto_truncate": False,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }
