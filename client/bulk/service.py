"""The server of a run: one that runs already, or one that is started for it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional

import numpy as np

from bert_serving.client.bulk.errors import BulkError, UsageError
from bert_serving.client.bulk.pipeline import BatchFailed, Encoder, Result
from bert_serving.client.client import BertClient
from bert_serving.client.errors import BertServingError, Overloaded

__all__ = ["Address", "ServerEncoder", "connected", "started"]

#: How long to wait for the first answer of a server, in milliseconds.
CONNECT_MS = 10_000
#: How long to wait for an overloaded server that doesn't say how long.
RETRY_SECONDS = 1.0


class Address(NamedTuple):
    """Where a server listens."""

    ip: str
    port: int
    port_out: int


@contextlib.contextmanager
def connected(
    address: Address,
    timeout: float,
    options: Dict[str, Any],
    keys: Optional[str] = None,
    server_key: Optional[str] = None,
) -> Iterator["ServerEncoder"]:
    """An encoder by the server at ``address``, with ``options`` for ``BertClient.encode``.

    ``timeout`` is how many milliseconds to wait for one more result; ``keys`` and ``server_key``
    are BertClient's. Raises BulkError.
    """
    first = CONNECT_MS if timeout < 0 else min(timeout, CONNECT_MS)
    with _client_errors():
        # Texts that are too long are counted, not warned of one by one.
        client = BertClient(
            *address,
            check_length=False,
            check_token_info=False,
            timeout=first,
            keys=keys,
            server_key=server_key,
        )
    try:
        with _client_errors():
            config = client.server_config
        client.timeout = timeout
        yield ServerEncoder(client, config, options)
    finally:
        client.close()


class _Request(NamedTuple):
    """What the pipeline asked for, by its own number: a request may be sent more than once."""

    id: int
    texts: List[str]


class ServerEncoder(Encoder):
    """Requests to a server; ``config`` is what it says of itself.

    What an overloaded server refuses is sent again, one request for each that it answers, or when
    it has answered all, after the time that it asked to wait. ``wait`` waits so many seconds.

    All vectors are of the model that ``config`` tells: what another one answers is an error.
    """

    def __init__(
        self,
        client: BertClient,
        config: Dict[str, Any],
        options: Dict[str, Any],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self._model = config.get("model_fingerprint") or None  # a 1.10 server doesn't say
        self._client = client
        self._options = options
        self._wait = wait
        self._last_id = 0
        self._sent: Dict[int, _Request] = {}  # by the client's number
        self._refused: Deque[_Request] = deque()

    def dimension(self) -> int:
        """That of the vectors, found by having a word encoded.

        So it counts what the options change. Raises UsageError for a server that can't do what
        they ask, or gives vectors of tokens.
        """
        try:
            self.submit(["a"])
            vectors = self.receive().vectors
        except (BatchFailed, BulkError) as error:
            is_refused = isinstance(error.__cause__, (ValueError, TypeError))
            raise (UsageError if is_refused else BulkError)(str(error)) from error
        if vectors.ndim != 2:
            raise UsageError(
                "the server gives a vector for every token (pooling strategy %s), but a row of "
                "the output has one: ask for another by --pooling_strategy, e.g. REDUCE_MEAN"
                % (self.config.get("pooling_strategy_name") or "NONE")
            )
        return int(vectors.shape[1])

    def submit(self, texts: List[str]) -> int:
        """See :meth:`Encoder.submit`."""
        self._last_id += 1
        self._send(_Request(self._last_id, texts))
        return self._last_id

    def _send(self, request: _Request) -> None:
        with _client_errors():
            self._client.encode(request.texts, blocking=False, **self._options)
        self._sent[self._client.request_id] = request

    def receive(self) -> Result:
        """See :meth:`Encoder.receive`. Raises BulkError, too, if all is refused for too long, or
        the answer is of another model.
        """
        waited = 0.0
        while True:
            try:
                with _client_errors():
                    response = next(self._client.fetch())
            except BulkError as error:
                request = self._failed()
                if request is None:
                    raise
                if not isinstance(error.__cause__, Overloaded):
                    raise BatchFailed(request.id, str(error)) from error.__cause__
                self._refused.append(request)
                if not self._sent:
                    seconds = error.__cause__.retry_after or RETRY_SECONDS
                    waited += seconds
                    if 0 <= self._client.timeout < waited * 1000:
                        raise
                    self._wait(seconds)
                    self._send(self._refused.popleft())
                continue
            self._check_model(response.model)
            request = self._sent.pop(response.id)
            if self._refused:
                self._send(self._refused.popleft())
            vectors = np.asarray(response.embedding)
            return Result(request.id, vectors, len(response.truncated))

    def _check_model(self, model: Optional[str]) -> None:
        if model != self._model:
            raise BulkError(
                "the server's model changed during the run: its fingerprint was %s and is %s; give "
                "the server the old model and go on, or begin anew with the new one by --restart"
                % (self._model or "not told", model or "not told")
            )

    def _failed(self) -> Optional[_Request]:
        """The request that an error was about: the one that isn't waited for any more."""
        gone = self._sent.keys() - self._client.pending_request
        return self._sent.pop(gone.pop()) if gone else None


@contextlib.contextmanager
def _client_errors() -> Iterator[None]:
    """What the client raises becomes a BulkError."""
    try:
        yield
    except (BertServingError, ValueError, TypeError) as error:
        name = type(error).__name__
        raise BulkError("%s: %s" % (name, error)) from error


# ------------------------------------------------------------------------------------ starting


@contextlib.contextmanager
def started(words: List[str], quiet: bool) -> Iterator[Address]:
    """Start a server with the arguments ``words`` of bert-serving-start; stop it at the end.

    It gets ports that are free, unless it is told which. Raises UsageError.
    """
    args = server_arguments(words)
    from bert_serving.graph_opt.errors import GraphOptError
    from bert_serving.server import BertServer
    from bert_serving.server.errors import ServerError as StartError

    @contextlib.contextmanager
    def for_the_user() -> Iterator[None]:
        try:
            yield
        except (StartError, GraphOptError) as error:
            raise UsageError("the server can't start: %s" % error) from error

    with for_the_user():
        server = BertServer(args)
    if quiet:
        logging.getLogger("bert_serving").setLevel(logging.WARNING)
    try:
        with for_the_user():
            server.start()
            server.wait_until_ready()
        everywhere = args.host in ("0.0.0.0", "::", "*")  # noqa: S104 - compared, not bound
        yield Address("127.0.0.1" if everywhere else args.host, args.port, args.port_out)
    finally:
        server.close()


def server_arguments(words: List[str]) -> argparse.Namespace:
    """The arguments of bert-serving-start, with ports that are free where none is named."""
    try:
        from bert_serving.server.arguments import get_args_parser
    except ImportError as error:
        raise UsageError(
            "--start needs the server (%s): pip install bert-serving" % error
        ) from error
    parser = get_args_parser()
    parser.set_defaults(port=None, port_out=None)
    args = parser.parse_args(words)
    free = free_ports()
    args.port = args.port or free[0]
    args.port_out = args.port_out or free[1]
    return args


def free_ports() -> List[int]:
    """Two ports of this machine that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]
