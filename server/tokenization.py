"""Texts to token ids, as 1.10 does it.

The word pieces come from the Rust ``tokenizers``. It is built from the vocabulary alone,
without its special tokens: "[SEP]" typed by a user stays the three characters that it is, and
can't forge a sentence boundary. Around it stand 1.10's rules: pairs by " ||| ", truncation,
special tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from bert_serving.server.errors import StartupError

__all__ = ["Encoded", "Tokenizer", "TokenizerSettings", "padded_length", "read_vocabulary"]

#: Words with more characters become one unknown token.
MAX_WORD_CHARACTERS = 100
#: Of several separators the last one counts; "." excludes line breaks.
PAIR = re.compile(r"(.*) \|\|\| (.*)")
PAIR_TOKEN = "|||"
CAPITAL_SIGMA = "\u03a3"
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


@dataclass(frozen=True)
class Encoded:
    """One text, ready for the model."""

    features: np.ndarray  # int32 [3, length]: token ids, segment ids, attention mask
    wanted_length: int  # tokens of both texts before truncation, without special tokens
    is_pair: bool


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
        word_pieces = _build(vocabulary, settings)
        # Newer releases have a call that leaves out what nobody reads here: offsets and strings.
        self._encode_batch = getattr(word_pieces, "encode_batch_fast", word_pieces.encode_batch)

    def encode(self, texts: Sequence[Any], is_tokenized: bool) -> List[Encoded]:
        """Encode strings, or lists of tokens if ``is_tokenized``."""
        if is_tokenized:
            return [self._finish(*self._look_up(text), is_tokenized=True) for text in texts]
        pairs = [_split_pair(text) for text in texts]
        flat = [part for first, second in pairs for part in (first, second) if part is not None]
        pieces = iter(self._cut(flat))
        return [
            self._finish(next(pieces), [] if second is None else next(pieces), is_tokenized=False)
            for _, second in pairs
        ]

    def tokens_of(self, encoded: Encoded) -> List[str]:
        """The tokens of a text, special ones included."""
        return [self._tokens[number] for number in encoded.features[0].tolist()]

    def _cut(self, texts: List[str]) -> List[List[int]]:
        """The ids of each text's word pieces."""
        if self._settings.final_sigma and self._settings.lowercase:
            texts = [text.lower() if CAPITAL_SIGMA in text else text for text in texts]
        # Lone surrogates are valid in Python's strings and in JSON, but in no encoding.
        clean = [text.encode("utf-8", "ignore").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self._encode_batch(clean, add_special_tokens=False)]

    def _look_up(self, tokens: Sequence[str]) -> Tuple[List[int], List[int]]:
        """The ids of both texts of an already tokenized one."""
        cut = tokens.index(PAIR_TOKEN) if PAIR_TOKEN in tokens else len(tokens)
        unknown = self._ids["[UNK]"]
        ids = [self._ids.get(token, unknown) for token in tokens]
        return ids[:cut], ids[cut + 1 :]

    def _finish(self, first: List[int], second: List[int], is_tokenized: bool) -> Encoded:
        """Truncate, and put the special tokens around."""
        settings = self._settings
        wanted = len(first) + len(second)
        is_pair = bool(second)
        if is_pair:
            first, second = _truncate_pair(first, second, settings.max_length - 3)
        bare = settings.no_special and is_tokenized and not second
        if not is_pair:
            first = first[: settings.max_length - (0 if bare else 2)]
        ids = first if bare else self._cls + first + self._sep
        boundary = len(ids)
        if second:
            ids = ids + second + self._sep
        features = np.ones((3, len(ids)), np.int32)
        features[0] = ids
        features[1, :boundary] = 0
        if settings.mask_special and not bare:
            features[2, [0, boundary - 1, len(ids) - 1]] = 0
        return Encoded(features, wanted, is_pair)


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


def _split_pair(text: str) -> Tuple[str, Optional[str]]:
    match = PAIR.fullmatch(text.strip())
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


def _build(vocabulary: Dict[str, int], settings: TokenizerSettings) -> Any:
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models, normalizers, pre_tokenizers

    tokenizer = RustTokenizer(
        models.WordPiece(
            vocabulary,
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_WORD_CHARACTERS,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.split_chinese,
        strip_accents=settings.strip_accents,
        lowercase=settings.lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
