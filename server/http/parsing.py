"""Bodies of requests as they are parsed: what that takes is bounded first, and what is wrong with
them is told. Pure.
"""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Any, Type, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from bert_serving.server.http.errors import HttpError
from bert_serving.server.http.inputs import Served
from bert_serving.server.sizes import VALUE_BYTES

__all__ = ["check_parsed_size", "parse", "parsed_bytes"]

M = TypeVar("M", bound=BaseModel)

#: What a body takes once it is parsed may be so many times the bytes that it may have: the lists of
#: 4096 texts of 512 tokens take 20 times theirs, but are far from as long as they may be.
PARSED = 8
#: Bytes that pydantic takes for the value behind a comma, and for a list and an object with little
#: in it, in its own tree and then in Python; measured, and the older releases take most. Objects
#: count double: they take longest, and few are of use.
COSTS = ((ord(","), VALUE_BYTES), (ord("["), 512), (ord("{"), 2048))
MOST_COST = max(cost for _, cost in COSTS)
QUOTE = ord('"')
#: Bytes that are looked at together, so that numpy's copies stay small.
PIECE = 2**18


def parse(model: Type[M], content: bytes, served: Served) -> M:
    """The body as ``model``.

    Raises HttpError, which names the field that is wrong.
    """
    check_parsed_size(content, served.most_bytes)
    try:
        return model.model_validate_json(content, context=served)
    except ValidationError as error:
        raise _explain(model, error) from None


def check_parsed_size(content: bytes, limit: int) -> None:
    """Raise HttpError if the body, which may have ``limit`` bytes, takes far more when parsed."""
    most = PARSED * limit
    if len(content) * MOST_COST > most and parsed_bytes(content) > most:
        raise HttpError(
            "too_large",
            "the body has too many values: parsed, they would take more than %d bytes; send less "
            "at a time, or start the server with a larger -http_max_body" % most,
        )


def parsed_bytes(content: bytes) -> int:
    """What JSON takes when it is parsed: itself, and what commas and brackets outside of strings
    tell of values.

    Where it isn't JSON this is true up to there, and a parser goes no further.
    """
    plain = content.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in content else content
    signs = np.frombuffer(plain, np.uint8)
    size, is_inside = len(content), False
    for start in range(0, len(signs), PIECE):
        piece = signs[start : start + PIECE]
        # Only whether it is odd counts, and that outlives an overflow.
        quotes = np.cumsum(piece == QUOTE, dtype=np.uint8) + np.uint8(is_inside)
        is_inside = bool(quotes[-1] & 1)
        outside = piece[(quotes & 1) == 0]
        size += sum(int(np.count_nonzero(outside == sign)) * cost for sign, cost in COSTS)
    return size


def _explain(model: Type[BaseModel], error: ValidationError) -> HttpError:
    """The first thing that is wrong."""
    first: Any = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid" or not first["loc"]:
        reason = first["msg"] if first["type"] == "json_invalid" else "it is no JSON object"
        return HttpError("bad_request", "the body is not the JSON that is expected: %s" % reason)
    name = str(first["loc"][0])
    if first["type"] == "value_error":
        return HttpError("bad_request", str(first["ctx"]["error"]), name)
    wanted = model.model_fields[name].description
    if first["type"] == "missing":
        return HttpError("bad_request", "%s is missing: it must be %s" % (name, wanted), name)
    return HttpError(
        "bad_request", "%s must be %s, but is %s" % (name, wanted, shorten(first["input"])), name
    )
