"""BertClient: encodes texts with a server, in the calling thread or in the background.

It works with this project's server and with the one of bert-as-service 1.10, and has the
surface of 1.10's client. Who receives what is decided in ``exchange.py``.
"""

from __future__ import annotations

import time
from typing import Any, Dict, Optional, Set

from bert_serving.client.arguments import Arguments, Layers, Pairs
from bert_serving.client.background import BackgroundCalls
from bert_serving.client.calls import Call, command, shortened
from bert_serving.client.connection import Connection
from bert_serving.client.exchange import Exchange
from bert_serving.client.options import Truncate
from bert_serving.client.progress import take_with_progress
from bert_serving.client.protocol import SHOW_CONFIG, SHOW_STATUS, Texts
from bert_serving.client.requests import Inbox
from bert_serving.client.responses import info_of, result_of
from bert_serving.client.streams import PartIterator

__all__ = ["BertClient"]


class BertClient(BackgroundCalls):
    """A connection to a server.

    ``ip`` is a host name, or an IPv4 or IPv6 address; ``port`` and ``port_out`` are those the
    server was started with. ``output_fmt`` is "ndarray" or "list". ``identity`` (1 to 254 bytes,
    or a string, taken as UTF-8) must be unique among the clients of a server; by default it is
    random. ``timeout`` is how many milliseconds to wait for an answer; -1: as long as it takes.
    ``keys`` is a file of bert-serving-keygen's, for a server that was started with -curve;
    ``server_key`` is that server's public key, or a file with it, if ``keys`` doesn't have it. The
    identity then begins with the client's public key.

    Unless ``ignore_all_checks``, the constructor asks the server for its configuration, and waits
    for it as long as ``timeout``, or 10 s if that is -1. Then it checks the version
    (``check_version``), learns the longest sequence to warn of longer texts (``check_length``)
    and whether the server sends tokens (``check_token_info``), and prints the configuration if
    told to (``show_server_config``).

    All methods may be called from several threads. A process that forks needs new clients.

    Raises RequestTimeout, VersionMismatch (an AttributeError), ConnectionFailed, and those of
    ``errors.py`` that the server may answer with; AttributeError for an unknown ``output_fmt``
    and ValueError for an ``identity``, a port or keys that can't be.
    """

    def _open(self) -> None:
        self._fetchable = Inbox()
        connection = Connection(self.ip, self.port, self.port_out, self.identity, self._keys)
        self._exchange = Exchange(connection, self.identity)
        if not any(self._checks):
            return
        try:
            self._learn(self._ask_info(SHOW_CONFIG, self._connect_seconds))
        except BaseException:
            self.close()
            raise

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
    def server_config(self) -> Dict[str, Any]:
        """The server's configuration. Raises as :meth:`encode` does."""
        return self._ask_info(SHOW_CONFIG, self._seconds)

    @property
    def server_status(self) -> Dict[str, Any]:
        """The server's configuration and what it does now. Raises as :meth:`encode` does."""
        return self._ask_info(SHOW_STATUS, self._seconds)

    def _ask_info(self, name: bytes, seconds: Optional[float]) -> Dict[str, Any]:
        return info_of(name, self._exchange.ask(command(name, seconds)).reply)

    # --------------------------------------------------------------------------------- encode

    def encode(
        self,
        texts: Optional[Texts] = None,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        pairs: Optional[Pairs] = None,
        timeout: Optional[float] = None,
        pooling_strategy: Optional[str] = None,
        pooling_layer: Optional[Layers] = None,
        normalize: Optional[bool] = None,
        truncate: Truncate = "right",
        dtype: str = "float32",
        show_offsets: bool = False,
        show_progress: bool = False,
        stream: bool = False,
        details: bool = False,
        partial: bool = False,
        user: Optional[str] = None,
    ) -> Any:
        """The vectors of ``texts``, a list of strings, or of lists of tokens if ``is_tokenized``.

        Or of ``pairs`` of strings, (first, second). Returns a read-only array of shape [rows,
        dimension], or [rows, sequence length, dimension] without pooling; nested lists with
        output_fmt="list".

        - ``blocking=False`` returns None at once; :meth:`fetch` gets the result.
        - ``show_tokens``: a tuple of it and a list of tokens for each row, if the server sends
          them; ``show_offsets``: with their [start, stop], characters of their text, as third.
        - ``details``: a whole :class:`Response`.
        - ``stream``: an iterator over (rows, array) as they are computed; rows is int64 [k]. Tokens
          and offsets follow in the tuple; with ``details`` it is (rows, Response). Closing it early
          lets the server drop the rest.
        - ``show_progress`` shows a tqdm bar meanwhile.
        - ``timeout``: seconds for all of it, instead of the client's milliseconds.
        - ``pooling_strategy``, ``pooling_layer``, ``normalize`` (to unit length): instead of the
          server's own, None.
        - ``truncate``: whether a text that is too long loses tokens on the "right" or "left", or is
          an error, False. ``dtype``: "float32" or "float16".
        - ``partial``: texts that can't be computed get vectors of zeros instead of an exception for
          all, and ``Response.failed`` says why; with ``details`` or ``blocking=False`` only.
        - ``user``: whom a program that serves many asks for: they share the server as clients do.

        Warns of texts that are truncated. Raises TypeError and ValueError for what can't be
        encoded, NotSupported for what a 1.10 server can't do, RequestTimeout, ServerError
        (``errors.py`` has its kinds), ProtocolError, ModelChanged, ClientClosed, ClientForked and
        ConnectionFailed.
        """
        if not blocking and (stream or show_progress):
            name = "stream" if stream else "show_progress"
            raise ValueError("%s=True waits for the parts: leave blocking=False out" % name)
        if stream and show_progress:
            raise ValueError("show_progress=True can't be seen with stream=True: leave one out")
        arguments = Arguments(
            texts,
            is_tokenized,
            show_tokens,
            pairs,
            timeout,
            pooling_strategy,
            pooling_layer,
            normalize,
            truncate,
            dtype,
            show_offsets,
            stream or show_progress,
            details or (partial and not blocking),  # fetch always gives them
            partial,
            user,
        )
        call = self._prepare(arguments, self._seconds if blocking else None)
        if not blocking:
            self._exchange.submit(self._fetchable, call)
            return None
        if stream:
            return self._stream(call)
        if show_progress:
            with self._exchange.ask_in_parts(call) as parts:
                taken = take_with_progress(parts, call.rows)
        else:
            taken = self._exchange.ask(call)
        return result_of(self._response(taken, 3), call)

    def _prepare(self, arguments: Arguments, seconds: Optional[float]) -> Call:
        if not self._has_to_ask(arguments):
            return self._call_of(arguments, seconds, 4)
        started = time.monotonic()
        self._learn_unchecked(self._ask_info(SHOW_CONFIG, self._seconds_to_ask(arguments)))
        return shortened(self._call_of(arguments, seconds, 4), time.monotonic() - started)

    def _stream(self, call: Call) -> PartIterator:
        parts = self._exchange.ask_in_parts(call)

        def take() -> Any:
            # Behind a part that came again may be nothing new.
            taken = next(one for one in parts if not one.is_empty)
            return self._part(taken, 4)

        return PartIterator(take, parts.close)

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
