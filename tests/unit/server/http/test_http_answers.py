from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bert_serving.server.http.answers import (
    AT_ONCE,
    COMPRESSED,
    accepts_gzip,
    answer_json,
    shortened,
    unit_length,
)


def answer(value: Any, accept: str = "") -> Any:
    return asyncio.run(answer_json(value, accept))


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 5)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_numbers_arrive_as_they_are(vectors: np.ndarray) -> None:
    body = json.loads(answer({"result": vectors, "rows": list(vectors)}).body)
    np.testing.assert_array_equal(np.array(body["result"], np.float32), vectors)
    np.testing.assert_array_equal(np.array(body["rows"], np.float32), vectors)


def test_read_only_arrays_and_token_vectors() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    vectors.setflags(write=False)
    assert json.loads(answer(vectors).body) == vectors.tolist()


@pytest.mark.parametrize("size", [COMPRESSED, AT_ONCE * 2])
def test_large_answers_are_compressed_for_those_who_like_it(size: int) -> None:
    plain = answer("x" * size)
    assert "content-encoding" not in plain.headers
    compressed = answer("x" * size, "gzip, deflate")
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(compressed.body) == plain.body
    assert int(compressed.headers["content-length"]) == len(compressed.body) < len(plain.body)
    assert "content-encoding" not in answer("x" * 10, "gzip").headers


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.5, br", True),
        ("br, deflate", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*", True),
        ("identity", False),
        ("gzip;q=x", False),
        ("br, x-gzip", True),
    ],
)
def test_who_likes_it(header: str, wanted: bool) -> None:
    assert accepts_gzip(header) is wanted


def test_unit_length() -> None:
    vectors = np.array([[3, 4], [0, 0]], np.float32)
    scaled = unit_length(vectors)
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert scaled.dtype == np.float32


def test_shortened() -> None:
    vectors = np.array([[3, 4, 12]], np.float32)
    np.testing.assert_allclose(shortened(vectors, 2), [[0.6, 0.8]], rtol=1e-6)
    assert shortened(vectors, None) is vectors
    assert shortened(vectors, 3) is vectors
