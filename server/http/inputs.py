"""Checks of the lists in requests, each of which stops at the first thing that is wrong.

Pydantic would collect an error for every element, and there can be millions. Pure: each takes a
value out of JSON, the field's name and what is served, and raises ValueError for what is wrong, or
HttpError for too many rows.
"""

from __future__ import annotations

import json
from contextlib import suppress
from reprlib import repr as shorten
from typing import Any, List, NamedTuple, Optional, Sequence

from bert_serving.server.http.errors import HttpError

__all__ = [
    "MOST_ECHOED",
    "Served",
    "echoed",
    "ids_or_texts",
    "text_or_texts",
    "texts_or_tokens",
    "whole",
]

#: Bytes, as JSON, of what a request may have sent back: it is kept while the request is served.
MOST_ECHOED = 4096


class Served(NamedTuple):
    """What decides how much a request may have, and which token ids."""

    most_rows: int
    most_id: int  # in the vocabulary
    most_tokens: int  # that the model takes of a text
    most_bytes: int  # of a body


def texts_or_tokens(value: Any, name: str, served: Served) -> List[Any]:
    """A list of strings, or of lists of strings, of which the server would cut what is left out."""
    rows = _rows(value, name, served.most_rows)
    if isinstance(rows[0], list):
        for row, tokens in enumerate(rows):
            if not isinstance(tokens, list) or not tokens:
                raise ValueError(
                    "%s[%d] must be a list of tokens with something in it, as the first is, but "
                    "is %s" % (name, row, shorten(tokens))
                )
            _check_strings(tokens, "%s[%d]" % (name, row))
            del tokens[served.most_tokens :]
    else:
        _check_strings(rows, name)
    return rows


def text_or_texts(value: Any, name: str, served: Served) -> List[str]:
    """A list of strings; a string is taken for a list of one."""
    if isinstance(value, str):
        _check_string(value, name)
        return [value]
    rows = _rows(value, name, served.most_rows)
    _check_strings(rows, name)
    return rows


def ids_or_texts(value: Any, name: str, served: Served) -> List[Any]:
    """A list of strings or of lists of token ids; one of either is taken for a list of one.

    Of ids that are more than the model takes, one more than those and the last are left, so that
    special tokens at both ends can be told.
    """
    if isinstance(value, list) and value and whole(value[0]) is not None:
        return [_ids(value, name, served)]
    if not isinstance(value, list) or not value or not isinstance(value[0], list):
        return text_or_texts(value, name, served)
    rows = []
    for row, ids in enumerate(_rows(value, name, served.most_rows)):
        if not isinstance(ids, list) or not ids:
            raise ValueError(
                "%s[%d] must be a list of token ids with something in it, as the first is, but is "
                "%s" % (name, row, shorten(ids))
            )
        rows.append(_ids(ids, "%s[%d]" % (name, row), served))
    return rows


def echoed(value: Any, name: str, served: Served) -> Any:
    """Anything that isn't long as JSON. Raises HttpError if it is."""
    if not _is_short(value):
        raise HttpError(
            "too_large",
            "%s comes back in the answer and may have at most %d bytes, but is longer: %s"
            % (name, MOST_ECHOED, shorten(value)),
            name,
        )
    return value


def _is_short(value: Any) -> bool:
    """Whether it has at most MOST_ECHOED bytes as JSON.

    Of what is much longer, little is looked at.
    """
    values, rest = 0, [value]
    while rest:
        one = rest.pop()
        values += 1 + (len(one) if isinstance(one, (str, list, dict)) else 0)
        if values > MOST_ECHOED:
            return False
        if isinstance(one, dict):
            rest.extend(one)
            rest.extend(one.values())
        elif isinstance(one, list):
            rest.extend(one)
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(written.encode("utf-8", "surrogatepass")) <= MOST_ECHOED


def whole(value: Any) -> Optional[int]:
    """The whole number that a number in JSON is, be it written 1 or 1.0; None if it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _rows(value: Any, name: str, most: int) -> List[Any]:
    """A list with something in it, but not too much."""
    if not isinstance(value, list):
        raise ValueError("%s must be a list, but is %s" % (name, shorten(value)))
    if not value:
        raise ValueError("%s is an empty list: there is nothing to encode" % name)
    if len(value) > most:
        raise HttpError(
            "too_large",
            "%s has %d texts, but at most %d may come in a request; send them in several, or "
            "start the server with a larger -http_max_rows" % (name, len(value), most),
            name,
        )
    return value


def _check_strings(values: Sequence[Any], name: str) -> None:
    with suppress(TypeError):
        if all(map(str.strip, values)):  # several times as fast
            return
    for position, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            _check_string(value, "%s[%d]" % (name, position))


def _check_string(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise ValueError("%s must be a string, but is %s" % (name, shorten(value)))
    if not value.strip():
        raise ValueError("%s must have more in it than whitespace, but is %r" % (name, value))


def _ids(values: List[Any], name: str, served: Served) -> List[int]:
    most = served.most_id
    # Several times as fast as one by one.
    if set(map(type, values)) != {int} or min(values) < 0 or max(values) > most:
        values = [_id(value, name, position, most) for position, value in enumerate(values)]
    if len(values) > served.most_tokens + 2:
        return values[: served.most_tokens + 1] + values[-1:]
    return values


def _id(value: Any, name: str, position: int, most: int) -> int:
    number = whole(value)
    if number is None or not 0 <= number <= most:
        raise ValueError(
            "%s[%d] must be the id of a token of the served model's vocabulary, from 0 to %d, "
            "but is %s" % (name, position, most, shorten(value))
        )
    return number
