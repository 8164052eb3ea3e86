"""The reference systems' results over HTTP, from the default model."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Iterator, List

import httpx
import numpy as np
import pytest
from support import PATIENCE, http_flags, running, url_of

#: In each component; the references are rounded to float32 like ours.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with running("-cpu", *http_flags()) as server, httpx.Client(
        base_url=url_of(server), timeout=3 * PATIENCE, trust_env=False
    ) as client:
        yield client


@pytest.fixture(scope="module")
def reference(golden: Path) -> Any:
    """Texts without special tokens typed in them, which the reference takes for real ones."""
    with np.load(str(golden / "hf" / "minilm.npz")) as stored:
        texts: List[str] = json.loads(str(stored["texts"]))
        kept = [row for row, text in enumerate(texts) if "[SEP]" not in text and text.strip()]
        return [texts[row] for row in kept], stored["vectors"][kept]


def check(vectors: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.array(vectors), expected, rtol=0, atol=TOLERANCE)


def test_sentence_transformers_by_each_api(http: httpx.Client, reference: Any) -> None:
    texts, expected = reference
    check(http.post("/encode", json={"id": 1, "texts": texts}).json()["result"], expected)
    order = {"model": "all-MiniLM-L6-v2", "input": texts, "encoding_format": "base64"}
    answer = http.post("/v1/embeddings", json=order).json()
    assert answer["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    rows = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]]
    check(rows, expected)
    check(http.post("/embed", json={"inputs": texts, "truncate": True}).json(), expected)


def test_token_ids_of_the_model(http: httpx.Client, reference: Any) -> None:
    texts, expected = reference
    rows = [row for row, text in enumerate(texts) if len(text) < 300]
    tokens = http.post("/tokenize", json={"inputs": [texts[row] for row in rows]}).json()
    ids = [[one["id"] for one in row] for row in tokens]
    assert {(row[0], row[-1]) for row in ids} == {(101, 102)}
    answer = http.post("/v1/embeddings", json={"model": "default", "input": ids}).json()
    assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))
    check([one["embedding"] for one in answer["data"]], expected[rows])


def test_vectors_as_the_model_leaves_them(http: httpx.Client) -> None:
    """The model scales them to unit length, which a request can forgo."""
    texts = ["First do it", "then do it right"]
    unit = np.array(http.post("/embed", json={"inputs": texts}).json())
    plain = np.array(http.post("/embed", json={"inputs": texts, "normalize": False}).json())
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    assert (np.abs(lengths - 1.0) > 0.01).all()
    np.testing.assert_allclose(plain / lengths, unit, rtol=0, atol=TOLERANCE)


def test_words_are_found_again(http: httpx.Client) -> None:
    text = "Don't panic: naïve cafés ≠ embeddings"
    (tokens,) = http.post("/tokenize", json={"inputs": text}).json()
    for token in tokens[1:-1]:
        assert token["text"] == text[token["start"] : token["stop"]]
    assert "".join(token["text"] for token in tokens[1:-1]) == text.replace(" ", "")


def test_info(http: httpx.Client) -> None:
    info = http.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == 256
