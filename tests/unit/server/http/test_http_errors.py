from __future__ import annotations

from typing import Any

import pytest

from bert_serving.client import errors as client
from bert_serving.server.http.errors import (
    DIALECTS,
    LEGACY,
    OPENAI,
    PROBLEMS,
    TEI,
    HttpError,
    Problem,
    dialect_of,
    problem_of,
)
from bert_serving.server.http.schemas import LegacyError, OpenAiError, TeiError

MODELS = {"legacy": LegacyError, "openai": OpenAiError, "tei": TeiError}


@pytest.mark.parametrize("kind", sorted(PROBLEMS))
def test_every_problem_has_the_documented_form(kind: str) -> None:
    problem = Problem(kind, "what it is", "field")
    for dialect in DIALECTS:
        body = dialect.body(problem)
        MODELS[dialect.name].model_validate(body, strict=True)
        assert "what it is" in str(body)
        assert 400 <= dialect.status(problem) < 600


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HttpError("too_large", "x"), 413),
        (client.BadRequest("x"), 400),
        (client.TextTooLong("x"), 400),
        (client.DeadlineExceeded("x"), 504),
        (client.RequestTimeout("x"), 504),
        (client.Overloaded("x"), 429),
        (client.ShuttingDown("x"), 503),
        (client.ClientClosed("x"), 503),
        (client.ConnectionFailed("x"), 503),
        (client.WorkerFailed("x"), 500),
        (client.InternalError("x"), 500),
        (client.ProtocolError("x"), 500),
    ],
)
def test_every_exception_is_a_problem(error: Exception, status: int, log: Any) -> None:
    assert problem_of(error).status == status
    assert log.text == ""


def test_a_bug_is_logged(log: Any) -> None:
    problem = problem_of(KeyError("x"))
    assert (problem.status, problem.message) == (500, "KeyError: 'x'")
    assert "a bug" in log.text


def test_whom_to_tell_how() -> None:
    for path in ("/encode", "/status/server", "/nothing", "/v1"):
        assert dialect_of(path) is LEGACY
    for path in ("/v1/embeddings", "/v1/models/x"):
        assert dialect_of(path) is OPENAI
    for path in ("/", "/embed", "/info", "/tokenize", "/health"):
        assert dialect_of(path) is TEI
