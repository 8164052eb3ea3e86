"""Long texts are cut slice by slice, which must make no difference."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import Dict, Iterator, List, Optional
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bert_serving.server import slices, wordpiece
from bert_serving.server.slices import groups_of, kept, slices_of
from bert_serving.server.tokenization import TextTooLong, Tokenizer, TokenizerSettings
from bert_serving.server.wordpiece import WordPieces

ASCII = "abAB19" + " \t\n\r" + "!'.:;^`_|~-[]"
OTHERS = "éÉßİΣσΑαЖあ" + "中文㐀龥" + "\u3000、。！，？：¿" + "\u0301\u0323" + "\u2028\u00a0"
DROPPED = "\0\x0b\x1c\x85\u200b\u00ad\ufffd\ud800"
PLAIN = st.text(st.sampled_from(ASCII), max_size=40)
TEXTS = st.one_of(PLAIN, st.text(st.sampled_from(ASCII + OTHERS + DROPPED), max_size=40))
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ab", "##a", "##b", "##e", "##ς", "##σ", "##中"]
TOKENS += [*"abeéiασς中文あ" + "!'.:;^`_|~-[]、。！，？：¿"]
VOCABULARY: Dict[str, int] = {token: number for number, token in enumerate(TOKENS)}


@contextmanager
def slices_have(characters: int) -> Iterator[None]:
    names = {slices: ("SLICE_CHARACTERS", "GROUP_CHARACTERS"), wordpiece: ("SLICE_CHARACTERS",)}
    with ExitStack() as stack:
        for module, constants in names.items():
            for name in constants:
                stack.enter_context(mock.patch.object(module, name, characters))
        yield


@hypothesis_settings(max_examples=600, deadline=None)
@given(
    texts=st.lists(TEXTS, max_size=4),
    size=st.integers(1, 6),
    most=st.one_of(st.none(), st.integers(1, 12)),
    left=st.booleans(),
    lowercase=st.booleans(),
    chinese=st.booleans(),
)
@example(["ΑΣ'Α ΑΣ. Α ΑΣ:Α ΑΣ^Α ΑΣ`Α"], 1, None, False, True, True)
@example(["a\x1cb \u3000\u0301a,\u0301b"], 1, None, True, False, True)
def test_what_is_cut_in_slices_is_what_is_cut_at_once(
    texts: List[str], size: int, most: Optional[int], left: bool, lowercase: bool, chinese: bool
) -> None:
    pieces = WordPieces(VOCABULARY, lowercase, None, chinese, final_sigma=True)
    whole = pieces.cut_with_offsets(texts)
    expected = [(kept(ids, most, left), kept(spans, most, left)) for ids, spans in whole]
    with slices_have(size):
        assert pieces.cut(texts, most, left) == [ids for ids, _ in expected]
        assert pieces.cut_with_offsets(texts, most, left) == expected
        assert [pieces.count(text) for text in texts] == [len(ids) for ids, _ in whole]


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(st.one_of(TEXTS, st.lists(TEXTS).map(" ||| ".join)), min_size=1, max_size=3),
    size=st.integers(1, 6),
    length=st.integers(4, 12),
    truncate=st.sampled_from(["right", "left"]),
    offsets=st.booleans(),
)
def test_sequences_of_slices_are_those_of_whole_texts(
    texts: List[str], size: int, length: int, truncate: str, offsets: bool
) -> None:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(length, final_sigma=True))
    whole = tokenizer.encode(texts, False, truncate=truncate, offsets=offsets)
    with slices_have(size):
        sliced = tokenizer.encode(texts, False, truncate=truncate, offsets=offsets)
    assert sliced.features.tolist() == whole.features.tolist()
    assert (sliced.starts, sliced.lengths) == (whole.starts, whole.lengths)
    assert (sliced.wanted, sliced.pairs) == (whole.wanted, whole.pairs)
    assert (sliced.truncated, sliced.offsets) == (whole.truncated, whole.offsets)


class Library:
    """Counts the characters that the Rust library is given, at most at a time and in all."""

    def __init__(self, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self.all = 0
        pieces = tokenizer._pieces
        for name in ("_encode_batch", "_encode_batch_fully"):
            monkeypatch.setattr(pieces, name, self._counting(getattr(pieces, name)))

    def _counting(self, encode):  # type: ignore[no-untyped-def]
        def counted(texts, **options):  # type: ignore[no-untyped-def]
            size = sum(map(len, texts))
            self.most, self.all = max(self.most, size), self.all + size
            return encode(texts, **options)

        return counted


def words(number: int, more: str = "") -> str:
    """Different words, with more characters than a few slices have."""
    return " ".join("%07d" % one for one in range(number)) + more


LONG = 100_000
SLICE = slices.SLICE_CHARACTERS


@pytest.mark.parametrize("more", ["", " é"])
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("truncate", ["right", "left"])
def test_of_what_is_cut_off_little_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, more: str, offsets: bool, truncate: str
) -> None:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(512))
    library = Library(tokenizer, monkeypatch)
    encoded = tokenizer.encode([words(LONG, more)] * 3, False, truncate=truncate, offsets=offsets)
    assert encoded.truncated == [0, 1, 2]
    assert 0 < library.all <= 3 * 2 * SLICE


@pytest.mark.parametrize("more", ["", " é"])
def test_how_long_a_text_is_that_must_not_be_cut_takes_little_at_a_time(
    monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(512))
    library = Library(tokenizer, monkeypatch)
    with pytest.raises(TextTooLong) as raised:
        tokenizer.encode([words(LONG, more)], False, truncate=False)
    assert raised.value.length == LONG + 2 + bool(more)
    assert library.most <= SLICE + 8


@pytest.mark.parametrize("offsets", [False, True])
def test_many_texts_are_given_to_the_library_in_groups(
    monkeypatch: pytest.MonkeyPatch, offsets: bool
) -> None:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(512))
    library = Library(tokenizer, monkeypatch)
    tokenizer.encode(["é " * (SLICE // 3)] * 99, False, offsets=offsets)
    assert SLICE < library.most <= slices.GROUP_CHARACTERS


def test_new_words_of_many_texts_are_given_to_the_library_in_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(512))
    library = Library(tokenizer, monkeypatch)
    texts = words(LONG // 4).split(" ")
    tokenizer.encode([" ".join(texts[n : n + 200]) for n in range(0, len(texts), 200)], False)
    assert library.all == LONG // 4 * 7
    assert library.most <= wordpiece.WORDS_AT_A_TIME * 7


@pytest.mark.parametrize("end", ["", " a"])
def test_a_word_of_plain_text_may_be_of_any_length(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(512))
    library = Library(tokenizer, monkeypatch)
    text = "a " + "b" * (slices.LONGEST_SLICE + 9) + end
    (one,) = tokenizer.encode([text], False)
    assert library.all < 1000
    assert tokenizer.tokens_of(one) == ["[CLS]", "a", "[UNK]", *end.split(), "[SEP]"]
    located = tokenizer.encode([text], False, offsets=True)
    assert located.features.tolist() == one.features.tolist()
    assert located.offsets is not None
    word = (2, len(text) - len(end))
    assert located.offsets[0] == [
        (0, 0),
        (0, 1),
        word,
        *[(word[1] + 1, len(text))] * bool(end),
        (0, 0),
    ]
    assert library.most <= slices.LONGEST_SLICE


def test_a_slice_ends_without_the_end_of_a_word_if_need_be() -> None:
    size = slices.LONGEST_SLICE
    text = "é" * (size + 9)
    assert slices_of(text, False, True, False) == [(0, size), (size, size + 9)]
    assert slices_of(text[:size], False, True, False)[-1] == (size, size)


@given(texts=st.lists(st.text("a", max_size=9)), size=st.integers(1, 12))
def test_groups(texts: List[str], size: int) -> None:
    with slices_have(size):
        groups = list(groups_of(texts))
    assert [text for group in groups for text in group] == texts
    assert all(len(group) == 1 or sum(map(len, group)) <= size for group in groups)
