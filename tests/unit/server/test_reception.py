from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Sequence

import pytest
from unit.server.support import echo_spec

from bert_serving.client.frames import encode_texts
from bert_serving.client.options import NO_OPTIONS, Options
from bert_serving.client.protocol import ErrorKind, Request
from bert_serving.server.engines.echo import vocabulary
from bert_serving.server.intake import Accepted, Chunk
from bert_serving.server.open_requests import OpenRequests, Refusal
from bert_serving.server.reception import Reception
from bert_serving.server.request_messages import Registered
from bert_serving.server.sizes import OFFSETS_BYTES, Size
from bert_serving.server.stats import Statistics
from bert_serving.server.tokenization import Tokenizer

#: Bytes of a vector of the echo engine's.
VECTOR = 768 * 4
#: Ten words' pieces, and two special tokens; before it is tokenized, it could have 23.
TEXT, TOKENS, AT_MOST = "\u00e9" * 10, 12, 23


class Desk:
    """A reception whose requests are tokenized as far as a test says, without pooling."""

    def __init__(self, most: int, share: float = 1.0, is_fixed: bool = False) -> None:
        statistics = Statistics(0.0)
        spec = echo_spec()
        tokenizer = replace(spec.tokenizer, max_length=100)
        self.spec = replace(spec, fixed_length=is_fixed, tokenizer=tokenizer)
        self.requests = OpenRequests(statistics, Size(0, 0, most), share)
        self._reception = Reception(self.spec, statistics, self.requests)
        self._tokenizer = Tokenizer(vocabulary(), self.spec.tokenizer)
        self._number = 0

    def take(self, texts: Sequence[str], **asked: Any) -> Accepted:
        self._number += 1
        options = Options(**(asked or {"pooling_strategy": "NONE"}))
        request = Request(b"me", encode_texts(texts), self._number, len(texts), options)
        accepted = self._reception.take(request, 1.0)
        assert accepted is not None
        return accepted

    def tokenize(self, one: Accepted, start: int, stop: int) -> Optional[Registered]:
        """Some of its texts."""
        texts = one.texts[start:stop]
        encoded = self._tokenizer.encode(texts, False, offsets=one.options.offsets)
        one.add(Chunk(one.handle, start, encoded))
        return self._reception.settle(one, self.spec, 2.0)

    @property
    def vectors(self) -> float:
        """How many its bounds count."""
        return self.requests.taken.reply / VECTOR


def test_what_fits_is_taken_whatever_its_texts_could_have_been() -> None:
    desk = Desk(most=100 * TOKENS * VECTOR)
    one = desk.take(["b"] * 20 + [TEXT] * 80)
    assert desk.vectors == 100, "a token each, at least"
    assert desk.tokenize(one, 0, 20) is None
    assert desk.vectors == 100 * 3
    assert desk.tokenize(one, 20, 30) is None
    assert desk.vectors == 100 * TOKENS
    registered = desk.tokenize(one, 30, 100)
    assert registered is not None
    assert registered.padded_length == TOKENS
    assert desk.vectors == 100 * TOKENS


def test_what_turns_out_to_fit_never_is_refused_as_soon_as_it_is_known() -> None:
    desk = Desk(most=2 * 100 * TOKENS * VECTOR - 2, share=0.5)
    one = desk.take(["b"] * 50 + [TEXT] * 50)
    desk.tokenize(one, 0, 50)
    with pytest.raises(Refusal, match="-max_reply_mb") as caught:
        desk.tokenize(one, 50, 60)
    assert caught.value.kind == ErrorKind.BAD_REQUEST
    assert desk.vectors == 100 * 3, "no more than there is"
    desk.requests.pop(one.handle)
    one = desk.take([TEXT] * 100)
    with pytest.raises(Refusal) as caught:
        desk.tokenize(one, 0, 100)
    assert caught.value.kind == ErrorKind.BAD_REQUEST


def test_the_first_one_to_be_tokenized_has_the_place() -> None:
    desk = Desk(most=150 * TOKENS * VECTOR)
    first, second = (desk.take([TEXT] * 100) for _ in range(2))
    desk.tokenize(second, 0, 10)
    with pytest.raises(Refusal, match="overloaded") as caught:
        desk.tokenize(first, 0, 10)
    assert caught.value.kind == ErrorKind.OVERLOADED
    desk.requests.pop(first.handle)
    assert desk.tokenize(second, 10, 100) is not None


def test_where_there_is_place_for_the_most_nothing_is_refused_later() -> None:
    desk = Desk(most=150 * AT_MOST * VECTOR)
    one = desk.take([TEXT] * 100)
    assert desk.vectors == 100 * AT_MOST
    other = desk.take([TEXT] * 100)
    assert desk.vectors == 100 * AT_MOST + 100
    with pytest.raises(Refusal, match="overloaded"):
        desk.take([TEXT] * (50 * AT_MOST))
    assert desk.tokenize(one, 0, 100) is not None
    assert desk.tokenize(other, 0, 100) is not None
    assert desk.vectors == 200 * TOKENS


def test_a_request_that_is_too_large_in_any_case_is_refused_at_once() -> None:
    with pytest.raises(Refusal) as caught:
        Desk(most=10 * VECTOR).take(["b"] * 11)
    assert caught.value.kind == ErrorKind.BAD_REQUEST


def test_with_a_fixed_length_each_text_has_as_many_vectors() -> None:
    desk = Desk(most=10 * (100 * VECTOR + TOKENS * OFFSETS_BYTES), is_fixed=True)
    assert desk.tokenize(desk.take([TEXT] * 5), 0, 5) is not None
    assert desk.vectors == 5 * 100
    desk.requests.pop(1)
    one = desk.take([TEXT] * 10, pooling_strategy="NONE", offsets=True)
    assert desk.tokenize(one, 0, 10) is not None
    with pytest.raises(Refusal):
        Desk(most=9 * 100 * VECTOR, is_fixed=True).take([TEXT] * 10)


@pytest.mark.parametrize("is_fixed", [False, True])
def test_offsets_count_as_they_are_known_in_small_requests_too(is_fixed: bool) -> None:
    exact = 10 * (VECTOR + TOKENS * OFFSETS_BYTES)
    desk = Desk(most=exact, is_fixed=is_fixed)
    assert desk.tokenize(desk.take([TEXT] * 10, offsets=True), 0, 10) is not None
    assert desk.requests.taken.reply == exact
    desk = Desk(most=exact - 1, is_fixed=is_fixed)
    one = desk.take([TEXT] * 10, offsets=True)
    with pytest.raises(Refusal):
        desk.tokenize(one, 0, 10)


def test_a_request_keeps_the_model_that_was_served_when_it_came() -> None:
    statistics = Statistics(0.0)
    old = echo_spec()
    new = replace(old, model_fingerprint="f" * 16, generation=2)
    reception = Reception(old, statistics, OpenRequests(statistics, Size(0, 0)))
    requests = [Request(b"me", encode_texts(["a"]), number, 1, NO_OPTIONS) for number in (1, 2)]
    first = reception.take(requests[0], 1.0)
    reception.spec = new
    second = reception.take(requests[1], 2.0)
    for accepted, spec in ((first, old), (second, new)):
        assert accepted is not None
        plan = accepted.registered(256, 25, False, 3.0).plan
        assert plan is not None
        assert plan.model.decode("ascii") == spec.model_fingerprint
