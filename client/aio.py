"""AsyncBertClient: encodes texts with a server from the tasks of an event loop."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional, Set

from bert_serving.client.arguments import Arguments, Layers, Pairs
from bert_serving.client.async_exchange import AsyncExchange, AsyncInbox
from bert_serving.client.base import ClientBase
from bert_serving.client.calls import Call, command, shortened
from bert_serving.client.connection import Connection
from bert_serving.client.errors import ClientClosed
from bert_serving.client.options import Truncate
from bert_serving.client.protocol import SHOW_CONFIG, SHOW_STATUS, Texts
from bert_serving.client.responses import info_of, result_of
from bert_serving.client.streams import AsyncPartIterator

__all__ = ["AsyncBertClient"]


class AsyncBertClient(ClientBase):
    """A connection to a server, for one event loop; the arguments are BertClient's.

    ``async with`` connects and closes it, or :meth:`connect` and :meth:`close`. Any number of
    requests may be under way. A task that is cancelled cancels its request at the server. A process
    that forks needs new clients.

    The constructor raises AttributeError for an unknown ``output_fmt`` and ValueError for an
    ``identity``; all else is raised by :meth:`connect`.
    """

    def _open(self) -> None:
        self._exchange: Optional[AsyncExchange] = None
        self._is_closed = False

    async def connect(self) -> None:
        """Connect, and check the server as BertClient's constructor does; raises the same.

        Does nothing if this was done before.
        """
        if self._is_closed:
            raise ClientClosed("this client is closed: make a new one")
        if self._exchange is not None:
            self._exchange.check()
            return
        connection = Connection(self.ip, self.port, self.port_out, self.identity, self._keys)
        try:
            self._exchange = AsyncExchange(connection, self.identity)
        except BaseException:
            connection.close()
            raise
        if not any(self._checks):
            return
        try:
            self._learn(await self._ask_info(SHOW_CONFIG, self._connect_seconds))
        except BaseException:
            self.close()
            raise

    @property
    def _connected(self) -> AsyncExchange:
        if self._is_closed:
            raise ClientClosed("this client is closed: make a new one")
        if self._exchange is None:
            raise ClientClosed(
                "this client isn't connected: use it in `async with`, or await connect() first"
            )
        return self._exchange

    # --------------------------------------------------------------------------------- status

    @property
    def request_id(self) -> int:
        """The id of the latest request; they count from 1, commands included."""
        return 0 if self._exchange is None else self._exchange.last_id

    @property
    def pending_request(self) -> Set[int]:
        """The ids of requests whose result isn't handed out yet, arrived or not."""
        return set() if self._exchange is None else self._exchange.pending()

    @property
    def dropped_replies(self) -> int:
        """How many replies came that nobody waits for: after a timeout, twice, or another's."""
        return 0 if self._exchange is None else self._exchange.dropped

    async def server_config(self) -> Dict[str, Any]:
        """The server's configuration. Raises as :meth:`encode` does."""
        return await self._ask_info(SHOW_CONFIG, self._seconds)

    async def server_status(self) -> Dict[str, Any]:
        """The server's configuration and what it does now. Raises as :meth:`encode` does."""
        return await self._ask_info(SHOW_STATUS, self._seconds)

    async def _ask_info(
        self, name: bytes, seconds: Optional[float], inbox: Optional[AsyncInbox] = None
    ) -> Dict[str, Any]:
        taken = await self._connected.ask(command(name, seconds), inbox)
        return info_of(name, taken.reply)

    # --------------------------------------------------------------------------------- encode

    def encode(
        self,
        texts: Optional[Texts] = None,
        *,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        pairs: Optional[Pairs] = None,
        timeout: Optional[float] = None,
        pooling_strategy: Optional[str] = None,
        pooling_layer: Optional[Layers] = None,
        normalize: Optional[bool] = None,
        truncate: Truncate = "right",
        dtype: str = "float32",
        show_offsets: bool = False,
        stream: bool = False,
        details: bool = False,
        partial: bool = False,
        user: Optional[str] = None,
    ) -> Any:
        """As :meth:`BertClient.encode`, to be awaited.

        With ``stream=True`` it is an asynchronous iterator instead, for ``async for``; the request
        is sent with the first part that is asked for. Wrong arguments raise at once.
        """
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
            stream,
            details,
            partial,
            user,
        )
        return self._stream(arguments) if stream else self._encode(arguments)

    async def _encode(self, arguments: Arguments) -> Any:
        call = await self._prepare(arguments, 4)
        taken = await self._connected.ask(call)
        return result_of(self._response(taken, 3), call)

    async def _prepare(
        self, arguments: Arguments, stack_level: int, inbox: Optional[AsyncInbox] = None
    ) -> Call:
        """What to send; ``stack_level`` is that of warnings.warn in ``_call_of``.

        ``inbox`` as in AsyncExchange.ask, for what the server may have to be asked first.
        """
        seconds = self._seconds
        if not self._has_to_ask(arguments):
            return self._call_of(arguments, seconds, stack_level)
        started = time.monotonic()
        seconds_to_ask = self._seconds_to_ask(arguments)
        self._learn_unchecked(await self._ask_info(SHOW_CONFIG, seconds_to_ask, inbox))
        call = self._call_of(arguments, seconds, stack_level)
        return shortened(call, time.monotonic() - started)

    def _stream(self, arguments: Arguments) -> AsyncPartIterator:
        asking, inbox, has_begun = AsyncInbox(), AsyncInbox(), False

        async def take() -> Any:
            nonlocal has_begun
            exchange = self._connected
            if not has_begun:
                has_begun = True
                exchange.submit(inbox, await self._prepare(arguments, 5, asking))
            while True:
                taken = await exchange.next_reply(inbox)
                if taken is None:
                    raise StopAsyncIteration
                # Behind a part that came again may be nothing new.
                if not taken.is_empty:
                    return self._part(taken, 4)

        def end() -> None:
            if self._exchange is not None:
                # Another task may be waiting for either.
                self._exchange.forget(asking)
                self._exchange.forget(inbox)

        return AsyncPartIterator(take, end)

    # ---------------------------------------------------------------------------------- close

    def close(self) -> None:
        """Close the connection; tasks that wait raise ClientClosed. Safe to call twice.

        To be called in the thread of the event loop, or after its end.
        """
        self._is_closed = True
        if self._exchange is not None:
            self._exchange.close()

    async def __aenter__(self) -> AsyncBertClient:
        await self.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
