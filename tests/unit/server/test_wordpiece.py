"""The pieces themselves are compared with 1.10's rules in test_tokenization.py."""

from __future__ import annotations

from typing import Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server import wordpiece
from bert_serving.server.slices import Span
from bert_serving.server.wordpiece import (
    MAX_WORD_CHARACTERS,
    REMEMBERED_CHARACTERS,
    WordPieces,
)

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "##b", "ab", "A", "1", ".", "[", "é"]
VOCABULARY: Dict[str, int] = {token: number for number, token in enumerate(TOKENS)}


def make(lowercase: bool = True) -> WordPieces:
    return WordPieces(VOCABULARY, lowercase, None, split_chinese=True, final_sigma=True)


def from_rust(pieces: WordPieces, texts: List[str]) -> List[List[int]]:
    """What the library makes of texts that aren't cut into words before."""
    return pieces._encode(texts)


class Library:
    """Counts the texts that the Rust library is given."""

    def __init__(self, pieces: WordPieces, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: List[str] = []
        encode = pieces._encode

        def counted(texts: List[str]) -> List[List[int]]:
            self.given += texts
            return encode(texts)

        monkeypatch.setattr(pieces, "_encode", counted)


ASCII = st.text(st.characters(min_codepoint=0, max_codepoint=127), max_size=30)
LONG = st.sampled_from(["ab" * 50, "b" * 101, "a" * 21, "[UNK]", "a\x0bb", "a\tb\r\nA", "\x7f"])


@given(
    texts=st.lists(st.one_of(ASCII, st.lists(LONG).map(" ".join)), max_size=6),
    lowercase=st.booleans(),
)
def test_plain_text_is_cut_as_by_the_library(texts: List[str], lowercase: bool) -> None:
    pieces = make(lowercase)
    for _ in range(2):  # the second time from memory
        assert pieces.cut(texts) == from_rust(pieces, texts)


def test_plain_and_other_texts_keep_their_places() -> None:
    texts = ["ab", "é", "a.b", "\ud800a", "", "b\x00a"]
    unknown = VOCABULARY["[UNK]"]
    assert len(make().cut(texts)) == len(texts)
    for text, ids in zip(texts, make().cut(texts)):
        assert [ids] == make().cut([text])
    assert make().cut(["é ab", "x", "ab"]) == [[unknown, 8], [unknown], [8]]


PLAIN = st.text(st.sampled_from("ab A1.[\t~"), max_size=20)


@given(texts=st.lists(PLAIN, min_size=1, max_size=6), lowercase=st.booleans())
def test_texts_are_cut_together_as_one_by_one(texts: List[str], lowercase: bool) -> None:
    pieces = make(lowercase)
    first, *others = pieces.cut(texts)
    between = [VOCABULARY["[SEP]"], VOCABULARY["[CLS]"]]
    expected = sum([between + ids for ids in others], first)
    for fresh in (pieces, make(lowercase)):
        assert fresh.cut_together(texts) == expected


def test_what_stands_between_texts_is_known_after_forgetting_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wordpiece, "REMEMBERED_WORDS", 3)
    pieces = make()
    for text in ("a", "b", "ab", "A a1"):
        ids = pieces.cut_together([text, text])
        assert ids == [*pieces.cut([text])[0], 3, 2, *pieces.cut([text])[0]]


def test_only_new_words_are_given_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = make()
    library = Library(pieces, monkeypatch)
    pieces.cut_together(["aba b", "b ab"])
    pieces.cut_together(["aba b", "b ba"])
    assert library.given == ["aba", "b", "ab", "ba"]


def test_a_word_is_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = make()
    library = Library(pieces, monkeypatch)
    first = pieces.cut(["aba b ab", "b aba"])
    assert pieces.cut(["b aba", "aba B ab"]) == first[::-1]
    assert sorted(library.given) == ["ab", "aba", "b"]


@pytest.mark.parametrize("length", [REMEMBERED_CHARACTERS + 1, MAX_WORD_CHARACTERS + 1])
def test_long_words_are_not_remembered(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = make()
    library = Library(pieces, monkeypatch)
    word = "b" * length
    assert pieces.cut([word]) == pieces.cut([word])
    assert library.given == [word, word]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece, "REMEMBERED_WORDS", 5)
    pieces = make()
    words = ["a" * number for number in range(1, 13)]
    for _ in range(2):
        for word in words:
            (ids,) = pieces.cut([word + " b"])
            assert len(ids) == len(word) + 1
            assert len(pieces._pieces_of) <= 5
    # More at once than can be kept are cut all the same.
    (ids,) = pieces.cut([" ".join(words)])
    assert len(ids) == sum(map(len, words))


@given(
    texts=st.lists(
        st.text(st.sampled_from("abAB.1 \t\0éÉİΣß中🙂\u0301\u200b\ud800[]")), max_size=6
    ),
    lowercase=st.booleans(),
)
def test_pieces_with_offsets_are_those_without(texts: List[str], lowercase: bool) -> None:
    pieces = make(lowercase)
    cut = pieces.cut_with_offsets(texts)
    assert [ids for ids, _ in cut] == pieces.cut(texts)
    assert [len(spans) for _, spans in cut] == [len(ids) for ids, _ in cut]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", []),
        ("aba b.", [(0, 2), (2, 3), (4, 5), (5, 6)]),
        ("\ud800a\udfff b", [(1, 2), (4, 5)]),
        ("a\ud800b", [(0, 3)]),
        ("e\u0301 ab", [(0, 1), (3, 5)]),
        ("İ a Σ ab", [(0, 1), (2, 3), (4, 5), (6, 8)]),  # lowercased by Python: one character more
        ("İ\ud800Σ ab", [(0, 3), (4, 6)]),  # one more and one less
        ("a\0b \u200b a", [(0, 3), (6, 7)]),
        ("🙂 \U00020000a", [(0, 1), (2, 3), (3, 4)]),
    ],
)
def test_offsets_are_characters_of_the_text_before_cleaning(text: str, spans: List[Span]) -> None:
    ((_, found),) = make().cut_with_offsets([text])
    assert found == spans


def test_a_typed_special_token_is_cut_into_words() -> None:
    (ids,) = make().cut(["[SEP]"])
    assert VOCABULARY["[SEP]"] not in ids
