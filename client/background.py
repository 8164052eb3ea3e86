"""The calls of BertClient whose results come later: how they are fetched, and encode_async."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Optional

from bert_serving.client.arguments import Arguments, Layers
from bert_serving.client.base import ClientBase
from bert_serving.client.calls import Call
from bert_serving.client.exchange import Exchange
from bert_serving.client.feeder import feed_batches
from bert_serving.client.options import Truncate
from bert_serving.client.protocol import Texts
from bert_serving.client.requests import Inbox
from bert_serving.client.responses import Response, check_concatenable, concatenate, response_of

__all__ = ["BackgroundCalls"]


class BackgroundCalls(ClientBase):
    """See :class:`BertClient`. ``_fetchable`` is the inbox of ``encode(blocking=False)``."""

    _exchange: Exchange
    _fetchable: Inbox

    def _prepare(self, arguments: Arguments, seconds: Optional[float]) -> Call:
        """What to send; ``seconds`` as in ``call_of``. It may warn, of the caller of encode."""
        raise NotImplementedError

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
            yield self._response(taken, 3)

    def fetch_all(self, sort: bool = True, concat: bool = False) -> Any:
        """All results of ``encode(blocking=False)``: a list with one of encode's for each request.

        They are in the order of sending, or of arrival without ``sort``. With ``concat``, they
        are put together to one array or list of all rows; in an array, token vectors of requests
        that are shorter than others are filled up with zeros. None if nothing is pending.

        Raises as :meth:`fetch` does; nothing but the failed request is taken then. ValueError, and
        nothing is taken, if vectors of different dimensions would have to be in one array.
        """
        check = check_concatenable if concat and self.output_fmt != "list" else None
        taken = self._exchange.all_replies(self._fetchable, self._seconds, check)
        responses = [response_of(one, self.output_fmt) for one in taken]
        for response in responses:
            self._warn(response.truncated, 3)
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
        *,
        pairs: bool = False,
        timeout: Optional[float] = None,
        pooling_strategy: Optional[str] = None,
        pooling_layer: Optional[Layers] = None,
        normalize: Optional[bool] = None,
        truncate: Truncate = "right",
        dtype: str = "float32",
        show_offsets: bool = False,
        partial: bool = False,
        user: Optional[str] = None,
    ) -> Iterator[Response]:
        """Yield the result of every batch (a list as for :meth:`encode`), in order of arrival.

        A thread sends batches, at most ``max_num_batch`` of them, from the first ``next()`` on.
        The iterator ends when all are sent and their results yielded. If the generator raises,
        or a batch can't be sent, that is raised after the results of the batches before. A batch
        that failed on the server raises its ServerError, and no more are sent; those under way
        can be had from :meth:`fetch`, also after RequestTimeout, raised as there. Closing the
        iterator early drops them. ``delay`` is there for 1.10's callers and not used.

        With ``pairs``, batches are lists of (first, second). ``timeout``, in seconds, is that of
        each batch at the server. The other arguments are as for :meth:`encode`.
        """

        def prepare(batch: Any) -> Call:
            texts, couples = (None, batch) if pairs else (batch, None)
            arguments = Arguments(
                texts,
                is_tokenized,
                show_tokens,
                couples,
                timeout,
                pooling_strategy,
                pooling_layer,
                normalize,
                truncate,
                dtype,
                show_offsets,
                details=partial,  # always given, but to ask for them takes knowing the server
                partial=partial,
                user=user,
            )
            return self._prepare(arguments, None)

        answers = feed_batches(
            self._exchange, batch_generator, max_num_batch, prepare, self._seconds, self._fetchable
        )
        try:
            for taken in answers:
                yield self._response(taken, 3)
        finally:
            answers.close()
