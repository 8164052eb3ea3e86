"""Client of a BERT encoding service; needs numpy and pyzmq only.

>>> from bert_serving.client import BertClient
>>> with BertClient() as bc:  # doctest: +SKIP
...     bc.encode(["First do it", "then do it right"])  # an array of shape [2, dimension]
"""

from __future__ import annotations

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
    PoolExhausted,
    ProtocolError,
    RequestTimeout,
    ServerError,
    ShuttingDown,
    VersionMismatch,
    WorkerFailed,
)
from bert_serving.client.responses import Response
from bert_serving.client.version import __version__

__all__ = [
    "__version__",
    "BertClient",
    "ConcurrentBertClient",
    "Response",
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
]
