"""From the bytes of a request to the rows that the scheduler gets.

A large request is tokenized in chunks, on threads, while the first of them are computed already;
only two of its chunks are in the pool at a time, so that others' requests get their turn. A
small one is tokenized on the spot, which takes less time than handing it over.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from bert_serving.client.options import NO_OPTIONS
from bert_serving.client.protocol import ErrorKind, Request
from bert_serving.server.batching import Row, rows_of
from bert_serving.server.pooling import Pooling
from bert_serving.server.reply_plan import ReplyPlan
from bert_serving.server.request_messages import Registered
from bert_serving.server.tokenization import EncodedTexts, TextTooLong, Tokenizer, padded_length

__all__ = ["Accepted", "Chunk", "Intake", "InvalidText"]

CHUNK_ROWS = 512
CHUNKS_AHEAD = 2
#: Up to so many texts, of a request of so many bytes, are tokenized by the caller: a byte may take
#: three microseconds, and meanwhile it does nothing else.
INLINE_ROWS, INLINE_BYTES = 16, 32 * 1024
THREADS = 2
#: Bytes from which on it is worth it to let the JSON of a request go.
LARGE_PAYLOAD = 4096


class InvalidText(ValueError):
    """A text that can't be encoded; the message names it, and ``kind`` is the error reply's."""

    def __init__(self, message: str, kind: str = ErrorKind.BAD_REQUEST) -> None:
        super().__init__(message)
        self.kind = kind


class Chunk(NamedTuple):
    """Consecutive texts of a request, tokenized, or the reason why they couldn't be."""

    handle: int
    start: int
    encoded: Optional[EncodedTexts] = None
    tokens: Sequence[List[str]] = ()  # empty unless clients may have them
    error: Optional[Exception] = None


class Accepted:
    """A request on its way through tokenization, and what is known of it until it ends.

    ``pooling`` is None if it wants the server's own; ``per_token``: its result has a vector for
    each token, and therefore a padded length; ``with_tokens``: the client gets the tokens. ``now``
    is the time of the machine's steady clock, ``model`` the fingerprint of that of its generation.
    ``is_small``: it takes little time to tokenize, and little memory.
    Texts and their JSON are let go as soon as nothing needs them: large requests are open for long.
    """

    def __init__(
        self,
        handle: int,
        request: Request,
        texts: Sequence[Any],
        is_tokenized: bool,
        pooling: Optional[Pooling],
        per_token: bool,
        with_tokens: bool,
        now: float,
        model: bytes = b"",
    ) -> None:
        self.handle = handle
        large = len(request.payload) > LARGE_PAYLOAD
        self.request = replace(request, payload=b"") if large else request
        self.rows = len(texts)
        self.is_small = self.rows <= INLINE_ROWS and len(request.payload) <= INLINE_BYTES
        self.per_token = per_token
        self.options = request.options or NO_OPTIONS
        self.texts = texts
        self.is_tokenized = is_tokenized
        self.pooling = pooling
        self.with_tokens = with_tokens
        self.accepted_at = now
        self._model = model
        self.sent_at: Optional[float] = None  # when its first batch was, to a worker
        self.submitted = 0  # texts handed out to be tokenized
        self._tokenized = 0
        self.num_tokens = 0
        self.longest = 0  # text, in tokens
        self._truncated: List[int] = []
        self._wanted: List[Tuple[int, bool]] = [(0, False)] * len(texts) if per_token else []
        self._tokens: List[List[str]] = []
        self._offsets: List[Any] = [()] * len(texts) if self.options.offsets else []
        self._held: List[Row] = []

    @property
    def is_complete(self) -> bool:
        """Whether every text is tokenized."""
        return self._tokenized == self.rows

    def add(self, chunk: Chunk) -> Tuple[Row, ...]:
        """The scheduler's rows for a chunk; what the sink will need is kept.

        Rows of a stream with a vector a token come all at the end: the sink can't send what is
        computed before the padded length is known, and has no place for so much.
        """
        encoded = chunk.encoded
        assert encoded is not None, "a chunk with an error has no rows"
        start, stop = chunk.start, chunk.start + len(encoded)
        self._tokenized += len(encoded)
        self.num_tokens += sum(encoded.lengths)
        self.longest = max(self.longest, max(encoded.lengths))
        if encoded.truncated:
            self._truncated += [start + place for place in encoded.truncated]
        if self._wanted:
            self._wanted[start:stop] = zip(encoded.wanted, encoded.pairs)
        if self._offsets:
            assert encoded.offsets is not None
            self._offsets[start:stop] = encoded.offsets
        if chunk.tokens:
            self._tokens = self._tokens or [[]] * self.rows
            self._tokens[start:stop] = chunk.tokens
        rows = rows_of(self.handle, start, encoded.lengths, encoded.features, encoded.starts)
        if self.is_complete:
            self.texts = ()
        if not (self.per_token and self.options.stream):
            return rows
        self._held += rows
        if not self.is_complete:
            return ()
        rows, self._held = tuple(self._held), []
        return rows

    def registered(self, batch_rows: int, max_length: int, fixed: bool, now: float) -> Registered:
        """What the sink is told once all is tokenized; see tokenization.padded_length."""
        length = padded_length(self._wanted, batch_rows, max_length, fixed) if self._wanted else 0
        registered = Registered(
            self.handle,
            self.request.identity,
            self.request.request_id,
            self.rows,
            length,
            json.dumps(self._tokens).encode("ascii") if self._tokens else None,
            None if self.request.options is None else self._plan(now),
            json.dumps(self._offsets).encode("ascii") if self._offsets else None,
        )
        self._wanted, self._tokens, self._offsets = [], [], []
        return registered

    def _plan(self, now: float) -> ReplyPlan:
        return ReplyPlan(
            self.options.stream,
            self.options.dtype == "float16",
            self.num_tokens,
            self.accepted_at,
            now,
            self._model,
            tuple(sorted(self._truncated)),
        )


class Intake:
    """Tokenizes requests, on the spot or in a pool of threads.

    ``wake_up_fd`` becomes readable when :meth:`take` has something.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tokenizer")
        self._finished: "SimpleQueue[Chunk]" = SimpleQueue()
        self.wake_up_fd, self._write_fd = os.pipe()

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        os.close(self._write_fd)
        os.close(self.wake_up_fd)

    def start(self, accepted: Accepted) -> Optional[Chunk]:
        """Begin with a request; a small one is returned whole, at once."""
        if accepted.is_small:
            accepted.submitted = accepted.rows
            return self._encode(accepted, 0, accepted.submitted)
        for _ in range(CHUNKS_AHEAD):
            self.submit_next(accepted)
        return None

    def submit_next(self, accepted: Accepted) -> None:
        """Hand the request's next chunk to the pool, if there is one."""
        start = accepted.submitted
        if start < accepted.rows:
            accepted.submitted = min(start + CHUNK_ROWS, accepted.rows)
            self._pool.submit(self._run, accepted, start, accepted.submitted)

    def take(self) -> List[Chunk]:
        """The chunks that the pool has finished since the last call."""
        os.read(self.wake_up_fd, 4096)
        chunks = []
        while not self._finished.empty():
            chunks.append(self._finished.get())
        return chunks

    def _run(self, accepted: Accepted, start: int, stop: int) -> None:
        self._finished.put(self._encode(accepted, start, stop))
        os.write(self._write_fd, b"\0")

    def _encode(self, accepted: Accepted, start: int, stop: int) -> Chunk:
        options = accepted.options
        try:
            encoded = self._tokenizer.encode(
                accepted.texts[start:stop],
                accepted.is_tokenized,
                pairs=options.pairs,
                truncate=options.truncate,
                offsets=options.offsets,
            )
            if 0 in encoded.lengths:
                raise InvalidText(
                    "text %d has no tokens, and with -no_special_token the server puts none "
                    "around it" % (start + encoded.lengths.index(0))
                )
            tokens = []
            if accepted.with_tokens:
                tokens = [self._tokenizer.tokens_of(one) for one in encoded]
            return Chunk(accepted.handle, start, encoded, tokens)
        except TextTooLong as error:
            return Chunk(accepted.handle, start, error=_too_long(error, start))
        except Exception as error:  # a thread has nobody to raise it to; the caller looks at it
            return Chunk(accepted.handle, start, error=error)


def _too_long(error: TextTooLong, start: int) -> InvalidText:
    message = (
        "text %d has %d tokens, special ones included, but the server takes at most %d: shorten "
        'it, or let it be cut by truncate="right" or "left"'
        % (start + error.index, error.length, error.limit)
    )
    return InvalidText(message, ErrorKind.TOO_LONG)
