"""Texts that differ from each other, and the vectors that the echo engine makes of them."""

from __future__ import annotations

from random import Random
from typing import List

import numpy as np

from bert_serving.server.engines.echo import echo_vector, vocabulary
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings

__all__ = ["MAX_LENGTH", "Texts"]

MAX_LENGTH = 64
WORDS = ("a", "few", "words", "of", "no", "meaning", "in", "any", "order", "and", "number")


class Texts:
    """A source of texts; not safe for threads."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - no secrets
        self._tokenizer = Tokenizer(vocabulary(), TokenizerSettings(MAX_LENGTH))

    def draw(self) -> List[str]:
        """Mostly a few, at times many."""
        count = self._random.choice((1, 1, 1, 2, 5, 20, 20, 200))
        return [
            "%d %s" % (self._random.randrange(10**9), " ".join(self._random.sample(WORDS, 3)))
            for _ in range(count)
        ]

    def expected(self, texts: List[str]) -> np.ndarray:
        """Float32 [rows, dimension]."""
        encoded = self._tokenizer.encode(texts, is_tokenized=False)
        return np.array([echo_vector(one.features[0]) for one in encoded])

    def is_right(self, texts: List[str], vectors: np.ndarray) -> bool:
        """Whether these are the vectors of exactly these texts."""
        return np.array_equal(vectors, self.expected(texts))
