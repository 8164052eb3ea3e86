"""Whether a request is taken, and what it asks for.

No socket and no clock; :mod:`ventilator` does what is decided here.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Optional

from bert_serving.client.frames import parse_texts
from bert_serving.client.protocol import ErrorKind, Request
from bert_serving.server.intake import Accepted
from bert_serving.server.open_requests import OpenRequests, Refusal
from bert_serving.server.pooling import Pooling, resolve
from bert_serving.server.request_messages import Registered
from bert_serving.server.sizes import Size, longest_text, reply_bytes, size_of, tokenized_bytes
from bert_serving.server.spec import ServiceSpec
from bert_serving.server.stats import Statistics

__all__ = ["Reception"]

#: For so many seconds a client that has asked again doesn't count as gone.
BACK_FOR = 2.0
#: Clients that asked again, remembered at most.
REMEMBERED = 1000

logger = logging.getLogger(__name__)


class Reception:
    """Makes requests open, as long as ``is_closed`` is False, for a service of ``spec``."""

    def __init__(self, spec: ServiceSpec, statistics: Statistics, requests: OpenRequests) -> None:
        self.spec = spec
        self._statistics = statistics
        self._requests = requests
        self.accepted = 0  # ever; the newest one's handle
        self.is_closed = False
        self._back_at: "OrderedDict[bytes, float]" = OrderedDict()

    def take(self, request: Request, now: float) -> Optional[Accepted]:
        """The request, open from now on; None if it is open already and was only sent again.

        Raises MalformedMessage if it can't be read, and Refusal if it isn't taken.
        """
        options = request.options
        if options is not None and options.again:
            self._note_back(request.identity, now)
            if self._requests.find(*request.name) is not None:
                return None
        if self.is_closed:
            message = "the server is stopping and takes no new requests"
            raise Refusal(ErrorKind.SHUTTING_DOWN, message)
        # Before its texts are parsed, which take several times the memory of their JSON.
        rate = self._statistics.rows_per_second(now)
        size = size_of(request)
        self._requests.check(request, size, rate)
        texts, is_tokenized = parse_texts(request)
        logger.debug(
            "request %d of client %r: %d texts", request.request_id, request.identity, len(texts)
        )
        pooling = self._pooling_of(request, is_tokenized)
        accepted = Accepted(
            self.accepted + 1,
            request,
            texts,
            is_tokenized,
            pooling,
            per_token=self.spec.engine.per_token if pooling is None else pooling.per_token,
            with_tokens=self.spec.show_tokens if options is None else options.tokens,
            now=now,
            model=self.spec.model_fingerprint.encode("ascii"),
        )
        size = self._find_place(accepted, size, rate)
        self.accepted += 1
        self._statistics.count_request(request.identity, len(texts), now)
        self._requests.add(accepted, size)
        return accepted

    def is_back(self, client: bytes, now: float) -> bool:
        """Whether a client that the sink says is gone has asked again just before: both have seen
        the connection return, each at its own time, and what is ignored then must not be dropped.
        """
        return now - self._back_at.get(client, now - BACK_FOR) < BACK_FOR

    def _note_back(self, client: bytes, now: float) -> None:
        self._back_at[client] = now
        self._back_at.move_to_end(client)
        if len(self._back_at) > REMEMBERED:
            self._back_at.popitem(last=False)

    def _find_place(self, accepted: Accepted, size: Size, rate: float) -> Size:
        """What a request is to be taken for. Raises Refusal if there is no place for it.

        That is what its reply takes at most. But texts usually have a fraction of the tokens that
        they could have, so where there is no place for that, it is what the reply takes at least,
        and as its texts are tokenized it grows, or is refused after all: see :meth:`settle`.
        """
        reply = self._reply_bytes(accepted, self.spec, _longest(accepted))
        try:
            self._requests.check(accepted.request, size._replace(reply=reply), rate)
        except Refusal:
            least = self._reply_bytes(accepted, self.spec, 1)
            if least >= reply:
                raise
            self._requests.check(accepted.request, size._replace(reply=least), rate)
            reply = least
        return size._replace(reply=reply)

    def settle(self, accepted: Accepted, spec: ServiceSpec, now: float) -> Optional[Registered]:
        """Some more of an open request's texts are tokenized, for a model of ``spec``. Once all
        are, returns what the sink is to be told, and it is known what the request takes.

        Raises Refusal if there is no place for its reply; these rows must not be computed then.
        """
        if not accepted.is_complete:
            if _depends_on_tokens(accepted):
                reply = self._reply_bytes(accepted, spec, accepted.longest)
                rate = self._statistics.rows_per_second(now)
                self._requests.grow(accepted.handle, reply, rate)
            return None
        self._statistics.count_stage("tokenize", now - accepted.accepted_at)
        lengths = (spec.max_batch_size, spec.tokenizer.max_length, spec.fixed_length)
        registered = accepted.registered(*lengths, now)
        if accepted.is_small and not _depends_on_tokens(accepted):
            return registered  # too small to make a difference
        is_padded = accepted.per_token and not spec.fixed_length
        length = registered.padded_length if is_padded else accepted.longest
        reply = self._reply_bytes(accepted, spec, length)
        memory = tokenized_bytes(accepted.rows, accepted.num_tokens)
        rate = self._statistics.rows_per_second(now)
        self._requests.settle(accepted.handle, memory, reply, rate)
        return registered

    def deadline_of(self, accepted: Accepted) -> Optional[float]:
        """When the request is to be answered at the latest, by the clock of its acceptance."""
        timeout = accepted.request.timeout or self.spec.request_timeout
        return accepted.accepted_at + timeout if timeout else None

    @staticmethod
    def _reply_bytes(accepted: Accepted, spec: ServiceSpec, length: int) -> int:
        return reply_bytes(
            spec,
            accepted.request,
            accepted.pooling,
            accepted.per_token,
            accepted.with_tokens,
            length,
        )

    def _pooling_of(self, request: Request, is_tokenized: bool) -> Optional[Pooling]:
        """The pooling that the request asks for, None if it is the server's own.

        Raises Refusal if it asks for what can't be done.
        """
        options = request.options
        if options is None:
            return None
        if is_tokenized and options.offsets:
            message = "tokenized texts have no offsets; ask for tokens alone"
            raise Refusal(ErrorKind.BAD_REQUEST, message)
        if not options.asks_for_pooling:
            return None
        try:
            return resolve(
                self.spec.pooling,
                options.pooling_strategy,
                options.pooling_layer,
                options.normalize,
            )
        except ValueError as error:
            raise Refusal(ErrorKind.BAD_REQUEST, str(error)) from error


def _depends_on_tokens(accepted: Accepted) -> bool:
    """Whether its reply takes the more, the more tokens its texts have."""
    return accepted.per_token or accepted.with_tokens or accepted.options.offsets


def _longest(accepted: Accepted) -> int:
    """How many tokens its longest text has at most, where that matters."""
    if not _depends_on_tokens(accepted):
        return 0
    return longest_text(accepted.texts, accepted.is_tokenized)
