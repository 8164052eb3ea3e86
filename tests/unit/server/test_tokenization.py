"""Tokenization against what 1.10 gave (golden cases) and against its rules, written again here."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bert_serving.server.errors import StartupError
from bert_serving.server.tokenization import (
    Encoded,
    TextTooLong,
    Tokenizer,
    TokenizerSettings,
    _split_pair,
    padded_length,
    read_vocabulary,
)
from bert_serving.server.wordpiece import MAX_WORD_CHARACTERS

GOLDEN = Path(__file__).parents[2] / "golden" / "tf1-tiny"
CASES = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))
VOCABULARY_FILE = GOLDEN / "model" / "vocab.txt"
#: -max_batch_size and max_position_embeddings of the golden cases.
BATCH_ROWS, POSITIONS = 256, 80

# ----------------------------------------------------------------------- 1.10's rules, again


def is_punctuation(character: str) -> bool:
    """Unicode's punctuation, and every visible ASCII character that is no letter or digit."""
    if "!" <= character <= "~":
        return not character.isalnum()
    return unicodedata.category(character).startswith("P")


def is_ideograph(character: str) -> bool:
    ranges = ["\u3400\u4dbf", "\u4e00\u9fff", "\uf900\ufaff"]
    ranges += ["\U00020000\U0002a6df", "\U0002a700\U0002ceaf", "\U0002f800\U0002fa1f"]
    return any(first <= character <= last for first, last in ranges)


def words_of(text: str, lowercase: bool) -> List[str]:
    clean = []
    for character in text:
        category = unicodedata.category(character)
        if character in "\t\r\n" or category == "Zs":
            clean.append(" ")
        elif character == "\ufffd" or category.startswith("C"):
            continue
        elif is_ideograph(character):
            clean.append(" " + character + " ")
        else:
            clean.append(character)
    words = "".join(clean).split()
    if lowercase:
        folded = [unicodedata.normalize("NFD", word.lower()) for word in words]
        words = ["".join(c for c in word if unicodedata.category(c) != "Mn") for word in folded]
    spaced = [c if not is_punctuation(c) else " " + c + " " for c in " ".join(words)]
    return "".join(spaced).split()


def pieces_of(word: str, vocabulary: Dict[str, int]) -> List[str]:
    """Always the longest piece that the vocabulary has; all of the word or nothing."""
    if len(word) > 100:
        return ["[UNK]"]
    pieces: List[str] = []
    rest = word
    while rest:
        prefix = "##" if pieces else ""
        sizes = [n for n in range(len(rest), 0, -1) if prefix + rest[:n] in vocabulary]
        if not sizes:
            return ["[UNK]"]
        pieces.append(prefix + rest[: sizes[0]])
        rest = rest[sizes[0] :]
    return pieces


def tokens_of(text: str, lowercase: bool, vocabulary: Dict[str, int]) -> List[str]:
    return [piece for word in words_of(text, lowercase) for piece in pieces_of(word, vocabulary)]


class Expected(NamedTuple):
    tokens: List[str]
    types: List[int]
    mask: List[int]
    wanted: int
    is_pair: bool


def expected_sequence(
    text: Any, is_tokenized: bool, settings: TokenizerSettings, vocabulary: Dict[str, int]
) -> Expected:
    first: List[str]
    second: List[str] = []
    if is_tokenized:
        known = [token if token in vocabulary else "[UNK]" for token in text]
        cut = text.index("|||") if "|||" in text else len(text)
        first, second = known[:cut], known[cut + 1 :]
    else:
        match = re.match(r"^(.*) \|\|\| (.*)$", text.strip())
        parts = match.groups() if match else (text,)
        first = tokens_of(parts[0], settings.lowercase, vocabulary)
        second = tokens_of(parts[1], settings.lowercase, vocabulary) if match else []
    wanted, is_pair = len(first) + len(second), bool(second)
    bare = settings.no_special and is_tokenized and not second
    room = settings.max_length - (3 if second else 0 if bare else 2)
    while len(first) + len(second) > room:
        longer = first if len(first) > len(second) else second or first
        longer.pop()
    if bare:
        return Expected(first, [0] * len(first), [1] * len(first), wanted, False)
    special = 0 if settings.mask_special else 1
    tokens = ["[CLS]"] + first + ["[SEP]"]
    mask = [special] + [1] * len(first) + [special]
    types = [0] * len(tokens)
    if second:
        tokens += second + ["[SEP]"]
        mask += [1] * len(second) + [special]
        types += [1] * (len(second) + 1)
    return Expected(tokens, types, mask, wanted, is_pair)


def expected_length(rows: Sequence[Expected], batch_rows: int, max_length: int) -> int:
    """1.10 pads a result to the longest of its batches, each with room for its special tokens."""
    batches = [rows[i : i + batch_rows] for i in range(0, len(rows), batch_rows)]
    lengths = []
    for batch in batches:
        wanted = max(row.wanted for row in batch)
        lengths.append(min(max_length, wanted + (3 if any(r.is_pair for r in batch) else 2)))
    return max(lengths)


def assert_encoded(
    encoded: Encoded,
    expected: Expected,
    tokenizer: Tokenizer,
    vocabulary: Dict[str, int],
    limit: int,
) -> None:
    assert tokenizer.tokens_of(encoded) == expected.tokens
    ids, types, mask = encoded.features.tolist()
    assert ids == [vocabulary[token] for token in expected.tokens]
    assert types == expected.types
    assert mask == expected.mask
    assert encoded.features.dtype == np.int32
    assert encoded.wanted_length == min(expected.wanted, limit)


# ----------------------------------------------------------------------------- golden cases


def settings_of(flags: List[str]) -> Tuple[TokenizerSettings, bool]:
    """The settings of a golden case, and whether its sequences all have the same length."""
    named = flags[flags.index("-max_seq_len") + 1] if "-max_seq_len" in flags else "25"
    settings = TokenizerSettings(
        POSITIONS if named == "NONE" else int(named),
        lowercase="-cased_tokenization" not in flags,
        mask_special="-mask_cls_sep" in flags,
        no_special="-no_special_token" in flags,
        final_sigma=True,
    )
    return settings, named != "NONE"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"][:-4])
def test_1_10_gave_the_same(case: Dict[str, Any]) -> None:
    settings, fixed = settings_of(case["flags"])
    tokenizer = Tokenizer(read_vocabulary(VOCABULARY_FILE), settings)
    encoded = tokenizer.encode(case["texts"], case["is_tokenized"])
    with np.load(str(GOLDEN / case["file"])) as archive:
        golden = {name: archive[name] for name in ("ids", "types", "mask", "tokens")}
    wanted = [(one.wanted_length, one.is_pair) for one in encoded]
    length = padded_length(wanted, BATCH_ROWS, settings.max_length, fixed)
    assert golden["ids"].shape == (len(case["texts"]), length)
    tokens = json.loads(str(golden["tokens"]))
    for row, one in enumerate(encoded):
        padded = np.zeros((3, length), np.int32)
        padded[:, : one.features.shape[1]] = one.features
        for name, values in zip(("ids", "types", "mask"), padded):
            np.testing.assert_array_equal(values, golden[name][row], case["texts"][row])
        assert tokenizer.tokens_of(one) == tokens[row]


# ------------------------------------------------------------------------------- any text

# Left out, since the Rust tables are of another Unicode version than Python's, or differ:
# - code points that one of them doesn't know: unassigned ones count as control characters in
#   Python and are dropped, and are letters in Rust;
# - accents, punctuation and format characters that came after Unicode 8, in Rust letters too;
# - U+166D, punctuation until Unicode 12, and U+1734, a nonspacing mark until Unicode 14;
# - U+2B820..U+2B91F, ideographs that Rust doesn't set apart;
# - control characters and U+FFFD in a word with a capital sigma: 1.10 drops them before it
#   lowercases, we after, and to Python they end a word, so that the sigma becomes a final one.
LETTERS = "abcABCxyz019" + "éÉçñÅåÖöŁłßÆøĲǅ" + "İIıi" + "αβΑάΆ" + "Жжй" + "אָב" + "हिन्दी" + "가각ᄀ"
SIGMAS = "Σσς"
MARKS = "\u0301\u0308\u0323\u0307\u20d0\u093e\u0903"
IDEOGRAPHS = "中文㐀龥豈\U00020000\U0002a700\U0002f800" + "あア々〇"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" + "¡§¿—…“”、。「」؟\u037e।"
SYMBOLS = "€©°×∑→🙂👍🏽½²™"
SPACES = " \t\n\r\u00a0\u1680\u2003\u2028\u2029\u202f\u3000"
INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff\u202e\ue000"
CONTROLS = "\0\x07\x0b\x0c\x1c\x1f\x7f\x85\ufffd\ud800\udfff"

WITHOUT_SIGMA = LETTERS + MARKS + IDEOGRAPHS + PUNCTUATION + SYMBOLS + SPACES + INVISIBLE + CONTROLS
WITHOUT_CONTROLS = LETTERS + SIGMAS + MARKS + IDEOGRAPHS + PUNCTUATION + SPACES + INVISIBLE
CHUNKS = st.sampled_from(["abc", "ab", " ||| ", "[SEP]", "[CLS]", "ÀÉ", "x" * 101, "ab" * 50])
TEXTS = st.one_of(
    st.lists(st.one_of(st.sampled_from(characters), CHUNKS), max_size=40).map("".join)
    for characters in (WITHOUT_SIGMA, WITHOUT_CONTROLS)
)


def make_vocabulary() -> Dict[str, int]:
    """Most characters as pieces, some of them only inside of words or only at their start."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "abc", "##ab", "##bc", "##cab"]
    for number, character in enumerate(sorted(set(WITHOUT_SIGMA + WITHOUT_CONTROLS))):
        folded = unicodedata.normalize("NFD", character.lower())
        for piece in {character, character.lower(), folded, folded[0]}:
            if piece.strip() and not unicodedata.category(piece[0]).startswith("C"):
                tokens += ["##" + piece] if number % 11 == 0 else [piece]
                tokens += ["##" + piece] if number % 7 else []
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


VOCABULARY = make_vocabulary()
TOKENIZERS = {
    lowercase: Tokenizer(VOCABULARY, TokenizerSettings(50, lowercase=lowercase, final_sigma=True))
    for lowercase in (True, False)
}


@hypothesis_settings(max_examples=600, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3), lowercase=st.booleans())
@example(texts=["ΣΑΣ ΑΣ. ΑΣ'Α Σ"], lowercase=True)
@example(texts=["İstanbul DİYARBAKIR"], lowercase=True)
@example(texts=["a\ud800b"], lowercase=False)
@example(texts=["a ||| b ||| c"], lowercase=True)
@example(texts=["a |||"], lowercase=True)
@example(texts=["||| b"], lowercase=True)
@example(texts=["a\nb ||| c"], lowercase=True)
@example(texts=["\n a ||| c \n"], lowercase=True)
@example(texts=["a ||| \u200b"], lowercase=True)
@example(texts=["中 ||| 文"], lowercase=True)
def test_any_text(texts: List[str], lowercase: bool) -> None:
    tokenizer = TOKENIZERS[lowercase]
    settings = TokenizerSettings(50, lowercase=lowercase)
    encoded = tokenizer.encode(texts, False)
    assert len(encoded) == len(texts)
    for text, one in zip(texts, encoded):
        expected = expected_sequence(text, False, settings, VOCABULARY)
        assert_encoded(one, expected, tokenizer, VOCABULARY, 50)


PLAIN_TEXTS = st.lists(st.sampled_from(["abc", "ABab", ".", "x" * 101, " ", "\t", "[SEP]"])).map(
    "".join
)


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.one_of(PLAIN_TEXTS, PLAIN_TEXTS, TEXTS), min_size=1, max_size=30),
    max_length=st.integers(4, 12),
    lowercase=st.booleans(),
    mask_special=st.booleans(),
)
@example(texts=["a", "a b", ""] * 8, max_length=12, lowercase=True, mask_special=True)
@example(
    texts=["a b c d e"] * 20 + ["é", "a ||| b"], max_length=5, lowercase=True, mask_special=True
)
@example(texts=["a"] * 3 + ["é"] * 20, max_length=5, lowercase=True, mask_special=False)
def test_texts_are_encoded_together_as_alone(
    texts: List[str], max_length: int, lowercase: bool, mask_special: bool
) -> None:
    settings = TokenizerSettings(max_length, lowercase=lowercase, mask_special=mask_special)
    tokenizer = Tokenizer(VOCABULARY, settings)
    encoded = tokenizer.encode(texts, False)
    assert len(encoded) == len(texts)
    assert encoded.features.shape == (3, sum(encoded.lengths))
    for text, one in zip(texts, encoded):
        (alone,) = tokenizer.encode([text], False)
        np.testing.assert_array_equal(one.features, alone.features)
        assert one[1:] == alone[1:]


TOKENS = st.lists(st.sampled_from(["a", "##b", "A", "nowhere", "[SEP]", "[CLS]"]), max_size=12)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(st.tuples(TOKENS, st.one_of(st.none(), TOKENS)), min_size=1, max_size=6),
    max_length=st.integers(5, 20),
    mask_special=st.booleans(),
    no_special=st.booleans(),
    batch_rows=st.integers(1, 4),
)
def test_any_tokens(
    texts: List[Tuple[List[str], Optional[List[str]]]],
    max_length: int,
    mask_special: bool,
    no_special: bool,
    batch_rows: int,
) -> None:
    """Truncation, special tokens, masks and lengths; the rules are the same for strings."""
    flat = [first + ([] if second is None else ["|||"] + second) for first, second in texts]
    settings = TokenizerSettings(max_length, mask_special=mask_special, no_special=no_special)
    tokenizer = Tokenizer(VOCABULARY, settings)
    encoded = tokenizer.encode(flat, True)
    expected = [expected_sequence(list(one), True, settings, VOCABULARY) for one in flat]
    for one, other in zip(encoded, expected):
        assert_encoded(one, other, tokenizer, VOCABULARY, max_length)
        assert one.features.shape[1] <= max_length
    wanted = [(one.wanted_length, one.is_pair) for one in encoded]
    length = padded_length(wanted, batch_rows, max_length, fixed=False)
    assert length == expected_length(expected, batch_rows, max_length)
    assert all(one.features.shape[1] <= length for one in encoded)
    assert padded_length(wanted, batch_rows, max_length, fixed=True) == max_length


# --------------------------------------------------------------------------------- examples


def encode_one(text: Any, is_tokenized: bool = False, **settings: Any) -> List[str]:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(**{"max_length": 25, **settings}))
    (encoded,) = tokenizer.encode([text], is_tokenized)
    return tokenizer.tokens_of(encoded)


def test_a_typed_separator_is_no_separator() -> None:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(25))
    (encoded,) = tokenizer.encode(["a[SEP]b[CLS]"], False)
    ids = encoded.features[0].tolist()
    assert ids.count(VOCABULARY["[SEP]"]) == 1
    assert ids.count(VOCABULARY["[CLS]"]) == 1
    assert ids[-1] == VOCABULARY["[SEP]"]


def test_a_capital_sigma_at_the_end_of_a_word_is_a_final_one_as_in_python() -> None:
    assert encode_one("ΣΑΣ", final_sigma=True)[1:-1] == pieces_of("σας", VOCABULARY)
    assert encode_one("ΣΑΣ", final_sigma=False)[1:-1] == pieces_of("σασ", VOCABULARY)
    assert encode_one("ΣΑΣ", lowercase=False, final_sigma=True) == encode_one(
        "ΣΑΣ", lowercase=False, final_sigma=False
    )


def test_accents_and_case_can_be_kept_apart() -> None:
    assert encode_one("É", lowercase=True)[1:-1] == pieces_of("e", VOCABULARY)
    assert encode_one("É", lowercase=True, strip_accents=False)[1:-1] == pieces_of("é", VOCABULARY)
    assert encode_one("É", lowercase=False)[1:-1] == pieces_of("É", VOCABULARY)


def test_chinese_characters_are_words_unless_the_model_says_otherwise() -> None:
    vocabulary = dict(VOCABULARY)
    for token in ("中文", "中", "文", "##文"):
        vocabulary.setdefault(token, len(vocabulary))
    for split, tokens in ((True, ["中", "文"]), (False, ["中文"])):
        tokenizer = Tokenizer(vocabulary, TokenizerSettings(25, split_chinese=split))
        (encoded,) = tokenizer.encode(["中文"], False)
        assert tokenizer.tokens_of(encoded)[1:-1] == tokens


def test_words_up_to_a_hundred_characters_are_cut_into_pieces() -> None:
    assert MAX_WORD_CHARACTERS == 100
    limit = {"max_length": 300}
    assert "[UNK]" not in encode_one("b" * 100, **limit)
    assert encode_one("b" * 101, **limit) == ["[CLS]", "[UNK]", "[SEP]"]


def test_an_empty_text_has_only_special_tokens() -> None:
    for text in ("", "   ", "\u200b"):
        assert encode_one(text) == ["[CLS]", "[SEP]"]
    assert encode_one([], True) == ["[CLS]", "[SEP]"]
    assert encode_one([], True, no_special=True) == []


def test_no_special_is_for_tokenized_texts_only() -> None:
    assert encode_one("abc", no_special=True) == ["[CLS]", "abc", "[SEP]"]
    assert encode_one(["abc"], True, no_special=True) == ["abc"]
    assert encode_one(["abc", "|||", "ab"], True, no_special=True) == [
        *["[CLS]", "abc", "[SEP]"],
        *["ab", "[SEP]"],
    ]


def test_several_texts_at_once_are_those_one_by_one() -> None:
    tokenizer = TOKENIZERS[True]
    texts = ["abc ||| ab", "", "x y z", "a ||| b ||| c", "中文"]
    for text, one in zip(texts, tokenizer.encode(texts, False)):
        (alone,) = tokenizer.encode([text], False)
        np.testing.assert_array_equal(one.features, alone.features)


# --------------------------------------------------------------------------- what is too long

SIDES = st.sampled_from(["right", "left"])
MANY_TEXTS = st.lists(st.one_of(PLAIN_TEXTS, PLAIN_TEXTS, TEXTS), min_size=1, max_size=30)


@hypothesis_settings(max_examples=200, deadline=None)
@given(texts=MANY_TEXTS, max_length=st.integers(4, 12), side=SIDES)
@example(texts=["a b c d e"] * 20 + ["é", "a ||| b c d"], max_length=5, side="left")
@example(texts=["a"] * 9, max_length=4, side="left")
def test_what_stays_of_a_text_is_its_end_or_its_beginning(
    texts: List[str], max_length: int, side: str
) -> None:
    whole = Tokenizer(VOCABULARY, TokenizerSettings(10_000)).encode(texts, False)
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(max_length))
    encoded = tokenizer.encode(texts, False, truncate=side)
    assert encoded.lengths == [min(length, max_length) for length in whole.lengths]
    assert encoded.truncated == [n for n, length in enumerate(whole.lengths) if length > max_length]
    assert encoded.wanted == [min(wanted, max_length) for wanted in whole.wanted]
    assert encoded.pairs == whole.pairs
    for one, full in zip(encoded, whole):
        assert parts_are_kept(one.features, full.features, side)


def parts_are_kept(features: np.ndarray, full: np.ndarray, side: str) -> bool:
    """Whether of both texts the beginning or the end is there, between special tokens."""
    sep = VOCABULARY["[SEP]"]
    assert features[0, 0] == full[0, 0] == VOCABULARY["[CLS]"]
    assert features[0, -1] == full[0, -1] == sep
    for segment in (0, 1):
        short = features[0, 1:][features[1, 1:] == segment][:-1].tolist()
        long = full[0, 1:][full[1, 1:] == segment][:-1].tolist()
        if short != (long[len(long) - len(short) :] if side == "left" else long[: len(short)]):
            return False
    return True


@hypothesis_settings(max_examples=200, deadline=None)
@given(texts=MANY_TEXTS, max_length=st.integers(4, 40))
def test_the_first_text_that_must_not_be_cut_is_named(texts: List[str], max_length: int) -> None:
    whole = Tokenizer(VOCABULARY, TokenizerSettings(10_000)).encode(texts, False)
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(max_length))
    cut = tokenizer.encode(texts, False)
    if not cut.truncated:
        np.testing.assert_array_equal(
            tokenizer.encode(texts, False, truncate=False).features, cut.features
        )
        return
    with pytest.raises(TextTooLong) as raised:
        tokenizer.encode(texts, False, truncate=False)
    error = raised.value
    assert error.index == cut.truncated[0]
    assert error.length == whole.lengths[error.index]
    assert error.limit == max_length


@pytest.mark.parametrize(
    ("text", "no_special", "length"),
    [
        (["a"] * 9, False, 11),
        (["a"] * 9, True, 9),
        (["a"] * 4 + ["|||"] + ["a"] * 5, True, 12),
    ],
)
def test_tokenized_texts_are_too_long_by_their_special_tokens_too(
    text: List[str], no_special: bool, length: int
) -> None:
    fits, cuts = (
        Tokenizer(VOCABULARY, TokenizerSettings(limit, no_special=no_special))
        for limit in (length, length - 1)
    )
    texts = [["a", "b"], text]
    assert fits.encode(texts, True, truncate=False).lengths[1] == length
    with pytest.raises(TextTooLong) as raised:
        cuts.encode(texts, True, truncate=False)
    error = raised.value
    assert (error.index, error.length, error.limit) == (1, length, length - 1)
    assert cuts.encode(texts, True, truncate="left").lengths[1] == length - 1


def test_tokens_are_cut_on_the_left() -> None:
    def left(tokens: List[str], **settings: Any) -> List[str]:
        tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(**settings))
        (encoded,) = tokenizer.encode([tokens], True, truncate="left")
        return tokenizer.tokens_of(encoded)

    assert left(["a", "b", "c", "x"], max_length=5) == ["[CLS]", "b", "c", "x", "[SEP]"]
    assert left(["a", "b", "c", "x", "y"], max_length=4, no_special=True) == ["b", "c", "x", "y"]
    assert left(["a", "b", "c", "|||", "x", "y"], max_length=6) == [
        *["[CLS]", "b", "c", "[SEP]"],
        *["y", "[SEP]"],
    ]


# -------------------------------------------------------------------------------------- pairs

WHOLE_TEXTS = Tokenizer(VOCABULARY, TokenizerSettings(10_000, final_sigma=True))


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    pairs=st.lists(st.lists(TEXTS, min_size=2, max_size=2), min_size=1, max_size=12),
    max_length=st.integers(4, 30),
    side=SIDES,
)
def test_pairs_are_encoded_like_two_texts(
    pairs: List[List[str]], max_length: int, side: str
) -> None:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(max_length, final_sigma=True))
    encoded = tokenizer.encode(pairs, False, pairs=True, truncate=side)
    parts = [WHOLE_TEXTS.encode([[part, ""] for part in pair], False, pairs=True) for pair in pairs]
    tokens = [[WHOLE_TEXTS.tokens_of(one)[1:-1] for one in both] for both in parts]
    joined = [first + (["|||"] + second if second else []) for first, second in tokens]
    expected = tokenizer.encode(joined, True, truncate=side)
    assert encoded.features.tolist() == expected.features.tolist()
    assert (encoded.lengths, encoded.truncated) == (expected.lengths, expected.truncated)
    assert (encoded.wanted, encoded.pairs) == (expected.wanted, expected.pairs)


PIECES_OF_PAIRS = [
    " ||| ",
    "|||",
    " |||",
    "||| ",
    "a",
    "b ",
    " ",
    "\n",
    "\r",
    "\x0b",
    "\x85",
    "\u2028",
]


@hypothesis_settings(max_examples=1000, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES_OF_PAIRS), max_size=10).map("".join))
@example(text=" ||| ||| a")
@example(text="\na ||| b\u2028c\n")
def test_what_is_a_pair_is_decided_as_by_the_expression_of_1_10(text: str) -> None:
    match = re.match(r"^(.*) \|\|\| (.*)$", text.strip())
    assert _split_pair(text) == (match.groups() if match else (text, None))


def test_many_separators_take_no_longer_than_other_text() -> None:
    """By the expression it would be hours."""
    text = " ||| " * 400_000 + "\nx"
    assert _split_pair(text) == (text, None)
    assert _split_pair(text[:-2] + "x") == (text[:-7].lstrip(), "x")


def encode_pair(first: str, second: str, **options: Any) -> List[str]:
    tokenizer = Tokenizer(VOCABULARY, TokenizerSettings(25))
    (encoded,) = tokenizer.encode([[first, second]], False, pairs=True, **options)
    assert encoded.is_pair == encoded.features[1].any()
    return tokenizer.tokens_of(encoded)


def test_pairs() -> None:
    assert encode_pair("abc", "ab") == ["[CLS]", "abc", "[SEP]", "ab", "[SEP]"]
    assert encode_pair(" abc\n", " x\ny ") == ["[CLS]", "abc", "[SEP]", "x", "y", "[SEP]"]
    assert encode_pair("", "ab") == ["[CLS]", "[SEP]", "ab", "[SEP]"]


@pytest.mark.parametrize("nothing", ["", "  ", "\n", "\u200b"])
def test_a_pair_without_a_second_text_is_a_single_one(nothing: str) -> None:
    assert encode_pair("abc", nothing) == ["[CLS]", "abc", "[SEP]"]
    assert encode_pair(nothing, nothing) == ["[CLS]", "[SEP]"]


def test_a_separator_in_the_text_of_a_pair_is_text() -> None:
    bars = tokens_of("|||", True, VOCABULARY)
    assert encode_pair("a ||| b", "c") == [
        *["[CLS]", *encode_one("a")[1:-1], *bars, *encode_one("b")[1:-1], "[SEP]"],
        *[*encode_one("c")[1:-1], "[SEP]"],
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"pairs": True}, "pairs can't be lists of tokens"), ({"offsets": True}, "have no offsets")],
)
def test_what_tokenized_texts_can_not_have(options: Dict[str, bool], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TOKENIZERS[True].encode([["a", "b"]], True, **options)


# ------------------------------------------------------------------------------ padded length


@pytest.mark.parametrize(
    ("rows", "batch_rows", "length"),
    [
        ([(5, False)], 256, 7),
        ([(5, False), (4, True)], 256, 8),
        ([(5, False), (4, True)], 1, 7),
        ([(0, False)], 256, 2),
        ([(100, False), (1, True)], 256, 30),
        ([(27, False), (1, False)], 256, 29),
    ],
)
def test_padded_length(rows: List[Tuple[int, bool]], batch_rows: int, length: int) -> None:
    assert padded_length(rows, batch_rows, 30, fixed=False) == length


# ------------------------------------------------------------------------------- vocabulary


def write_vocabulary(directory: Path, content: bytes) -> Path:
    path = directory / "vocab.txt"
    path.write_bytes(content)
    return path


def test_a_token_has_the_number_of_its_line(tmp_path: Path) -> None:
    path = write_vocabulary(
        tmp_path, "[UNK]\r\n[CLS]\n[SEP]\n  a \n\u2028b\nc\x85d\n".encode("utf-8")
    )
    vocabulary = read_vocabulary(path)
    assert vocabulary["[UNK]"] == 0
    assert vocabulary["a"] == 3
    assert vocabulary["b"] == 4
    assert vocabulary["c\x85d"] == 5
    assert len(vocabulary) == 6


def test_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    assert read_vocabulary(write_vocabulary(tmp_path, b"[UNK]\n[CLS]\n[SEP]"))["[SEP]"] == 2


def test_of_a_token_that_comes_twice_the_last_counts(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path, b"[UNK]\n[CLS]\n[SEP]\na\n[UNK]\n")
    assert read_vocabulary(path)["[UNK]"] == 4


def test_a_vocabulary_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"can't read the vocabulary .*vocab\.txt: No such file"):
        read_vocabulary(tmp_path / "vocab.txt")


def test_a_vocabulary_that_is_no_text(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path, b"[UNK]\n\xff\xfe\n")
    with pytest.raises(StartupError, match=r"vocab\.txt is not UTF-8 text \(byte 6\)"):
        read_vocabulary(path)


@pytest.mark.parametrize("content", [b"", b"the\nof\n[UNK]\n[MASK]\n"])
def test_a_vocabulary_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = write_vocabulary(tmp_path, content)
    with pytest.raises(StartupError, match=r"lacks .*\[CLS\], \[SEP\]"):
        read_vocabulary(path)
