"""What a request takes of memory, before it is spent. Pure.

Estimates from above, in bytes; docs/reliability.md has what was measured. How many tokens a text
has can only be bounded from afar, so there is also what a reply takes for those that are known.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Sequence

from bert_serving.client.options import NO_OPTIONS
from bert_serving.client.protocol import Request
from bert_serving.server.pooling import Pooling
from bert_serving.server.spec import ServiceSpec

__all__ = ["Size", "longest_text", "reply_bytes", "size_of", "tokenized_bytes"]

#: Of an open request, however small: in the ventilator and in the sink.
REQUEST_BYTES = 4096
#: Of each of its rows beside the text: a string or a list, and what the scheduler keeps.
ROW_BYTES = 320
#: Of a token in the rows that wait: three numbers.
FEATURE_BYTES = 12
#: Of a value in JSON, the largest being an empty object.
VALUE_BYTES = 88
#: Of a token and of its offsets, as Python has them.
TOKEN_BYTES, OFFSETS_BYTES = 64, 192
SPECIAL_TOKENS = 3
#: The shortest text in JSON, with its comma.
SHORTEST_ROW = 3


class Size(NamedTuple):
    """``memory`` is what a request takes from its arrival until it is computed, and ``reply`` what
    its reply takes from the first vector until it is made, both in bytes.
    """

    rows: int
    memory: int
    reply: int = 0


def size_of(request: Request) -> Size:
    """Of a request whose JSON isn't parsed yet.

    The number of rows is what the request says, as far as its bytes can have so many.
    """
    payload = request.payload
    rows = min(request.rows, len(payload) // SHORTEST_ROW + 1)
    values = payload.count(b",") + payload.count(b"[") + payload.count(b"{")
    memory = REQUEST_BYTES + len(payload) + values * VALUE_BYTES + rows * ROW_BYTES
    return Size(rows, memory)


def tokenized_bytes(rows: int, tokens: int) -> int:
    """What a request takes once it is tokenized, and until it is computed."""
    return REQUEST_BYTES + rows * ROW_BYTES + tokens * FEATURE_BYTES


def longest_text(texts: Sequence[Any], is_tokenized: bool) -> int:
    """How many tokens the longest of these texts can have at most, special ones included."""
    if is_tokenized:
        return max(map(len, texts)) + SPECIAL_TOKENS
    most = (_most_pieces(t) if isinstance(t, str) else sum(map(_most_pieces, t)) for t in texts)
    return max(most) + SPECIAL_TOKENS


def _most_pieces(text: str) -> int:
    """Not more than it has bytes in UTF-8, but for its spaces: a word piece has a character of its
    word at least, and without its accents no character comes apart into more than it has bytes.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "ignore"))
    return size - text.count(" ")


def reply_bytes(
    spec: ServiceSpec,
    request: Request,
    pooling: Optional[Pooling],
    per_token: bool,
    with_tokens: bool,
    length: int,
) -> int:
    """What the sink may hold of a request until its reply is made; of a stream, one part's.

    ``length`` is that of its longest text in tokens, or of the result if it is known. With that of
    some of its texts, it is what the reply takes at least.
    """
    options = request.options or NO_OPTIONS
    longest = spec.tokenizer.max_length
    length = min(length, longest)
    vector = _width(spec, pooling) * (6 if options.dtype == "float16" else 4)
    texts = length * (TOKEN_BYTES * with_tokens + OFFSETS_BYTES * options.offsets)
    rows = min(request.rows, spec.max_batch_size) if options.stream else request.rows
    if per_token:
        vector *= longest if spec.fixed_length else length
    return rows * vector + request.rows * texts


def _width(spec: ServiceSpec, pooling: Optional[Pooling]) -> int:
    if pooling is None:
        return spec.engine.dimension
    layers = max(1, len(pooling.layers))
    return spec.engine.hidden_size * layers * (2 if pooling.strategy == "REDUCE_MEAN_MAX" else 1)
