"""What all endpoints share: the service as it is known here, and one request's way through it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional, TypeVar

from bert_serving.client.errors import BertServingError, DeadlineExceeded
from bert_serving.client.responses import Response as Vectors
from bert_serving.server.http.errors import HttpError
from bert_serving.server.http.inputs import Served
from bert_serving.server.http.readiness import Readiness
from bert_serving.server.spec import HttpSpec, ServiceSpec
from bert_serving.server.tokenization import Tokenizer

__all__ = ["Call", "Service"]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
T = TypeVar("T")

#: Bytes of a body, or token ids, that are taken care of on the spot; more would keep other requests
#: waiting.
AT_ONCE = 64 * 1024


@dataclass
class Service:
    """``client`` is an AsyncBertClient, or behaves like one."""

    spec: ServiceSpec
    http: HttpSpec
    client: Any
    vocabulary: Dict[str, int]
    readiness: Readiness
    #: When it started: Unix time.
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        # Only one, for each body takes much memory while it is parsed.
        self._thread = ThreadPoolExecutor(1, "bodies")
        self.change(self.spec, self.vocabulary)

    def change(self, spec: ServiceSpec, vocabulary: Dict[str, int]) -> None:
        """Another model takes the place of the one that was served."""
        self.spec, self.vocabulary = spec, vocabulary
        self.tokens = {number: token for token, number in self.vocabulary.items()}
        self.served = Served(
            self.http.max_rows, max(self.tokens), spec.tokenizer.max_length, self.http.max_body
        )
        # One for each model, for a thread may still make that of the one before.
        self._tokenizer = lru_cache(maxsize=None)(partial(_make_tokenizer, spec, vocabulary))

    def tokenizer(self) -> Tokenizer:
        """One that cuts nothing; made when it is first asked for, by any thread."""
        return self._tokenizer()

    async def apart(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        """What ``work`` returns; it runs in the one thread for such if ``size`` is large."""
        if size <= AT_ONCE:
            return work(*arguments)
        return await asyncio.get_event_loop().run_in_executor(self._thread, work, *arguments)

    def check_pooled(self) -> None:
        """Raise HttpError if there is a vector for each token: not all APIs have room for those."""
        if self.spec.engine.per_token:
            raise HttpError(
                "bad_request",
                "this server gives a vector for every token, which this API can't tell; use "
                "POST /encode, or start the server with another -pooling_strategy than NONE",
            )

    def check_dimensions(self, wanted: Optional[int]) -> None:
        """Raise HttpError if the vectors don't have as many."""
        most = self.spec.engine.dimension
        if wanted is not None and wanted > most:
            raise HttpError(
                "bad_request",
                "dimensions must be at most %d, the model's, but is %d" % (most, wanted),
                "dimensions",
            )


def _make_tokenizer(spec: ServiceSpec, vocabulary: Dict[str, int]) -> Tokenizer:
    return Tokenizer(vocabulary, replace(spec.tokenizer, max_length=1 << 30))


class Call:
    """One request while it is served."""

    def __init__(
        self, service: Service, receive: Receive, deadline: float, user: Optional[str] = None
    ) -> None:
        """``user``: whose it is; see access.user_of."""
        self.service = service
        self._user = user
        self._receive = receive
        self._deadline = deadline  # on the event loop's clock

    @property
    def seconds(self) -> float:
        """What is left of the request's time."""
        return self._deadline - asyncio.get_event_loop().time()

    async def encode(self, texts: List[Any], **options: Any) -> Vectors:
        """The vectors of ``texts``, with details; ``options`` are those of AsyncBertClient.encode.

        Ends, and lets the server drop the work, when whoever asked disconnects: then HttpError is
        raised, of the kind "gone". Otherwise raises as encode does.
        """
        seconds = self.seconds
        if seconds <= 0:
            raise self._too_late()
        encode = self.service.client.encode
        try:
            work = encode(texts, details=True, timeout=seconds, user=self._user, **options)
            answer: Vectors = await self._unless_gone(work)
        except BertServingError:
            raise
        except (TypeError, ValueError) as error:  # what the client says of its arguments
            raise HttpError("bad_request", str(error)) from error
        return answer

    async def status(self) -> Dict[str, Any]:
        """What SHOW_STATUS answers. Raises DeadlineExceeded, and as the client does."""
        work = self.service.client.server_status()
        try:
            answer: Dict[str, Any] = await asyncio.wait_for(work, max(0.0, self.seconds))
        except BertServingError:  # a RequestTimeout may be the error below, too
            raise
        except asyncio.TimeoutError:
            raise self._too_late() from None
        return answer

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            "the request wasn't answered within %g s" % self.service.http.timeout
        )

    async def _unless_gone(self, work: Awaitable[Vectors]) -> Vectors:
        task = asyncio.ensure_future(work)
        watcher = asyncio.ensure_future(self._disconnected())
        try:
            await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise HttpError("gone", "the client disconnected")
            return task.result()
        finally:
            watcher.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})  # it tells the server

    async def _disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
