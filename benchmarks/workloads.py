"""Texts to measure with, of lengths that are drawn from a distribution or come from a file.

A length counts a sequence's tokens, [CLS] and [SEP] included, as ``-max_seq_len`` does. Made-up
texts consist of words that are one token each, so their lengths are exact. Everything is seeded.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.server.tokenization import Tokenizer

__all__ = ["Batch", "Lengths", "Workload", "make_workload", "one_token_words", "parse_lengths"]

#: [CLS] and [SEP].
SPECIAL = 2
SHORTEST = SPECIAL + 1
#: Standard deviation of the logarithm of log-normal lengths: most sentences lie between half and
#: twice the mean.
SIGMA = 0.6

#: Lower case, for it is the same to cased and uncased models; no punctuation, which is split off.
WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Batch:
    """Texts of one request; ``tokens`` is what the model computes of them, without padding."""

    texts: List[str]
    tokens: int


@dataclass(frozen=True)
class Lengths:
    """How long sequences are: ``fixed``, ``uniform`` from low to high, or ``lognormal``."""

    kind: str
    low: int = 0
    high: int = 0
    mean: float = 0.0

    def draw(self, count: int, random: np.random.RandomState, longest: int) -> np.ndarray:
        """Int64 [count], each from 3 to ``longest``."""
        if self.kind == "lognormal":
            # The mean of a log-normal distribution is exp(mu + sigma² / 2).
            mu = math.log(self.mean) - SIGMA**2 / 2
            drawn = np.rint(random.lognormal(mu, SIGMA, count)).astype(np.int64)
        else:
            drawn = random.randint(self.low, self.high + 1, count).astype(np.int64)
        return np.clip(drawn, SHORTEST, longest)


def parse_lengths(text: str) -> Optional[Lengths]:
    """Of ``fixed:32``, ``uniform:6-32`` or ``lognormal:20``; None for ``file:PATH``.

    Raises ValueError with a message for the user.
    """
    kind, _, value = text.partition(":")
    if kind == "file" and value:
        return None
    fixed = re.fullmatch(r"fixed:(\d+)", text)
    uniform = re.fullmatch(r"uniform:(\d+)-(\d+)", text)
    lognormal = re.fullmatch(r"lognormal:(\d+(?:\.\d+)?)", text)
    if fixed:
        lengths = Lengths("fixed", int(fixed.group(1)), int(fixed.group(1)))
    elif uniform:
        lengths = Lengths("uniform", int(uniform.group(1)), int(uniform.group(2)))
    elif lognormal:
        lengths = Lengths("lognormal", mean=float(lognormal.group(1)))
    else:
        raise ValueError(
            "must be fixed:LENGTH, uniform:LOW-HIGH, lognormal:MEAN or file:PATH, but is %r" % text
        )
    if max(lengths.low, lengths.mean) < SHORTEST or (lengths.high < lengths.low):
        raise ValueError(
            "%r: lengths must be at least %d tokens, [CLS] and [SEP] included, and LOW at most HIGH"
            % (text, SHORTEST)
        )
    return lengths


def one_token_words(vocabulary: Dict[str, int]) -> List[str]:
    """The words that are one token each in any text, sorted.

    Raises BenchmarkError if there are none.
    """
    words = sorted(word for word in vocabulary if WORD.fullmatch(word))
    if not words:
        raise BenchmarkError(
            "the model's vocabulary has no word of lower-case letters or digits to make texts of; "
            "use -workload file:PATH"
        )
    return words


class Workload:
    """Makes requests' texts; the same arguments give the same texts."""

    def __init__(
        self,
        lengths: Optional[Lengths],
        words: Sequence[str],
        tokenizer: Tokenizer,
        longest: int,
        lines: Sequence[str] = (),
    ) -> None:
        """``lines`` are the texts if ``lengths`` is None; sequences are cut at ``longest``."""
        self._lengths = lengths
        self._words = list(words)
        self._tokenizer = tokenizer
        self._longest = longest
        self._lines = list(lines)

    def batches(self, count: int, rows: int, *seed: int) -> List[Batch]:
        """``count`` requests of ``rows`` texts each."""
        random = np.random.RandomState(list(seed))
        texts = self._texts(count * rows, random)
        tokens = [
            min(one.features.shape[1], self._longest)
            for one in self._tokenizer.encode(texts, is_tokenized=False)
        ]
        return [
            Batch(texts[start : start + rows], sum(tokens[start : start + rows]))
            for start in range(0, count * rows, rows)
        ]

    def _texts(self, count: int, random: np.random.RandomState) -> List[str]:
        if self._lengths is None:
            rounds = math.ceil(count / len(self._lines))
            order = np.concatenate([random.permutation(len(self._lines)) for _ in range(rounds)])
            return [self._lines[number] for number in order[:count]]
        lengths = self._lengths.draw(count, random, self._longest) - SPECIAL
        ends = np.cumsum(lengths).tolist()
        numbers = random.randint(0, len(self._words), int(lengths.sum())).tolist()
        words = [self._words[number] for number in numbers]
        starts = [0] + ends[:-1]
        return [" ".join(words[start:end]) for start, end in zip(starts, ends)]


def make_workload(
    text: str, vocabulary: Dict[str, int], tokenizer: Tokenizer, longest: int, words_file: str = ""
) -> Workload:
    """The workload that ``text`` names (see :func:`parse_lengths`).

    ``words_file`` is a text file; made-up texts then consist of its words.
    Raises BenchmarkError if a file can't be read or has nothing to take.
    """
    lengths = parse_lengths(text)
    if lengths is None:
        path = text.partition(":")[2]
        lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
        if not lines:
            raise BenchmarkError("the workload's file %s has no text in it" % path)
        return Workload(None, (), tokenizer, longest, lines)
    if lengths.high > longest:
        raise BenchmarkError(
            "-workload %s asks for sequences of %d tokens, but the server cuts them at %d; name "
            "shorter ones, or another -max_seq_len" % (text, lengths.high, longest)
        )
    words = one_token_words(vocabulary)
    if words_file:
        words = sorted(set(words) & set(read_text(words_file).lower().split()))
        if not words:
            raise BenchmarkError(
                "none of the words in -client_vocab_file %s is a single token of the model; name "
                "another file, or leave the flag out to take words from the model's vocabulary"
                % words_file
            )
    return Workload(lengths, words, tokenizer, longest)


def read_text(path: str) -> str:
    """A UTF-8 file. Raises BenchmarkError."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise BenchmarkError("can't read %s: %s" % (path, error.strerror or error)) from error
    except UnicodeDecodeError as error:
        raise BenchmarkError("%s is not UTF-8 text (byte %d)" % (path, error.start)) from error


def token_range(batches: Sequence[Batch]) -> Tuple[float, int]:
    """Mean tokens of a text, and the number of texts."""
    rows = sum(len(batch.texts) for batch in batches)
    return sum(batch.tokens for batch in batches) / rows, rows
