"""Client of a BERT encoding service; needs numpy and pyzmq only.

>>> from bert_serving.client import BertClient
>>> with BertClient() as bc:  # doctest: +SKIP
...     bc.encode(["First do it", "then do it right"])  # an array of shape [2, dimension]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bert_serving.client.client import BertClient
from bert_serving.client.concurrent import ConcurrentBertClient
from bert_serving.client.errors import (
    BadRequest,
    BertServingError,
    ClientClosed,
    ClientForked,
    ConnectionFailed,
    DeadlineExceeded,
    InternalError,
    ModelChanged,
    NotSupported,
    Overloaded,
    PoolExhausted,
    ProtocolError,
    RequestTimeout,
    ServerError,
    ShuttingDown,
    TextTooLong,
    VersionMismatch,
    WorkerFailed,
)
from bert_serving.client.responses import Response
from bert_serving.client.version import __version__

if TYPE_CHECKING:
    from bert_serving.client.aio import AsyncBertClient

__all__ = [
    "__version__",
    "BertClient",
    "AsyncBertClient",
    "ConcurrentBertClient",
    "Response",
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
]


def __getattr__(name: str) -> Any:
    """AsyncBertClient when it is first asked for: asyncio takes as long to import as all else."""
    if name == "AsyncBertClient":
        from bert_serving.client.aio import AsyncBertClient

        return AsyncBertClient
    raise AttributeError("module %r has no attribute %r" % (__name__, name))
