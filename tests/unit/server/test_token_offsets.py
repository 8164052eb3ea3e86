"""Where tokens lie in their texts, whatever is dropped, folded or taken apart on the way."""

from __future__ import annotations

import unicodedata
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bert_serving.server.tokenization import EncodedTexts, Tokenizer, TokenizerSettings

LETTERS = "abzAB19" + "éÉñÅöŁßÆǅ" + "İIıi" + "αΆάΣσς" + "Жй" + "אָב" + "हिन्दी" + "각ᄀ" + "ﬁ½²"
MARKS = "\u0301\u0308\u0323\u0307\u20d0\u093e\u0903"
OTHERS = (
    "中文㐀\U00020000豈あ" + "🙂👍🏽👨‍👩‍👧™→" + "!.[]|'¿—。" + " \t\n\r\u00a0\u3000\u2028\x1c\x85"
)
DROPPED = "\0\x07\x7f\ufffd\u00ad\u200b\u200d\ufeff\u202e\ud800\udfff"
CHARACTERS = LETTERS + MARKS + OTHERS + DROPPED

CHUNKS = st.sampled_from(["abc", "ab", " ||| ", "|||", "[SEP]", "ÀÉ", "x" * 101, "ΣΑΣ"])
TEXTS = st.lists(st.one_of(st.sampled_from(CHARACTERS), CHUNKS), max_size=30).map("".join)


def make_vocabulary() -> Dict[str, int]:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ab", "##ab", "abc"]
    for character in CHARACTERS:
        folded = unicodedata.normalize("NFD", character.lower())
        for piece in [character, character.lower(), *folded, *unicodedata.normalize("NFC", folded)]:
            if piece.strip() and unicodedata.category(piece[0]) not in ("Cc", "Cf", "Cs", "Co"):
                tokens += [piece, "##" + piece]
    del tokens[tokens.index("ß")]  # a word with it isn't known
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


VOCABULARY = make_vocabulary()
SPECIAL = (VOCABULARY["[CLS]"], VOCABULARY["[SEP]"])


def tokenizer_of(**settings: Any) -> Tokenizer:
    return Tokenizer(VOCABULARY, TokenizerSettings(**{"max_length": 10_000, **settings}))


def fold(text: str, lowercase: bool) -> str:
    """What of a text's characters there can be in tokens."""
    kept = [c for c in text if unicodedata.category(c)[0] not in "CZ" and c != "\ufffd"]
    if not lowercase:
        return "".join(kept)
    apart = unicodedata.normalize("NFD", "".join(kept).lower())
    return "".join(c for c in apart if unicodedata.category(c) != "Mn")


def assert_spans(text: str, tokens: List[str], spans: List[Tuple[int, int]], lower: bool) -> None:
    """Of one text, without special tokens."""
    assert len(tokens) == len(spans)
    covered = [0] * len(text)
    for start, stop in spans:
        assert 0 <= start < stop <= len(text)
        covered[start:stop] = [count + 1 for count in covered[start:stop]]
    assert spans == sorted(spans)
    assert sorted(stop for _, stop in spans) == [stop for _, stop in spans]
    for token, (start, stop) in zip(tokens, spans):
        if token == "[UNK]":
            continue
        piece = (token[2:] if token.startswith("##") else token).replace("ς", "σ")
        whole = fold(text[start:stop], lower).replace("ς", "σ")
        if max(covered[start:stop]) == 1:
            assert piece == whole
        else:  # a character that became several tokens
            assert piece in whole
    # What no token has is nothing that a token could have.
    assert fold("".join(c for c, count in zip(text, covered) if not count), lower) == ""


@given(
    texts=st.lists(TEXTS, min_size=1, max_size=10), lower=st.booleans(), final_sigma=st.booleans()
)
@example(texts=["İΣ ab Σİab\ud800 ab"], lower=True, final_sigma=True)
@example(texts=["각각 e\u0301\u0308a ab"], lower=True, final_sigma=False)
@example(texts=["\ufeffab\0c 👨‍👩‍👧 中ab"], lower=False, final_sigma=False)
def test_tokens_lie_where_their_characters_are(
    texts: List[str], lower: bool, final_sigma: bool
) -> None:
    tokenizer = tokenizer_of(lowercase=lower, final_sigma=final_sigma)
    pairs = [[text, ""] for text in texts]
    encoded = tokenizer.encode(pairs, False, pairs=True, offsets=True)
    for text, one, spans in zip(texts, encoded, offsets_of(encoded)):
        assert spans[0] == spans[-1] == (0, 0)
        assert_spans(text, tokenizer.tokens_of(one)[1:-1], spans[1:-1], lower)


def offsets_of(encoded: EncodedTexts) -> List[List[Tuple[int, int]]]:
    assert encoded.offsets is not None
    assert [len(spans) for spans in encoded.offsets] == encoded.lengths
    return encoded.offsets


LINES = TEXTS.map(lambda text: text.replace("\n", "").replace("|||", "|"))
SPACES = st.text(st.sampled_from(" \n\u3000\x1c"), max_size=3)


@given(before=SPACES, first=LINES, second=LINES, after=SPACES, final_sigma=st.booleans())
def test_offsets_of_a_pair_in_one_string_are_those_in_the_whole(
    before: str, first: str, second: str, after: str, final_sigma: bool
) -> None:
    first, second = "a" + first, second + "z"  # what stands there isn't stripped
    tokenizer = tokenizer_of(final_sigma=final_sigma)
    text = before + first + " ||| " + second + after
    whole = tokenizer.encode([text], False, offsets=True)
    apart = tokenizer.encode([[first, second]], False, pairs=True, offsets=True)
    assert whole.features.tolist() == apart.features.tolist()
    ((spans,), (own,)) = offsets_of(whole), offsets_of(apart)
    ids, segments, _ = whole.features.tolist()
    for token, segment, (start, stop), (own_start, own_stop) in zip(ids, segments, spans, own):
        begin = len(before) + (len(first) + len(" ||| ") if segment else 0)
        if token in SPECIAL:
            begin = 0
        assert (start, stop) == (own_start + begin, own_stop + begin)


@given(
    texts=st.lists(st.one_of(TEXTS, st.text(st.characters())), min_size=1, max_size=20),
    pairs=st.booleans(),
    max_length=st.integers(4, 30),
    truncate=st.sampled_from(["right", "left"]),
    settings=st.fixed_dictionaries(
        {"lowercase": st.booleans(), "mask_special": st.booleans(), "final_sigma": st.booleans()}
    ),
)
def test_with_offsets_all_else_is_the_same(
    texts: List[Any], pairs: bool, max_length: int, truncate: str, settings: Dict[str, bool]
) -> None:
    if pairs:
        texts = [[text, other] for text, other in zip(texts, texts[::-1])]
    tokenizer = tokenizer_of(max_length=max_length, **settings)
    without = tokenizer.encode(texts, False, pairs=pairs, truncate=truncate)
    encoded = tokenizer.encode(texts, False, pairs=pairs, truncate=truncate, offsets=True)
    assert without.offsets is None
    assert (encoded.lengths, encoded.truncated) == (without.lengths, without.truncated)
    for one, other in zip(encoded, without):
        np.testing.assert_array_equal(one.features, other.features)
        assert one[1:] == other[1:]
    # A cut text has the offsets of what is left of it, in their order.
    whole = tokenizer_of(**settings).encode(texts, False, pairs=pairs, offsets=True)
    for one, spans, all_spans in zip(encoded, offsets_of(encoded), offsets_of(whole)):
        assert set(spans) <= set(all_spans)
        special = [place for place, number in enumerate(one.features[0]) if number in SPECIAL]
        assert all((spans[place] == (0, 0)) is (place in special) for place in range(len(spans)))
        for start, stop in zip(special, special[1:]):
            assert spans[start + 1 : stop] == sorted(spans[start + 1 : stop])


# --------------------------------------------------------------------------------- examples


def spans_in(text: Any, **options: Any) -> List[Tuple[int, int]]:
    tokenizer = tokenizer_of(max_length=options.pop("max_length", 25), final_sigma=True)
    (spans,) = offsets_of(tokenizer.encode([text], False, offsets=True, **options))
    return spans


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", []),
        ("ab, abab", [(0, 2), (2, 3), (4, 6), (6, 8)]),
        ("É e\u0301 z", [(0, 1), (2, 3), (5, 6)]),
        ("中文ab", [(0, 1), (1, 2), (2, 4)]),
        ("🙂 ab", [(0, 1), (2, 4)]),
        ("각 ab", [(0, 1), (0, 1), (0, 1), (2, 4)]),  # its three letters
        ("ﬁ ½", [(0, 1), (2, 3)]),
        ("\u200bab\0 \u00ada\u200db", [(1, 3), (6, 9)]),
        ("İΣ ab", [(0, 1), (1, 2), (3, 5)]),
        ("\ud800ab", [(1, 3)]),
        ("x" * 101 + " ab", [(0, 101), (102, 104)]),
    ],
)
def test_offsets(text: str, spans: List[Tuple[int, int]]) -> None:
    assert spans_in(text) == [(0, 0), *spans, (0, 0)]
    assert spans_in([text, ""], pairs=True) == [(0, 0), *spans, (0, 0)]


def test_offsets_of_both_texts() -> None:
    none = (0, 0)
    assert spans_in("ab a ||| a ab") == [none, (0, 2), (3, 4), none, (9, 10), (11, 13), none]
    assert spans_in("\u3000\nab ||| a") == [none, (2, 4), none, (9, 10), none]
    assert spans_in("ab ||| a ||| ab")[-3:] == [none, (13, 15), none]
    assert spans_in(["ab a", " a"], pairs=True) == [none, (0, 2), (3, 4), none, (1, 2), none]
    assert spans_in(["", " a"], pairs=True) == [none, none, (1, 2), none]


def test_offsets_of_what_was_cut() -> None:
    none = (0, 0)
    assert spans_in("a b a b", max_length=4) == [none, (0, 1), (2, 3), none]
    assert spans_in("a b a b", max_length=4, truncate="left") == [none, (4, 5), (6, 7), none]
    assert spans_in("a b a ||| b", max_length=5, truncate="left") == [
        *[none, (4, 5), none],
        *[(10, 11), none],
    ]
