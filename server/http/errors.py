"""What went wrong, as HTTP answers tell it: one table of statuses, and a form for each API.

Everything else only raises; :func:`problem_of` is the one place that knows which exception is which
problem. Pure.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, Dict, NamedTuple, Optional, Tuple, Type

from bert_serving.client import errors as client
from bert_serving.server.logs import log_bug

__all__ = [
    "DIALECTS",
    "HttpError",
    "LEGACY",
    "OPENAI",
    "PROBLEMS",
    "Dialect",
    "Problem",
    "TEI",
    "dialect_of",
    "problem_of",
]

logger = logging.getLogger(__name__)

#: Seconds that a client is asked to wait where nobody knows better.
RETRY_AFTER = 1.0


class Kind(NamedTuple):
    """A kind of problem: its status, 1.10's name of it, OpenAI's type and code, and
    text-embeddings-inference's error type and status, where that is another.
    """

    status: int
    legacy: str
    openai: Tuple[str, Optional[str]]
    tei: Tuple[str, Optional[int]] = ("Validation", None)


INVALID = "invalid_request_error"
SERVER = "server_error"

PROBLEMS: Dict[str, Kind] = {
    "bad_request": Kind(400, "BadRequest", (INVALID, None)),
    "too_long": Kind(400, "TextTooLong", (INVALID, "context_length_exceeded"), ("Validation", 413)),
    "unauthorized": Kind(401, "Unauthorized", (INVALID, "invalid_api_key")),
    "not_found": Kind(404, "NotFound", (INVALID, None)),
    "model_not_found": Kind(404, "NotFound", (INVALID, "model_not_found")),
    "bad_method": Kind(405, "MethodNotAllowed", (INVALID, None)),
    "slow_body": Kind(408, "RequestTimeout", ("timeout", None)),
    "too_large": Kind(413, "RequestTooLarge", (INVALID, None)),
    "bad_encoding": Kind(415, "UnsupportedEncoding", (INVALID, None)),
    "overloaded": Kind(429, "Overloaded", (SERVER, "overloaded"), ("Overloaded", None)),
    "gone": Kind(499, "Disconnected", (INVALID, None)),
    "internal": Kind(500, "InternalError", (SERVER, None), ("Backend", None)),
    "worker_failed": Kind(500, "WorkerFailed", (SERVER, None), ("Backend", 424)),
    "busy": Kind(503, "TooManyRequests", (SERVER, "overloaded"), ("Overloaded", None)),
    "unavailable": Kind(503, "Unavailable", (SERVER, None), ("Unhealthy", None)),
    "deadline": Kind(504, "DeadlineExceeded", ("timeout", None), ("Backend", None)),
}


@dataclass(frozen=True)
class Problem:
    """``param`` is the field of the request that is wrong, ``retry_after`` in seconds."""

    kind: str
    message: str
    param: Optional[str] = None
    retry_after: Optional[float] = None
    allow: Optional[str] = None  # methods that would be

    @property
    def status(self) -> int:
        return PROBLEMS[self.kind].status

    @property
    def headers(self) -> Dict[str, str]:
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.allow is not None:
            headers["Allow"] = self.allow
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


class HttpError(Exception):
    """A problem that this process finds itself."""

    def __init__(
        self,
        kind: str,
        message: str,
        param: Optional[str] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message)
        self.problem = Problem(kind, message, param, retry_after)


#: The first that fits counts.
_KINDS: Tuple[Tuple[Type[BaseException], str], ...] = (
    (client.TextTooLong, "too_long"),
    (client.BadRequest, "bad_request"),
    (client.DeadlineExceeded, "deadline"),
    (client.RequestTimeout, "deadline"),
    (client.Overloaded, "overloaded"),
    (client.ShuttingDown, "unavailable"),
    (client.ClientClosed, "unavailable"),
    (client.ConnectionFailed, "unavailable"),
    (client.WorkerFailed, "worker_failed"),
)


def problem_of(error: Exception) -> Problem:
    """The problem that an exception stands for; one that nobody expects is logged as a bug."""
    if isinstance(error, HttpError):
        return error.problem
    for type_, kind in _KINDS:
        if isinstance(error, type_):
            retry_after = getattr(error, "retry_after", None)
            if kind in ("overloaded", "unavailable") and retry_after is None:
                retry_after = RETRY_AFTER
            return Problem(kind, str(error), retry_after=retry_after)
    if not isinstance(error, client.BertServingError):
        log_bug(logger, "a bug", error)
    return Problem("internal", "%s: %s" % (type(error).__name__, error))


class Dialect:
    """How an API tells errors: 1.10's form."""

    name = "legacy"

    def status(self, problem: Problem) -> int:
        return problem.status

    def body(self, problem: Problem) -> Dict[str, Any]:
        """The JSON object of the answer."""
        return {
            "description": problem.message,
            "type": PROBLEMS[problem.kind].legacy,
            "status": problem.status,
        }


class OpenAiDialect(Dialect):
    """That of OpenAI's API."""

    name = "openai"

    def body(self, problem: Problem) -> Dict[str, Any]:
        type_, code = PROBLEMS[problem.kind].openai
        error = {"message": problem.message, "type": type_, "param": problem.param, "code": code}
        return {"error": error}


class TeiDialect(Dialect):
    """That of text-embeddings-inference."""

    name = "tei"

    def status(self, problem: Problem) -> int:
        own = PROBLEMS[problem.kind].tei[1]
        return problem.status if own is None else own

    def body(self, problem: Problem) -> Dict[str, Any]:
        return {"error": problem.message, "error_type": PROBLEMS[problem.kind].tei[0]}


LEGACY, OPENAI, TEI = Dialect(), OpenAiDialect(), TeiDialect()
DIALECTS = (LEGACY, OPENAI, TEI)
_TEI_PATHS = ("/", "/embed", "/info", "/tokenize", "/health")


def dialect_of(path: str) -> Dialect:
    """In which form errors at ``path`` are told."""
    if path.startswith("/v1/"):
        return OPENAI
    return TEI if path in _TEI_PATHS else LEGACY
