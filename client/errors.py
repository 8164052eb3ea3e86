"""What the client raises.

::

    BertServingError
    +-- ConnectionFailed   (ConnectionError)  a socket can't be set up or used
    +-- RequestTimeout     (TimeoutError)     no answer within the client's timeout
    +-- ProtocolError                         the server's answer can't be read
    +-- ModelChanged                          the rest of a stream would be of another model
    +-- VersionMismatch    (AttributeError)   the server speaks another version
    +-- NotSupported       (ValueError)       the server, a 1.10 one, can't do what was asked for
    +-- ClientClosed                          close() was called
    +-- ClientForked                          the client was made in another process
    +-- PoolExhausted      (RuntimeError)     every client of a ConcurrentBertClient is in use
    +-- ServerError                           the server answered with an error
        +-- BadRequest       (ValueError)     the request is wrong; the same one fails again
        |   +-- TextTooLong                   a text is, and truncate=False forbids to cut it
        +-- DeadlineExceeded (TimeoutError)   the server dropped it: its time had passed
        +-- Overloaded                        too much waits there; see ``retry_after``
        +-- ShuttingDown                      the server stops
        +-- WorkerFailed                      the engine failed on this request
        +-- InternalError                     a bug of the server's

The built-in type in parentheses is a base too. Arguments of a wrong type or value raise plain
TypeError, ValueError and (for ``output_fmt``) AttributeError, as 1.10 did.
"""

from __future__ import annotations

from typing import Dict, Optional, Type

from bert_serving.client.protocol import ErrorKind

__all__ = [
    "BertServingError",
    "ConnectionFailed",
    "RequestTimeout",
    "ProtocolError",
    "ModelChanged",
    "VersionMismatch",
    "NotSupported",
    "ClientClosed",
    "ClientForked",
    "PoolExhausted",
    "ServerError",
    "BadRequest",
    "TextTooLong",
    "DeadlineExceeded",
    "Overloaded",
    "ShuttingDown",
    "WorkerFailed",
    "InternalError",
    "server_error",
]


class BertServingError(Exception):
    """The base of everything that the client itself raises."""


class ConnectionFailed(BertServingError, ConnectionError):
    """A socket can't be set up or used; the message names the address."""


class RequestTimeout(BertServingError, TimeoutError):
    """No answer within the client's timeout; the message names the address and what to check."""


class ProtocolError(BertServingError):
    """The server's answer can't be read, or answers something else."""


class ModelChanged(BertServingError):
    """The rest of a stream would be of another model than what came before; ask again for all."""


class VersionMismatch(BertServingError, AttributeError):
    """The server speaks another version than this client."""


class NotSupported(BertServingError, ValueError):
    """The server is one of bert-as-service 1.10, which can't do what was asked for."""


class ClientClosed(BertServingError):
    """The client is closed."""


class ClientForked(BertServingError):
    """The client was made before a fork, in the parent process, and can't be used in the child."""


class PoolExhausted(BertServingError, RuntimeError):
    """Every client of a ConcurrentBertClient is in use."""


class ServerError(BertServingError):
    """The server answered with an error; ``kind`` is one of :class:`protocol.ErrorKind`."""

    kind = ErrorKind.INTERNAL


class BadRequest(ServerError, ValueError):
    """The request itself is wrong; sent again, it fails again."""

    kind = ErrorKind.BAD_REQUEST


class TextTooLong(BadRequest):
    """A text has more tokens than the server takes, and ``truncate=False`` forbids to cut it."""

    kind = ErrorKind.TOO_LONG


class DeadlineExceeded(ServerError, TimeoutError):
    """The server dropped the request, because the time that the client allowed had passed."""

    kind = ErrorKind.DEADLINE


class Overloaded(ServerError):
    """Too much waits at the server; ask again in ``retry_after`` seconds (None: it doesn't say)."""

    kind = ErrorKind.OVERLOADED
    retry_after: Optional[float] = None


class ShuttingDown(ServerError):
    """The server stops; ask another one, or this one later."""

    kind = ErrorKind.SHUTTING_DOWN


class WorkerFailed(ServerError):
    """The engine failed on this request, also when it was tried again."""

    kind = ErrorKind.WORKER_FAILED


class InternalError(ServerError):
    """A bug of the server's."""


_BY_KIND: Dict[str, Type[ServerError]] = {
    error.kind: error
    for error in (
        BadRequest,
        TextTooLong,
        DeadlineExceeded,
        Overloaded,
        ShuttingDown,
        WorkerFailed,
        InternalError,
    )
}


def server_error(kind: str, message: str, retry_after: Optional[float] = None) -> ServerError:
    """The exception for an error reply; a kind that a newer server adds is a plain ServerError."""
    error = _BY_KIND.get(kind, ServerError)(message)
    error.kind = kind
    if isinstance(error, Overloaded):
        error.retry_after = retry_after
    return error
