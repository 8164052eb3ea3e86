from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.http.errors import HttpError
from bert_serving.server.http.inputs import (
    MOST_ECHOED,
    Served,
    echoed,
    ids_or_texts,
    text_or_texts,
    texts_or_tokens,
    whole,
)

SERVED = Served(most_rows=5, most_id=9, most_tokens=3, most_bytes=1000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=3),
)
TEXT = st.text(min_size=1).filter(str.strip)


@given(JSON, st.sampled_from([ids_or_texts, text_or_texts, texts_or_tokens]))
def test_all_else_is_refused(value: Any, check: Any) -> None:
    """What passes is a list of rows that can be encoded, and nothing raises anything else."""
    try:
        rows = check(value, "field", SERVED)
    except (ValueError, HttpError):
        return
    assert 1 <= len(rows) <= SERVED.most_rows
    assert len({type(row) for row in rows}) == 1
    parts = [part for row in rows for part in row] if isinstance(rows[0], list) else rows
    if check is ids_or_texts and isinstance(rows[0], list):
        assert all(type(part) is int and 0 <= part <= SERVED.most_id for part in parts)
    else:
        assert all(isinstance(part, str) and part.strip() for part in parts)
    assert all(rows)


@given(st.lists(TEXT, min_size=1, max_size=5), st.lists(st.integers(0, 9), min_size=1))
def test_what_is_right_passes(texts: Any, ids: Any) -> None:
    assert texts_or_tokens(texts, "x", SERVED) == texts
    assert texts_or_tokens([texts[:3]], "x", SERVED) == [texts[:3]]
    assert text_or_texts(texts[0], "x", SERVED) == [texts[0]]
    assert ids_or_texts(texts, "x", SERVED) == texts
    kept = ids if len(ids) <= 5 else ids[:4] + ids[-1:]
    assert ids_or_texts(ids, "x", SERVED) == [kept]
    assert ids_or_texts([ids], "x", SERVED) == [kept]


def test_of_tokens_no_more_is_kept_than_the_model_takes() -> None:
    """And of ids as many within the special ones around them."""
    assert texts_or_tokens([["a"] * 100, ["b"]], "x", SERVED) == [["a"] * 3, ["b"]]
    assert ids_or_texts([8, 1, 2, 3, 4, 5, 9], "x", SERVED) == [[8, 1, 2, 3, 9]]
    with pytest.raises(ValueError, match=r"x\[0\]\[99\]"):
        texts_or_tokens([["a"] * 99 + [" "]], "x", SERVED)
    with pytest.raises(ValueError, match=r"x\[99\]"):
        ids_or_texts([1] * 99 + [10], "x", SERVED)


def written(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


@given(JSON, st.integers(0, 3 * MOST_ECHOED))
def test_what_is_echoed_is_short(value: Any, size: int) -> None:
    value = [value] * (size // len(written(value)) + 1)
    if len(written(value)) <= MOST_ECHOED:
        assert echoed(value, "x", SERVED) is value
    else:
        with pytest.raises(HttpError, match="x comes back") as raised:
            echoed(value, "x", SERVED)
        assert raised.value.problem.status == 413


@pytest.mark.parametrize(
    "value", ["a" * 4094, "é" * 2047, [1] * 2046 + [11], {"": 1, "b": "c" * 4083}, {"a" * 4090: 1}]
)
def test_the_longest_that_is_echoed(value: Any) -> None:
    assert len(written(value)) in (MOST_ECHOED - 1, MOST_ECHOED)
    assert echoed(value, "x", SERVED) is value


def test_more_rows_than_may_be() -> None:
    with pytest.raises(HttpError, match="x has 6 texts, but at most 5") as raised:
        text_or_texts(["a"] * 6, "x", SERVED)
    assert raised.value.problem.status == 413


@pytest.mark.parametrize(
    ("written", "number"),
    [("3", 3), ("3.0", 3), ("3.5", None), ("true", None), ('"3"', None), ("Infinity", None)],
)
def test_whole_numbers(written: str, number: Any) -> None:
    assert whole(json.loads(written)) == number
