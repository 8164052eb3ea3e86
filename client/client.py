"""BertClient: encodes texts with a server, in the calling thread or in the background.

It works with this project's server and with the one of bert-as-service 1.10, and has the
surface of 1.10's client. Who receives what is decided in ``exchange.py``.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, Optional, Set, Union

from bert_serving.client.checks import (
    check_texts,
    check_version,
    identity_bytes,
    limits_of,
    print_config,
    protocol_of,
    warn_of_lengths,
    warn_of_tokens,
)
from bert_serving.client.connection import Connection
from bert_serving.client.exchange import Exchange
from bert_serving.client.feeder import BatchFeeder
from bert_serving.client.frames import MAX_TIMEOUT, encode_texts
from bert_serving.client.protocol import SHOW_CONFIG, SHOW_STATUS, Texts
from bert_serving.client.requests import Inbox
from bert_serving.client.responses import Response, concatenate, info_of, response_of
from bert_serving.client.version import __version__

__all__ = ["BertClient"]

#: How long the constructor waits for a server when no ``timeout`` is named, in milliseconds.
CONNECT_TIMEOUT_MS = 10_000
#: How many batches encode_async keeps sent and not yet taken by its consumer.
ASYNC_WINDOW = 1024


class BertClient:
    """A connection to a server.

    ``ip`` is a host name, or an IPv4 or IPv6 address; ``port`` and ``port_out`` are those the
    server was started with. ``output_fmt`` is "ndarray" or "list". ``identity`` (1 to 254 bytes,
    or a string, taken as UTF-8) must be unique among the clients of a server; by default it is
    random. ``timeout`` is how many milliseconds to wait for an answer; -1: as long as it takes.

    Unless ``ignore_all_checks``, the constructor asks the server for its configuration, and waits
    for it as long as ``timeout``, or 10 s if that is -1. Then it checks the version
    (``check_version``), learns the longest sequence to warn of longer texts (``check_length``)
    and whether the server sends tokens (``check_token_info``), and prints the configuration if
    told to (``show_server_config``).

    All methods may be called from several threads. A process that forks needs new clients.

    Raises RequestTimeout, VersionMismatch (an AttributeError), ConnectionFailed, and those of
    ``errors.py`` that the server may answer with; AttributeError for an unknown ``output_fmt``
    and ValueError for an ``identity`` or a port that can't be one.
    """

    def __init__(
        self,
        ip: str = "localhost",
        port: int = 5555,
        port_out: int = 5556,
        output_fmt: str = "ndarray",
        show_server_config: bool = False,
        identity: Union[bytes, str, None] = None,
        check_version: bool = True,
        check_length: bool = True,
        check_token_info: bool = True,
        ignore_all_checks: bool = False,
        timeout: float = -1,
    ) -> None:
        if output_fmt not in ("ndarray", "list"):
            raise AttributeError('output_fmt must be "ndarray" or "list", not %r' % (output_fmt,))
        self.identity = identity_bytes(identity)
        self.ip = ip
        self.port = port
        self.port_out = port_out
        self.output_fmt = output_fmt
        self.timeout = timeout
        self.length_limit: Optional[int] = 0
        self.token_info_available = False
        self._server_protocol = 1
        self._fetchable = Inbox()
        self._exchange = Exchange(Connection(ip, port, port_out, self.identity), self.identity)
        wanted = check_version or show_server_config or check_length or check_token_info
        if ignore_all_checks or not wanted:
            return
        try:
            self._check_server(check_version, check_length, check_token_info, show_server_config)
        except BaseException:
            self.close()
            raise

    def _check_server(self, version: bool, length: bool, tokens: bool, show: bool) -> None:
        seconds = CONNECT_TIMEOUT_MS / 1000 if self._seconds is None else self._seconds
        config = self._ask_info(SHOW_CONFIG, seconds)
        self._server_protocol = protocol_of(config)
        if version:
            check_version(config)
        limit, sends_tokens = limits_of(config)
        if length:
            self.length_limit = limit
        if tokens:
            self.token_info_available = sends_tokens
        if show:
            print_config(config)

    # --------------------------------------------------------------------------------- status

    @property
    def request_id(self) -> int:
        """The id of the latest request; they count from 1, commands included."""
        return self._exchange.last_id

    @property
    def pending_request(self) -> Set[int]:
        """The ids of requests whose result isn't handed out yet, arrived or not."""
        return self._exchange.pending()

    @property
    def pending_response(self) -> Dict[int, Any]:
        """The replies that have come and can be fetched at once, by request id."""
        return self._exchange.arrived(self._fetchable)

    @property
    def dropped_replies(self) -> int:
        """How many replies came that nobody waits for: after a timeout, twice, or another's."""
        return self._exchange.dropped

    @property
    def status(self) -> Dict[str, Any]:
        """The state of this client; asks the server nothing."""
        pending = self.pending_request
        return {
            "identity": self.identity,
            "num_request": self.request_id,
            "num_pending_request": len(pending),
            "pending_request": pending,
            "output_fmt": self.output_fmt,
            "port": self.port,
            "port_out": self.port_out,
            "server_ip": self.ip,
            "client_version": __version__,
            "timeout": self.timeout,
        }

    @property
    def server_config(self) -> Dict[str, Any]:
        """The server's configuration. Raises as :meth:`encode` does."""
        return self._ask_info(SHOW_CONFIG, self._seconds)

    @property
    def server_status(self) -> Dict[str, Any]:
        """The server's configuration and what it does now. Raises as :meth:`encode` does."""
        return self._ask_info(SHOW_STATUS, self._seconds)

    @property
    def _seconds(self) -> Optional[float]:
        return None if self.timeout < 0 else self.timeout / 1000

    def _ask_info(self, command: bytes, seconds: Optional[float]) -> Dict[str, Any]:
        _, reply = self._exchange.ask(command, seconds=seconds)
        return info_of(command, reply)

    # --------------------------------------------------------------------------------- encode

    def encode(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
    ) -> Any:
        """The vectors of ``texts``, a list of strings, or of lists of tokens if ``is_tokenized``.

        Returns a read-only array of shape [rows, dimension], or [rows, sequence length,
        dimension] from a server without pooling; nested lists with output_fmt="list". With
        ``show_tokens``, and if the server sends them, a pair of it and a list of tokens for each
        row. With ``blocking=False`` returns None at once; :meth:`fetch` gets the result.

        Warns of texts that will be truncated. Raises TypeError and ValueError for texts that
        can't be encoded, RequestTimeout, ServerError (``errors.py`` has its kinds),
        ProtocolError, ClientClosed, ClientForked and ConnectionFailed.
        """
        payload = self._prepare(texts, is_tokenized)
        if not blocking:
            self._exchange.submit(self._fetchable, payload, len(texts))
            return None
        if show_tokens and not self.token_info_available:
            warn_of_tokens()
        seconds = self._seconds
        # So that the server doesn't compute what nobody waits for; 1.10 doesn't know headers.
        header = None
        if seconds and self._server_protocol >= 2:
            header = {"timeout": min(seconds, MAX_TIMEOUT)}
        taken = self._exchange.ask(payload, len(texts), header, seconds)
        response = response_of(*taken, self.output_fmt)
        if show_tokens and self.token_info_available:
            return response.embedding, response.tokens
        return response.embedding

    def _prepare(self, texts: Texts, is_tokenized: bool) -> bytes:
        check_texts(texts, is_tokenized)
        warn_of_lengths(texts, self.length_limit, is_tokenized)
        return encode_texts(texts)

    # ---------------------------------------------------------------------------------- fetch

    def fetch(self, delay: float = 0.0) -> Iterator[Response]:
        """Yield the results of ``encode(blocking=False)`` as they come, until none is pending.

        The order is that of arrival; ``Response.id`` tells that of sending. ``delay`` is there
        for 1.10's callers and not used. A request that failed raises its ServerError or
        ProtocolError in its turn; the others stay pending, for another call of fetch. So they do
        on RequestTimeout, raised when no result comes for ``timeout``.
        """
        while True:
            taken = self._exchange.next_reply(self._fetchable, self._seconds)
            if taken is None:
                return
            yield response_of(*taken, self.output_fmt)

    def fetch_all(self, sort: bool = True, concat: bool = False) -> Any:
        """All results of ``encode(blocking=False)``: a list with one of encode's for each request.

        They are in the order of sending, or of arrival without ``sort``; with ``concat``, they
        are put together to one array or list of all rows. None if nothing is pending. Raises as
        :meth:`fetch` does; nothing but the failed request is taken then.
        """
        taken = self._exchange.all_replies(self._fetchable, self._seconds)
        responses = [response_of(*one, self.output_fmt) for one in taken]
        if not responses:
            return None
        if sort:
            responses.sort(key=lambda response: response.id)
        results = [response.embedding for response in responses]
        return concatenate(results, self.output_fmt) if concat else results

    def encode_async(
        self,
        batch_generator: Iterable[Texts],
        max_num_batch: Optional[int] = None,
        delay: float = 0.1,
        is_tokenized: bool = False,
        show_tokens: bool = False,
    ) -> Iterator[Response]:
        """Yield the result of every batch (a list as for :meth:`encode`), in order of arrival.

        A thread sends batches, at most ``max_num_batch`` of them, from the first ``next()`` on.
        The iterator ends when all are sent and their results yielded. If the generator raises,
        or a batch can't be sent, that is raised after the results of the batches before. A batch
        that failed on the server raises its ServerError, and no more are sent; those under way
        can be had from :meth:`fetch`, also after RequestTimeout, raised as there. Closing the
        iterator early drops them. ``delay`` and ``show_tokens`` are there for 1.10's callers and
        not used: tokens, if the server sends them, are in every Response.
        """
        inbox = Inbox(is_open=True)

        def send(texts: Texts) -> bool:
            payload = self._prepare(texts, is_tokenized)
            return self._exchange.feed(inbox, payload, len(texts), ASYNC_WINDOW)

        feeder = BatchFeeder(
            batch_generator, max_num_batch, send, lambda: self._exchange.close_inbox(inbox)
        )
        failed = False
        try:
            while True:
                taken = self._exchange.next_reply(inbox, self._seconds)
                if taken is None:
                    break
                yield response_of(*taken, self.output_fmt)
            feeder.raise_failure()
        except Exception:
            failed = True
            raise
        finally:
            # Closed first: from then on the feeder sends nothing that would be left behind.
            self._exchange.close_inbox(inbox)
            if failed:
                self._exchange.hand_over(inbox, self._fetchable)
            self._exchange.forget(inbox)
            feeder.stop()

    # ---------------------------------------------------------------------------------- close

    def close(self) -> None:
        """Close the connection; waiting calls of other threads raise ClientClosed.

        A request that was sent just before may not reach the server. Safe to call twice.
        """
        self._exchange.close()

    def __enter__(self) -> BertClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
