"""Poolings that requests ask for, against the reference's hidden states, from one server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from support import client_of, running

from bert_serving.client.errors import BadRequest
from bert_serving.server import BertServer

TOLERANCE = 1e-4


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Reference:
    """Token ids and what transformers computes for them."""

    def __init__(self, directory: Path) -> None:
        data = np.load(str(directory / "hf-tiny.npz"))
        self.mask = data["mask"].astype(bool)
        self.layers = [data["hidden_%d" % number] for number in range(1, 5)]
        self.pooled = data["pooler"]
        vocabulary = (directory / "hf-tiny" / "vocab.txt").read_text("utf-8").split("\n")
        self.texts = [
            [vocabulary[number] for number in ids[keep]]
            for ids, keep in zip(data["ids"], self.mask)
        ]

    def mean(self, layer: int) -> np.ndarray:
        weights = self.mask[:, :, None]
        return (self.layers[layer] * weights).sum(axis=1) / weights.sum(axis=1)

    def maximum(self, layer: int) -> np.ndarray:
        return np.where(self.mask[:, :, None], self.layers[layer], -np.inf).max(axis=1)


def encode(server: BertServer, texts: List[Any], asked: Dict[str, Any]) -> np.ndarray:
    with client_of(server) as client:
        vectors = client.encode(texts, is_tokenized=True, **asked)
        assert isinstance(vectors, np.ndarray)
        return vectors


def test_several_at_a_time(golden: Path) -> None:
    reference = Reference(golden / "hf")
    both = [reference.mean(1), reference.mean(3), reference.maximum(1), reference.maximum(3)]
    cases = [
        ({}, reference.mean(2)),
        ({"normalize": True}, unit(reference.mean(2))),
        ({"pooling_layer": 0}, reference.mean(0)),
        ({"pooling_strategy": "REDUCE_MAX", "normalize": True}, unit(reference.maximum(2))),
        (
            {"pooling_strategy": "REDUCE_MEAN_MAX", "pooling_layer": [1, -1]},
            np.concatenate(both, axis=1),
        ),
        ({"pooling_strategy": "CLS_TOKEN", "pooling_layer": [-1]}, reference.layers[3][:, 0]),
        ({"pooling_strategy": "CLS_POOLED"}, reference.pooled),
    ] * 2
    flags = ["-cpu", "-model_dir", str(golden / "hf" / "hf-tiny"), "-no_special_token"]
    with running(*flags) as server:
        with ThreadPoolExecutor(len(cases)) as pool:
            jobs = [pool.submit(encode, server, reference.texts, asked) for asked, _ in cases]
            results = [job.result() for job in jobs]
        tokens = encode(server, reference.texts, {"pooling_strategy": "NONE", "pooling_layer": 3})
    for vectors, (_, expected) in zip(results, cases):
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=TOLERANCE)
    for row, keep, expected in zip(tokens, reference.mask, reference.layers[3]):
        ours, behind = row[: keep.sum()], row[keep.sum() :]
        np.testing.assert_allclose(ours, expected[keep], rtol=0, atol=TOLERANCE)
        assert not behind.any()


def test_a_server_that_allows_one(golden: Path) -> None:
    flags = ["-cpu", "-model_dir", str(golden / "hf" / "hf-tiny"), "-fixed_pooling"]
    with running(*flags) as server, client_of(server) as client:
        assert client.server_config["fixed_pooling"] is True
        with pytest.raises(BadRequest, match="-fixed_pooling; its pooling is REDUCE_MEAN of layer"):
            client.encode(["a"], pooling_strategy="NONE")
        own = client.encode(["a"], pooling_strategy="REDUCE_MEAN", pooling_layer=-2)
        np.testing.assert_array_equal(own, client.encode(["a"]))
