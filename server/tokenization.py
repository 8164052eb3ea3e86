"""Texts to token ids, as 1.10 does it.

The word pieces come from :mod:`bert_serving.server.wordpiece`; around them stand 1.10's rules:
pairs by " ||| ", truncation, special tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from bert_serving.server.errors import StartupError
from bert_serving.server.wordpiece import WordPieces, is_plain

__all__ = [
    "Encoded",
    "EncodedTexts",
    "Tokenizer",
    "TokenizerSettings",
    "padded_length",
    "read_vocabulary",
]

#: Of several separators the last one counts; "." excludes line breaks.
PAIR = re.compile(r"(.*) \|\|\| (.*)")
PAIR_TOKEN = "|||"
SEPARATOR = " ||| "
#: From so many texts on, it takes less time to cut them together.
TOGETHER = 8
REQUIRED = ("[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class TokenizerSettings:
    """How text becomes a sequence; ``max_length`` counts the special tokens too."""

    max_length: int
    lowercase: bool = True
    strip_accents: Optional[bool] = None  # None: as ``lowercase``
    split_chinese: bool = True
    mask_special: bool = False  # 1.10's -mask_cls_sep
    no_special: bool = False  # 1.10's -no_special_token; for tokenized texts only
    final_sigma: bool = False  # lowercase a word's last Greek sigma as Python does


class Encoded(NamedTuple):
    """One text, ready for the model."""

    features: np.ndarray  # int32 [3, length]: token ids, segment ids, attention mask
    wanted_length: int  # tokens of both texts before truncation, without special tokens
    is_pair: bool


@dataclass(frozen=True)
class EncodedTexts(Sequence[Encoded]):
    """Texts as columns: their features lie in one array, in any order.

    An array for each text would take longer to make than all else.
    """

    features: np.ndarray  # int32 [3, tokens]: as of Encoded, of all texts
    starts: List[int]  # where each text's features begin
    lengths: List[int]
    wanted: List[int]  # see Encoded
    pairs: List[bool]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        """A text; slices aren't supported."""
        start = self.starts[index]
        features = self.features[:, start : start + self.lengths[index]]
        return Encoded(features, self.wanted[index], self.pairs[index])


def read_vocabulary(path: Path) -> Dict[str, int]:
    """Token -> id of a ``vocab.txt``: a token a line, its number is its id.

    Raises StartupError if the file can't be read or lacks a token that every text needs.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise StartupError("can't read the vocabulary %s: %s" % (path, error.strerror)) from error
    except UnicodeDecodeError as error:
        raise StartupError(
            "the vocabulary %s is not UTF-8 text (byte %d)" % (path, error.start)
        ) from error
    lines = text.split("\n")  # not splitlines(): some tokens are Unicode line separators
    if lines and not lines[-1]:
        lines.pop()
    vocabulary = {line.strip(): number for number, line in enumerate(lines)}
    missing = [token for token in REQUIRED if token not in vocabulary]
    if missing:
        raise StartupError(
            "the vocabulary %s lacks %s; is it the vocab.txt of a BERT model?"
            % (path, ", ".join(missing))
        )
    return vocabulary


class Tokenizer:
    """Encodes texts; safe to use from several threads."""

    def __init__(self, vocabulary: Dict[str, int], settings: TokenizerSettings) -> None:
        self._ids = vocabulary
        self._tokens = {number: token for token, number in vocabulary.items()}
        self._settings = settings
        self._cls, self._sep = [vocabulary["[CLS]"]], [vocabulary["[SEP]"]]
        self._pieces = WordPieces(
            vocabulary,
            settings.lowercase,
            settings.strip_accents,
            settings.split_chinese,
            settings.final_sigma,
        )

    def encode(self, texts: Sequence[Any], is_tokenized: bool) -> EncodedTexts:
        """Encode strings, or lists of tokens if ``is_tokenized``."""
        if is_tokenized:
            return self._finish([self._look_up(text) for text in texts], is_tokenized=True)
        if len(texts) < TOGETHER:
            return self._encode_each(texts)
        singles = [number for number, text in enumerate(texts) if _is_simple(text)]
        if len(singles) == len(texts):
            return self._encode_together(texts)
        if len(singles) < TOGETHER:
            return self._encode_each(texts)
        others = sorted(set(range(len(texts))).difference(singles))
        return _merge(
            (singles, self._encode_together([texts[number] for number in singles])),
            (others, self._encode_each([texts[number] for number in others])),
        )

    def _encode_each(self, texts: Sequence[str]) -> EncodedTexts:
        pairs = [_split_pair(text) for text in texts]
        pieces = iter(self._pieces.cut(part for pair in pairs for part in pair if part is not None))
        return self._finish(
            [(next(pieces), [] if second is None else next(pieces)) for _, second in pairs],
            is_tokenized=False,
        )

    def _encode_together(self, texts: Sequence[str]) -> EncodedTexts:
        """Of plain texts that aren't pairs: by a few calls for all of them."""
        most = self._settings.max_length
        ids = np.array(self._cls + self._pieces.cut_together(texts) + self._sep, np.int32)
        # What a user types can't be this token: see wordpiece.
        ends = np.flatnonzero(ids == self._sep[0])
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts + 1
        wanted = lengths - 2
        if lengths.max() > most:
            places = np.arange(len(ids)) - np.repeat(starts, lengths)
            kept = places < most - 1
            kept[ends] = True
            ids, lengths = ids[kept], np.minimum(lengths, most)
            starts = np.cumsum(lengths) - lengths
            ends = starts + lengths - 1
        features = np.empty((3, len(ids)), np.int32)
        features[0], features[1], features[2] = ids, 0, 1
        if self._settings.mask_special:
            features[2, starts] = features[2, ends] = 0
        return EncodedTexts(
            features, starts.tolist(), lengths.tolist(), wanted.tolist(), [False] * len(texts)
        )

    def tokens_of(self, encoded: Encoded) -> List[str]:
        """The tokens of a text, special ones included."""
        return [self._tokens[number] for number in encoded.features[0].tolist()]

    def _look_up(self, tokens: Sequence[str]) -> Tuple[List[int], List[int]]:
        """The ids of both texts of an already tokenized one."""
        cut = tokens.index(PAIR_TOKEN) if PAIR_TOKEN in tokens else len(tokens)
        unknown = self._ids["[UNK]"]
        ids = [self._ids.get(token, unknown) for token in tokens]
        return ids[:cut], ids[cut + 1 :]

    def _finish(
        self, sequences: List[Tuple[List[int], List[int]]], is_tokenized: bool
    ) -> EncodedTexts:
        """Truncate, put the special tokens around, and turn all into one array."""
        most, no_special = self._settings.max_length, self._settings.no_special and is_tokenized
        ids: List[int] = []
        seconds: List[Tuple[int, int]] = []  # where in ``ids`` each second text lies
        special: List[int] = []  # where the special tokens are
        starts: List[int] = []
        lengths: List[int] = []
        for first, second in sequences:
            start = len(ids)
            starts.append(start)
            if second:
                first, second = _truncate_pair(first, second, most - 3)
                boundary = start + len(first) + 2
                ids += self._cls + first + self._sep + second + self._sep
                seconds.append((boundary, len(ids)))
                special += (start, boundary - 1, len(ids) - 1)
            elif no_special:
                ids += first[:most]
            else:
                ids += self._cls + first[: most - 2] + self._sep
                special += (start, len(ids) - 1)
            lengths.append(len(ids) - start)
        features = np.empty((3, len(ids)), np.int32)
        features[0], features[1], features[2] = ids, 0, 1
        for start, stop in seconds:
            features[1, start:stop] = 1
        if self._settings.mask_special:
            features[2, special] = 0
        return EncodedTexts(
            features,
            starts,
            lengths,
            [len(first) + len(second) for first, second in sequences],
            [bool(second) for _, second in sequences],
        )


def padded_length(
    encoded: Sequence[Tuple[int, bool]], batch_rows: int, max_length: int, fixed: bool
) -> int:
    """Sequence length of a token-level result, exactly as 1.10 pads it.

    ``encoded`` holds a request's (wanted length, is pair), row by row; ``fixed``: always
    ``max_length``. Otherwise 1.10 pads every ``batch_rows`` rows to their longest text plus the
    special tokens of the longest kind among them, and the request to the longest of these.
    """
    if fixed:
        return max_length
    longest = 0
    for start in range(0, len(encoded), batch_rows):
        part = encoded[start : start + batch_rows]
        special = 3 if any(is_pair for _, is_pair in part) else 2
        longest = max(longest, min(max(wanted for wanted, _ in part) + special, max_length))
    return longest


def _is_simple(text: str) -> bool:
    return is_plain(text) and SEPARATOR not in text


def _merge(*parts: Tuple[Sequence[int], EncodedTexts]) -> EncodedTexts:
    """All texts in the order of their numbers, which stand beside them."""
    texts: List[Tuple[int, int, int, int, bool]] = []
    tokens = 0
    for numbers, one in parts:
        starts = [tokens + start for start in one.starts]
        texts += zip(numbers, starts, one.lengths, one.wanted, one.pairs)
        tokens += one.features.shape[1]
    _, starts, lengths, wanted, pairs = map(list, zip(*sorted(texts)))
    features = np.concatenate([one.features for _, one in parts], axis=1)
    return EncodedTexts(features, starts, lengths, wanted, pairs)


def _split_pair(text: str) -> Tuple[str, Optional[str]]:
    match = PAIR.fullmatch(text.strip()) if SEPARATOR in text else None
    return (match.group(1), match.group(2)) if match else (text, None)


def _truncate_pair(first: List[int], second: List[int], most: int) -> Tuple[List[int], List[int]]:
    """Cut token after token from the longer of the two; from the second if they are equal."""
    keep_first, keep_second = len(first), len(second)
    while keep_first + keep_second > most:
        if keep_first > keep_second:
            keep_first -= 1
        else:
            keep_second -= 1
    return first[:keep_first], second[:keep_second]
