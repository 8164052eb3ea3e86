from __future__ import annotations

import json
import sys
import unicodedata
from dataclasses import replace
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.server.test_spec import SPEC

from bert_serving.client.frames import encode_texts
from bert_serving.client.options import Options
from bert_serving.client.protocol import Request
from bert_serving.server.pooling import Pooling
from bert_serving.server.sizes import (
    REQUEST_BYTES,
    SPECIAL_TOKENS,
    longest_text,
    reply_bytes,
    size_of,
)
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings

PLAIN = replace(SPEC, fixed_length=False, tokenizer=TokenizerSettings(100))


def request(payload: bytes, rows: int = 1, **asked: Any) -> Request:
    return Request(b"me", payload, 1, rows, Options(**asked) if asked else None)


def memory_of(value: Any) -> int:
    """What Python's objects take, each counted once for each time that it is there."""
    size = sys.getsizeof(value) + 16  # of the garbage collector
    if isinstance(value, list):
        return size + sum(map(memory_of, value))
    if isinstance(value, dict):
        return size + sum(memory_of(one) for pair in value.items() for one in pair)
    return size


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=100,
    )
)
def test_whatever_is_parsed_takes_no_more_than_it_was_taken_for(value: Any) -> None:
    payload = json.dumps(value, separators=(",", ":")).encode("ascii")
    assert memory_of(value) <= 4 * size_of(request(payload)).memory


@pytest.mark.parametrize("row", ["[]", "{}", '""', "1e1", '["ab"]'])
def test_many_small_values_count_for_what_they_are(row: str) -> None:
    payload = ("[%s]" % ",".join([row] * 100_000)).encode("ascii")
    assert memory_of(json.loads(payload)) <= 1.1 * size_of(request(payload, 100_000)).memory


def test_more_rows_than_there_can_be_are_not_believed() -> None:
    assert size_of(request(b'["a","b"]', rows=10**19)).rows == 4
    assert size_of(request(b'["a","b"]', rows=2)).rows == 2


def test_a_small_request_is_not_for_free() -> None:
    assert size_of(request(b'["a"]')).memory > REQUEST_BYTES


def test_a_vector_for_each_text() -> None:
    one = request(b"", 10)
    assert reply_bytes(PLAIN, one, None, False, False, 0) == 10 * 768 * 4


def test_half_precision_is_made_from_the_whole_one() -> None:
    one = request(b"", 10, dtype="float16")
    assert reply_bytes(PLAIN, one, None, False, False, 0) == 10 * 768 * 6


@pytest.mark.parametrize(("length", "counts"), [(20, 20), (500, 100)])
def test_a_vector_for_each_token(length: int, counts: int) -> None:
    one = request(b"", 10)
    assert reply_bytes(PLAIN, one, None, True, False, length) == 10 * 768 * 4 * counts
    fixed = replace(PLAIN, fixed_length=True)
    assert reply_bytes(fixed, one, None, True, False, length) == 10 * 768 * 4 * 100


def test_of_a_stream_one_part_counts() -> None:
    one = request(b"", 10_000, stream=True)
    assert reply_bytes(PLAIN, one, None, False, False, 0) == 256 * 768 * 4


def test_another_pooling_may_be_wider() -> None:
    spec = replace(PLAIN, engine=replace(PLAIN.engine, hidden_size=100))
    pooling = Pooling("REDUCE_MEAN_MAX", (1, 2), False)
    assert reply_bytes(spec, request(b"", 1), pooling, False, False, 0) == 100 * 2 * 2 * 4


def test_tokens_and_offsets_count() -> None:
    plain = reply_bytes(PLAIN, request(b"", 10), None, False, False, 50)
    with_tokens = reply_bytes(PLAIN, request(b"", 10), None, False, True, 50)
    both = reply_bytes(PLAIN, request(b"", 10, offsets=True), None, False, True, 50)
    assert plain < with_tokens < both


@pytest.mark.parametrize(
    ("texts", "is_tokenized", "most"),
    [
        (["abc", "a"], False, 3),
        (["a b c", "\u00e9\u00e9"], False, 4),
        ([["ab", "c"], ["d", "e"]], False, 3),
        ([["ab", "c", "d"], []], True, 3),
    ],
)
def test_the_longest_text(texts: List[Any], is_tokenized: bool, most: int) -> None:
    assert longest_text(texts, is_tokenized) == most + SPECIAL_TOKENS


def pieces_of_characters(text: str) -> Dict[str, int]:
    """A vocabulary with which each character that remains of a text is a token of its own."""
    folded = "".join({unicodedata.normalize(form, text.lower()) for form in ("NFC", "NFD")})
    characters = sorted({*text, *text.lower(), *folded})
    pieces = [mark + character for mark in ("", "##") for character in characters]
    tokens = dict.fromkeys(["[UNK]", "[CLS]", "[SEP]"] + pieces)
    return {token: number for number, token in enumerate(tokens)}


def tokenizer(text: str, lowercase: bool = True, strip: Optional[bool] = None) -> Tokenizer:
    how = TokenizerSettings(10**6, lowercase, strip, final_sigma=True)
    return Tokenizer(pieces_of_characters(text), how)


def test_no_character_comes_apart_into_more_tokens_than_it_has_bytes() -> None:
    characters = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if len(unicodedata.normalize("NFD", character)) > 1 or len(character.lower()) > 1
    ]
    assert len(characters) > 12_000
    found = tokenizer("".join(characters)).encode(characters, False).lengths
    assert max(found) == 5, "as Hangul does, with [CLS] and [SEP]"
    for character, length in zip(characters, found):
        assert length <= longest_text([character], False)


@settings(max_examples=50)
@given(st.text(min_size=1), st.booleans(), st.sampled_from([None, False, True]))
def test_no_text_has_more_tokens_than_its_longest(
    text: str, lowercase: bool, strip: Optional[bool]
) -> None:
    one = tokenizer(text, lowercase, strip)
    assert one.encode([text], False).lengths[0] <= longest_text([text], False)
    pair = [text, text]
    assert one.encode([pair], False, pairs=True).lengths[0] <= longest_text([pair], False)


def test_a_usual_text_counts_for_little_more_than_its_bytes() -> None:
    texts = ["It was the best of times, it was the worst of times."] * 1000
    payload = encode_texts(texts)
    assert size_of(request(payload, 1000)).memory < 12 * len(payload)
