"""Texts to token ids, as 1.10 does it.

The word pieces come from :mod:`bert_serving.server.wordpiece`, and sequences of them from
:mod:`bert_serving.server.sequences`; here stand 1.10's rule for what is a pair, and the choice of
the fastest way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from bert_serving.server.errors import StartupError
from bert_serving.server.sequences import (
    Encoded,
    EncodedTexts,
    Pieces,
    SequenceMaker,
    TextTooLong,
    merge,
)
from bert_serving.server.slices import Span
from bert_serving.server.wordpiece import WordPieces, is_plain

__all__ = [
    "Encoded",
    "EncodedTexts",
    "TextTooLong",
    "Tokenizer",
    "TokenizerSettings",
    "padded_length",
    "read_vocabulary",
]

PAIR_TOKEN = "|||"
SEPARATOR = " ||| "
#: From so many texts on, it takes less time to cut them together.
TOGETHER = 8
#: Longer ones aren't: of those, not all tokens may be needed.
TOGETHER_CHARACTERS = 2048
REQUIRED = ("[UNK]", "[CLS]", "[SEP]")
NO_PAIRS = (
    "pairs can't be lists of tokens; give their texts as strings, or put the token %r between the "
    "tokens of the two" % PAIR_TOKEN
)
NO_OFFSETS = (
    "tokenized texts have no offsets, which are places in a string; give strings, or don't ask for "
    "offsets"
)

#: A text, or the two of a pair.
Parts = Tuple[str, Optional[str]]


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
        self._sequences = SequenceMaker(
            vocabulary["[CLS]"], vocabulary["[SEP]"], settings.max_length, settings.mask_special
        )
        self._pieces = WordPieces(
            vocabulary,
            settings.lowercase,
            settings.strip_accents,
            settings.split_chinese,
            settings.final_sigma,
        )

    def encode(
        self,
        texts: Sequence[Any],
        is_tokenized: bool,
        *,
        pairs: bool = False,
        truncate: Union[str, bool] = "right",
        offsets: bool = False,
    ) -> EncodedTexts:
        """Encode strings; lists of tokens if ``is_tokenized``; lists of two strings if ``pairs``,
        and then " ||| " in them is text. A pair whose second text has no tokens is a single text.

        ``truncate``: what is too long loses its last tokens ("right") or its first ones ("left");
        with False it raises TextTooLong. ``offsets``: say where each token lies in the text as it
        was given, in its own one of a pair's two strings. Raises ValueError for tokenized texts
        with ``pairs`` or ``offsets``.
        """
        left = truncate == "left"
        if is_tokenized:
            if pairs or offsets:
                raise ValueError(NO_PAIRS if pairs else NO_OFFSETS)
            pieces = [self._look_up(text) for text in texts]
            encoded = self._sequences.make(pieces, left, bare=self._settings.no_special)
        elif offsets:
            encoded = self._encode_with_offsets(texts, pairs, left)
        elif pairs:
            encoded = self._encode_parts(texts, left)
        else:
            encoded = self._encode_strings(texts, left)
        if truncate is False and encoded.truncated:
            self._refuse(encoded, texts[encoded.truncated[0]], is_tokenized, pairs)
        return encoded

    def tokens_of(self, encoded: Encoded) -> List[str]:
        """The tokens of a text, special ones included."""
        return [self._tokens[number] for number in encoded.features[0].tolist()]

    def _encode_strings(self, texts: Sequence[str], left: bool) -> EncodedTexts:
        if len(texts) < TOGETHER:
            return self._encode_each(texts, left)
        singles = [number for number, text in enumerate(texts) if _is_simple(text)]
        if len(singles) == len(texts):
            return self._encode_together(texts, left)
        if len(singles) < TOGETHER:
            return self._encode_each(texts, left)
        others = sorted(set(range(len(texts))).difference(singles))
        return merge(
            (singles, self._encode_together([texts[number] for number in singles], left)),
            (others, self._encode_each([texts[number] for number in others], left)),
        )

    def _encode_together(self, texts: Sequence[str], left: bool) -> EncodedTexts:
        """Of plain texts that aren't pairs. What a user types can't be [SEP]: see wordpiece."""
        return self._sequences.make_together(self._pieces.cut_together(texts), left)

    def _encode_each(self, texts: Sequence[str], left: bool) -> EncodedTexts:
        return self._encode_parts([_split_pair(text) for text in texts], left)

    def _encode_parts(self, texts: Sequence[Parts], left: bool) -> EncodedTexts:
        most = self._settings.max_length  # from so many tokens on, a text is cut whatever follows
        parts = (part for both in texts for part in both if part)
        pieces = iter(self._pieces.cut(parts, most, left))
        return self._sequences.make(
            [
                (next(pieces) if first else [], next(pieces) if second else [])
                for first, second in texts
            ],
            left,
        )

    def _encode_with_offsets(self, texts: Sequence[Any], pairs: bool, left: bool) -> EncodedTexts:
        parts = texts if pairs else [_split_pair(text) for text in texts]
        begins = [(0, 0)] * len(texts) if pairs else list(map(_part_begins, texts, parts))
        flat = [part or "" for both in parts for part in both]
        cut = iter(self._pieces.cut_with_offsets(flat, self._settings.max_length, left))
        pieces: List[Pieces] = []
        spans: List[List[Span]] = []
        for (first, first_spans), (second, second_spans), (begin, middle) in zip(cut, cut, begins):
            pieces.append((first, second))
            moved = _moved(first_spans, begin), _moved(second_spans, middle)
            spans.append(self._sequences.spans(*moved, left))
        return replace(self._sequences.make(pieces, left), offsets=spans)

    def _look_up(self, tokens: Sequence[str]) -> Pieces:
        """The ids of both texts of an already tokenized one."""
        cut = tokens.index(PAIR_TOKEN) if PAIR_TOKEN in tokens else len(tokens)
        unknown = self._ids["[UNK]"]
        ids = [self._ids.get(token, unknown) for token in tokens]
        return ids[:cut], ids[cut + 1 :]

    def _refuse(self, encoded: EncodedTexts, text: Any, is_tokenized: bool, pairs: bool) -> None:
        """Raise TextTooLong for ``text``, the first one that was cut."""
        index = encoded.truncated[0]
        if is_tokenized:
            length = sum(map(len, self._look_up(text)))
        else:
            parts = text if pairs else _split_pair(text)
            length = sum(self._pieces.count(part) for part in parts if part)
        bare = is_tokenized and self._settings.no_special
        special = 3 if encoded.pairs[index] else 0 if bare else 2
        raise TextTooLong(index, length + special, self._settings.max_length)


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
    return len(text) <= TOGETHER_CHARACTERS and is_plain(text) and SEPARATOR not in text


def _split_pair(text: str) -> Parts:
    """The last separator counts, and a line break inside of the text makes it a single one: 1.10's
    rule, which is a regular expression there, whose time grows with the square of the separators.
    """
    if SEPARATOR not in text:
        return text, None
    stripped = text.strip()
    cut = -1 if "\n" in stripped else stripped.rfind(SEPARATOR)
    if cut < 0:
        return text, None
    return stripped[:cut], stripped[cut + len(SEPARATOR) :]


def _part_begins(text: str, parts: Parts) -> Tuple[int, int]:
    """Where in a text its two parts begin, which are those of _split_pair."""
    first, second = parts
    if second is None:
        return 0, 0
    begin = len(text) - len(text.lstrip())
    return begin, begin + len(first) + len(SEPARATOR)


def _moved(spans: List[Span], by: int) -> List[Span]:
    return [(start + by, stop + by) for start, stop in spans] if by else spans
