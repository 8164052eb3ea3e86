"""Texts to the ids of their word pieces.

The pieces come from the Rust ``tokenizers``, built from the vocabulary alone, without its special
tokens: "[SEP]" typed by a user stays the three words that it is, and can't forge a sentence
boundary.

In plain text, which is most of what comes, words are cut here and the pieces of each are
remembered: looking them up takes a tenth of the time. Plain is what consists of visible ASCII
characters and the white space between them, since there a word is a run of letters and digits or
a single other character, and nothing but its case changes.

Long texts are cut slice by slice, and only as many slices as there are tokens wanted of.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from bert_serving.server.slices import (
    LONGEST_SLICE,
    SLICE_CHARACTERS,
    Span,
    groups_of,
    kept,
    slices_of,
)

__all__ = ["MAX_WORD_CHARACTERS", "REMEMBERED_WORDS", "WordPieces", "is_plain"]

#: Words with more characters become one unknown token.
MAX_WORD_CHARACTERS = 100
#: Words whose pieces are kept, usually in some 10 MB; then remembering begins anew.
REMEMBERED_WORDS = 2**15
#: Words that the Rust library is given at a time, for it takes a kilobyte for each.
WORDS_AT_A_TIME = 4096
#: Longer words are rare, and so many of them would take much memory.
REMEMBERED_CHARACTERS = 20
#: Between texts that are cut together: a word of its own, which plain text doesn't have.
BOUNDARY = "\0"
#: The ids of a text's word pieces, and where each lies.
Located = Tuple[List[int], List[Span]]
CAPITAL_SIGMA = "\u03a3"
PLAIN = re.compile(r"[\t\n\r -~]*")
WORD = re.compile(r"[0-9A-Za-z]+|[^\s0-9A-Za-z]")


class WordPieces:
    """Cuts texts by a vocabulary; several threads may do so at a time.

    ``strip_accents`` is as ``lowercase`` if it is None; ``final_sigma``: lowercase a word's last
    Greek sigma as Python does.
    """

    def __init__(
        self,
        vocabulary: Dict[str, int],
        lowercase: bool,
        strip_accents: Optional[bool],
        split_chinese: bool,
        final_sigma: bool,
    ) -> None:
        self._lowercase = lowercase
        self._final_sigma = final_sigma and lowercase
        self._split_chinese = split_chinese
        rust = _build(vocabulary, lowercase, strip_accents, split_chinese)
        # Newer releases have a call that leaves out what few read: offsets and strings.
        self._encode_batch = getattr(rust, "encode_batch_fast", rust.encode_batch)
        self._encode_batch_fully = rust.encode_batch
        self._between = {BOUNDARY: [vocabulary["[SEP]"], vocabulary["[CLS]"]]}
        self._pieces_of: Dict[str, List[int]] = dict(self._between)

    def cut(
        self, texts: Iterable[str], most: Optional[int] = None, left: bool = False
    ) -> List[List[int]]:
        """The ids of each text's word pieces: of the first ``most``, or of the last ones if
        ``left``; None: of all.
        """
        cut: List[List[int]] = []
        others: Dict[int, str] = {}  # by their place
        for number, text in enumerate(texts):
            if len(text) > SLICE_CHARACTERS:
                cut.append(self._cut_long(text, most, left))
            elif is_plain(text):
                cut.append(kept(self._recall(text), most, left))
            else:
                cut.append([])
                others[number] = self._clean(text, self._is_lowered_here(text))
        groups = groups_of(list(others.values()))
        encoded = chain.from_iterable(map(self._encode, groups))
        for number, ids in zip(others, encoded):
            cut[number] = kept(ids, most, left)
        return cut

    def count(self, text: str) -> int:
        """How many word pieces a text has."""
        return sum(map(len, self._cut_slices(text, False)))

    def cut_together(self, texts: Sequence[str]) -> List[int]:
        """The ids of the word pieces of all texts, which must be plain, with those of [SEP] and
        [CLS] between two texts.
        """
        return self._recall(BOUNDARY.join(texts))

    def cut_with_offsets(
        self, texts: Sequence[str], most: Optional[int] = None, left: bool = False
    ) -> List[Located]:
        """The ids of each text's word pieces, the same as of :meth:`cut`, and where each lies.

        Takes several times longer, since nothing is remembered.
        """
        short = [text for text in texts if len(text) <= SLICE_CHARACTERS]
        located = chain.from_iterable(map(self._locate_all, groups_of(short)))
        cut: List[Located] = []
        for text in texts:
            if len(text) > SLICE_CHARACTERS:
                cut.append(self._locate_in_long(text, most, left))
            else:
                ids, spans = next(located)
                cut.append((kept(ids, most, left), kept(spans, most, left)))
        return cut

    def _cut_long(self, text: str, most: Optional[int], left: bool) -> List[int]:
        found: List[List[int]] = []
        number = 0
        for ids in self._cut_slices(text, left):
            found.append(ids)
            number += len(ids)
            if most is not None and number >= most:
                break
        return kept(list(chain.from_iterable(found[::-1] if left else found)), most, left)

    def _locate_in_long(self, text: str, most: Optional[int], left: bool) -> Located:
        lowered = self._is_lowered_here(text)
        found: List[Located] = []
        number = 0
        for start, stop in self._slices(text, left):
            end = min(stop, start + LONGEST_SLICE)
            ((ids, spans),) = self._locate([text[start:end]], [lowered])
            if end < stop:  # in a word of plain text, which is too long however it goes on
                spans[-1] = (spans[-1][0], stop - start)
            found.append((ids, [(start + first, start + last) for first, last in spans]))
            number += len(ids)
            if most is not None and number >= most:
                break
        parts, places = zip(*(found[::-1] if left else found))
        ids, spans = list(chain.from_iterable(parts)), list(chain.from_iterable(places))
        return kept(ids, most, left), kept(spans, most, left)

    def _cut_slices(self, text: str, left: bool) -> Iterator[List[int]]:
        """The ids of a text's word pieces, slice by slice; from the last one on if ``left``."""
        plain, lowered = is_plain(text), self._is_lowered_here(text)
        for start, stop in self._slices(text, left):
            part = text[start:stop]
            if plain:
                yield self._recall(part)
            else:
                yield from self._encode([self._clean(part, lowered)])

    def _slices(self, text: str, left: bool) -> List[Span]:
        lowered = self._is_lowered_here(text)
        slices = slices_of(text, is_plain(text), self._split_chinese, lowered)
        return slices[::-1] if left else slices

    def _locate_all(self, texts: List[str]) -> List[Located]:
        return self._locate(texts, list(map(self._is_lowered_here, texts)))

    def _locate(self, texts: List[str], lowered: List[bool]) -> List[Located]:
        cleaned = list(map(self._clean, texts, lowered))
        encodings = self._encode_batch_fully(cleaned, add_special_tokens=False)
        return [
            (encoding.ids, self._before_cleaning(encoding.offsets, text, clean, was_lowered))
            for encoding, text, clean, was_lowered in zip(encodings, texts, cleaned, lowered)
        ]

    @staticmethod
    def _before_cleaning(spans: List[Span], text: str, clean: str, lowered: bool) -> List[Span]:
        """Spans in what _clean made of a text, as spans in the text itself."""
        if clean == text:
            return spans
        # Which character of the text each one of the clean one comes from. But for the sigma,
        # which stays one character, Python lowercases each by itself.
        sources = [
            number
            for number, character in enumerate(text)
            if not "\ud800" <= character <= "\udfff"
            for _ in (character.lower() if lowered else character)
        ]
        return [(sources[start], sources[stop - 1] + 1) for start, stop in spans]

    def _recall(self, text: str) -> List[int]:
        words = WORD.findall(text.lower() if self._lowercase else text)
        try:
            return list(chain.from_iterable(map(self._pieces_of.__getitem__, words)))
        except KeyError:
            pieces_of = self._learn(words)
            return list(chain.from_iterable(map(pieces_of.__getitem__, words)))

    def _learn(self, words: List[str]) -> Dict[str, List[int]]:
        """The pieces of all ``words``, kept for others' texts too."""
        known = self._pieces_of
        different = dict.fromkeys(words)
        new = [word for word in different if word not in known]
        pieces_of: Dict[str, List[int]] = {}
        for start in range(0, len(new), WORDS_AT_A_TIME):
            some = new[start : start + WORDS_AT_A_TIME]
            # Of one that is too long the rest makes no difference, and takes memory.
            pieces_of.update(
                zip(some, self._encode([word[: MAX_WORD_CHARACTERS + 1] for word in some]))
            )
        found = {word: pieces_of[word] if word in pieces_of else known[word] for word in different}
        if len(known) + len(new) > REMEMBERED_WORDS:
            known = self._pieces_of = dict(self._between)  # not cleared: others may be reading it
        known.update(
            (word, ids) for word, ids in pieces_of.items() if len(word) <= REMEMBERED_CHARACTERS
        )
        return found

    @staticmethod
    def _clean(text: str, lowered: bool) -> str:
        """What the Rust library can be given, and what it folds as 1.10 would."""
        if lowered:
            text = text.lower()
        # Lone surrogates are valid in Python's strings and in JSON, but in no encoding.
        return text.encode("utf-8", "ignore").decode("utf-8")

    def _is_lowered_here(self, text: str) -> bool:
        return self._final_sigma and CAPITAL_SIGMA in text

    def _encode(self, texts: List[str]) -> List[List[int]]:
        return [encoding.ids for encoding in self._encode_batch(texts, add_special_tokens=False)]


def is_plain(text: str) -> bool:
    """Whether a text consists of visible ASCII characters and white space."""
    # The first two answer at once, or nearly so, for most texts.
    return text.isascii() and (text.isprintable() or PLAIN.fullmatch(text) is not None)


def _build(
    vocabulary: Dict[str, int], lowercase: bool, strip_accents: Optional[bool], split_chinese: bool
) -> Any:
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
        handle_chinese_chars=split_chinese,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
