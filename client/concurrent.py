"""ConcurrentBertClient: a pool of clients for threads that encode at the same time."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, List, NoReturn

from bert_serving.client.client import BertClient
from bert_serving.client.errors import ClientClosed, PoolExhausted
from bert_serving.client.streams import PartIterator

__all__ = ["ConcurrentBertClient"]


class ConcurrentBertClient:
    """``max_concurrency`` clients, each lent to one call at a time; ``kwargs`` are BertClient's.

    One BertClient can be shared by threads as well; a pool has a connection and an identity for
    each of them, and says so when there are more callers than it was made for. A named
    ``identity`` gets a number for each client. Raises what BertClient raises, and then has closed
    the clients that it had already made.
    """

    def __init__(self, max_concurrency: int = 10, **kwargs: Any) -> None:
        if max_concurrency < 1:
            raise ValueError("max_concurrency must be at least 1, but is %r" % (max_concurrency,))
        self.max_concurrency = max_concurrency
        self._lock = threading.Lock()
        self._closed = False
        self._clients: List[BertClient] = []
        try:
            for number in range(max_concurrency):
                self._clients.append(BertClient(**_with_own_identity(kwargs, number)))
        except BaseException:
            self.close()
            raise
        self.available_bc: List[BertClient] = list(self._clients)

    @contextmanager
    def _borrow(self) -> Iterator[BertClient]:
        with self._lock:
            if self._closed:
                raise ClientClosed("this client is closed: make a new one")
            if not self.available_bc:
                raise PoolExhausted(
                    "all %d clients are in use: make the ConcurrentBertClient with a larger "
                    "max_concurrency, or have fewer callers" % self.max_concurrency
                )
            client = self.available_bc.pop()
        try:
            yield client
        finally:
            with self._lock:
                self.available_bc.append(client)

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`BertClient.encode`, blocking only; raises PoolExhausted (a RuntimeError).

        With ``stream=True`` the client is lent until the iterator ends or is closed.
        """
        blocking = args[1] if len(args) > 1 else kwargs.get("blocking", True)
        if not blocking:
            _no_async("encode(blocking=False)")
        with ExitStack() as lent:
            client = lent.enter_context(self._borrow())
            result = client.encode(*args, **kwargs)
            if not isinstance(result, PartIterator):
                return result
            kept = lent.pop_all()
            kept.callback(result.close)
            return PartIterator(result.__next__, kept.close)

    @property
    def server_config(self) -> Dict[str, Any]:
        """As :attr:`BertClient.server_config`."""
        with self._borrow() as client:
            return client.server_config

    @property
    def server_status(self) -> Dict[str, Any]:
        """As :attr:`BertClient.server_status`."""
        with self._borrow() as client:
            return client.server_status

    @property
    def status(self) -> Dict[str, Any]:
        """As :attr:`BertClient.status`, of one of the clients."""
        with self._borrow() as client:
            return client.status

    def fetch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError."""
        _no_async("fetch()")

    def fetch_all(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError."""
        _no_async("fetch_all()")

    def encode_async(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError."""
        _no_async("encode_async()")

    def close(self) -> None:
        """Close all clients; calls under way raise ClientClosed. Safe to call twice."""
        with self._lock:
            self._closed = True
        for client in self._clients:
            client.close()

    def __enter__(self) -> ConcurrentBertClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _with_own_identity(kwargs: Dict[str, Any], number: int) -> Dict[str, Any]:
    """``kwargs`` for one client: two with the same identity would read each other's replies."""
    identity = kwargs.get("identity")
    if not identity:
        return kwargs
    suffix = "-%d" % number
    own = identity + (suffix if isinstance(identity, str) else suffix.encode("ascii"))
    return {**kwargs, "identity": own}


def _no_async(name: str) -> NoReturn:
    raise NotImplementedError(
        "%s needs to stay with one connection, which a ConcurrentBertClient doesn't: use a "
        "BertClient, which threads can share" % name
    )
