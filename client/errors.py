"""What the client raises.

::

    BertServingError
    +-- ConnectionFailed   (ConnectionError)  a socket can't be set up or used
    +-- RequestTimeout     (TimeoutError)     no answer within the client's timeout
    +-- ProtocolError                         the server's answer can't be read
    +-- VersionMismatch    (AttributeError)   the server speaks another version
    +-- ClientClosed                          close() was called
    +-- ClientForked                          the client was made in another process
    +-- PoolExhausted      (RuntimeError)     every client of a ConcurrentBertClient is in use
    +-- ServerError                           the server answered with an error
        +-- BadRequest       (ValueError)     the request is wrong; the same one fails again
        +-- DeadlineExceeded (TimeoutError)   the server dropped it: its time had passed
        +-- ShuttingDown                      the server stops
        +-- WorkerFailed                      the engine failed on this request
        +-- InternalError                     a bug of the server's

The built-in type in parentheses is a base too. Arguments of a wrong type or value raise plain
TypeError, ValueError and (for ``output_fmt``) AttributeError, as 1.10 did.
"""

from __future__ import annotations

from typing import Dict, Type

from bert_serving.client.protocol import ErrorKind

__all__ = [
    "BertServingError",
    "ConnectionFailed",
    "RequestTimeout",
    "ProtocolError",
    "VersionMismatch",
    "ClientClosed",
    "ClientForked",
    "PoolExhausted",
    "ServerError",
    "BadRequest",
    "DeadlineExceeded",
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


class VersionMismatch(BertServingError, AttributeError):
    """The server speaks another version than this client."""


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


class DeadlineExceeded(ServerError, TimeoutError):
    """The server dropped the request, because the time that the client allowed had passed."""

    kind = ErrorKind.DEADLINE


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
    for error in (BadRequest, DeadlineExceeded, ShuttingDown, WorkerFailed, InternalError)
}


def server_error(kind: str, message: str) -> ServerError:
    """The exception for an error reply; a kind that a newer server adds is a plain ServerError."""
    error = _BY_KIND.get(kind, ServerError)(message)
    error.kind = kind
    return error
