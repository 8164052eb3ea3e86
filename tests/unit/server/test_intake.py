from __future__ import annotations

import json
import select
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import pytest

from bert_serving.client.options import Options
from bert_serving.client.protocol import ErrorKind, Request
from bert_serving.server.engines.echo import vocabulary
from bert_serving.server.intake import (
    CHUNK_ROWS,
    CHUNKS_AHEAD,
    INLINE_BYTES,
    INLINE_ROWS,
    Accepted,
    Chunk,
    Intake,
    InvalidText,
)
from bert_serving.server.tokenization import Tokenizer, TokenizerSettings

WAIT_SECONDS = 30.0
ACCEPTED_AT, TOKENIZED_AT = 100.0, 101.5
MODEL = b"0123456789abcdef"


@pytest.fixture
def intakes() -> Iterator[Any]:
    """Makes intakes, and sees to it that none leaves a thread behind."""
    made: List[Intake] = []

    def make(**settings: Any) -> Intake:
        tokenizer = Tokenizer(vocabulary(), TokenizerSettings(**{"max_length": 25, **settings}))
        made.append(Intake(tokenizer))
        return made[-1]

    threads = set(threading.enumerate())
    yield make
    for intake in made:
        intake.close()
    assert set(threading.enumerate()) == threads


def accept(
    texts: Sequence[Any],
    is_tokenized: bool = False,
    handle: int = 1,
    per_token: bool = True,
    with_tokens: bool = False,
    options: Optional[Options] = None,
    payload: bytes = b"",
) -> Accepted:
    request = Request(b"client", payload, 9, len(texts), options)
    return Accepted(
        handle, request, texts, is_tokenized, None, per_token, with_tokens, ACCEPTED_AT, MODEL
    )


def chunks_of(intake: Intake) -> List[Chunk]:
    ready, _, _ = select.select([intake.wake_up_fd], [], [], WAIT_SECONDS)
    assert ready, "no chunk was finished in time"
    return intake.take()


def rows_of(intake: Intake, accepted: Accepted) -> List[Tuple[int, int, np.ndarray]]:
    """All rows, as the ventilator gets them."""
    rows = []
    chunk = intake.start(accepted)
    pending = [] if chunk is None else [chunk]
    while not accepted.is_complete:
        for one in pending:
            assert one.error is None
            rows += accepted.add(one)
            intake.submit_next(accepted)
        pending = [] if accepted.is_complete else chunks_of(intake)
    return [(row.request, row.index, row.features) for row in rows]


def some_texts(count: int) -> List[str]:
    return ["text %d %s" % (i, "abc " * (i % 9)) for i in range(count)]


@pytest.mark.parametrize("count", [1, INLINE_ROWS])
def test_a_small_request_is_tokenized_at_once(intakes: Any, count: int) -> None:
    accepted = accept(some_texts(count))
    chunk = intakes().start(accepted)
    assert chunk is not None
    assert (chunk.handle, chunk.start, len(chunk.encoded)) == (1, 0, count)
    accepted.add(chunk)
    assert accepted.is_complete


@pytest.mark.parametrize("count", [1, INLINE_ROWS])
def test_few_texts_that_are_long_are_tokenized_on_a_thread(intakes: Any, count: int) -> None:
    """Whoever calls must not be kept for long: it would count as hung."""
    intake = intakes()
    texts = ["abc " * (INLINE_BYTES // count // 4)] * count
    payload = json.dumps(texts).encode("ascii")
    accepted = accept(texts, payload=payload)
    assert intake.start(accepted) is None
    (chunk,) = chunks_of(intake)
    accepted.add(chunk)
    assert accepted.is_complete
    assert intake.start(accept(texts, payload=payload[:INLINE_BYTES])) is not None


@pytest.mark.parametrize(
    "count", [INLINE_ROWS + 1, CHUNK_ROWS, CHUNK_ROWS + 1, CHUNK_ROWS * CHUNKS_AHEAD * 2 + 7]
)
def test_a_large_request_gives_the_same_rows_in_chunks(intakes: Any, count: int) -> None:
    texts = some_texts(count)
    intake = intakes()
    accepted = accept(texts, handle=5)
    rows = sorted(rows_of(intake, accepted), key=lambda row: row[1])
    assert [(handle, index) for handle, index, _ in rows] == [(5, i) for i in range(count)]
    alone = [
        row
        for start in range(0, count, INLINE_ROWS)
        for row in rows_of(intake, accept(texts[start : start + INLINE_ROWS]))
    ]
    for (_, _, features), (_, _, expected) in zip(rows, alone):
        np.testing.assert_array_equal(features, expected)


def test_only_a_few_chunks_are_in_the_pool_at_a_time(intakes: Any) -> None:
    intake = intakes()
    accepted = accept(["a"] * (CHUNK_ROWS * 5))
    assert intake.start(accepted) is None
    assert accepted.submitted == CHUNK_ROWS * CHUNKS_AHEAD
    intake.submit_next(accepted)
    assert accepted.submitted == CHUNK_ROWS * (CHUNKS_AHEAD + 1)


@pytest.mark.parametrize("count", [3, INLINE_ROWS * 3])
def test_what_the_sink_is_told(intakes: Any, count: int) -> None:
    texts = ["ab ||| c"] + ["abc"] * (count - 1)
    accepted = accept(texts, with_tokens=True)
    rows_of(intakes(), accepted)
    registered = accepted.registered(batch_rows=256, max_length=25, fixed=False, now=TOKENIZED_AT)
    assert (registered.handle, registered.client, registered.request_id) == (1, b"client", 9)
    assert (registered.rows, registered.padded_length) == (count, 6)
    assert registered.tokens is not None
    tokens = json.loads(registered.tokens)
    assert len(tokens) == count
    assert tokens[0] == ["[CLS]", "a", "##b", "[SEP]", "c", "[SEP]"]
    assert tokens[-1] == ["[CLS]", "a", "##b", "##c", "[SEP]"]


def test_clients_get_no_tokens_unless_they_may(intakes: Any) -> None:
    accepted = accept(["abc"])
    rows_of(intakes(), accepted)
    registered = accepted.registered(256, 25, True, TOKENIZED_AT)
    assert registered.tokens is None
    assert registered.padded_length == 25
    assert registered.plan is None


def test_only_results_with_a_vector_a_token_have_a_length(intakes: Any) -> None:
    accepted = accept(["abc"] * 3, per_token=False)
    rows_of(intakes(), accepted)
    assert accepted.registered(256, 25, False, TOKENIZED_AT).padded_length == 0


@pytest.mark.parametrize("count", [3, CHUNK_ROWS + 3])
def test_what_the_sink_is_told_in_protocol_2(intakes: Any, count: int) -> None:
    texts = ["abc"] * (count - 1) + ["a" * 30]
    options = Options(stream=True, dtype="float16", offsets=True)
    accepted = accept(texts, options=options)
    rows_of(intakes(max_length=6), accepted)
    registered = accepted.registered(256, 6, False, TOKENIZED_AT)
    plan = registered.plan
    assert plan is not None
    assert (plan.stream, plan.half) == (True, True)
    assert plan.num_tokens == (count - 1) * 5 + 6
    assert plan.truncated == (count - 1,)
    assert (plan.accepted, plan.tokenized) == (ACCEPTED_AT, TOKENIZED_AT)
    assert plan.model == MODEL
    assert registered.tokens is None
    assert registered.offsets is not None
    offsets = json.loads(registered.offsets)
    assert len(offsets) == count
    assert offsets[0] == [[0, 0], [0, 1], [1, 2], [2, 3], [0, 0]]


@pytest.mark.parametrize("per_token", [False, True])
def test_rows_of_a_stream_of_token_vectors_come_at_the_end(intakes: Any, per_token: bool) -> None:
    accepted = accept(["abc"] * (CHUNK_ROWS + 3), per_token=per_token, options=Options(stream=True))
    intake = intakes()
    intake.start(accepted)
    counts: List[int] = []
    while not accepted.is_complete:
        counts += [len(accepted.add(chunk)) for chunk in chunks_of(intake)]
    assert sum(counts) == CHUNK_ROWS + 3
    assert (counts[0] == 0) == per_token
    assert len(accepted.texts) == 0, "they aren't needed any more"


def test_texts_are_cut_from_the_left_if_that_is_asked_for(intakes: Any) -> None:
    accepted = accept(["abcdefgh"], with_tokens=True, options=Options(truncate="left"))
    rows_of(intakes(max_length=5), accepted)
    registered = accepted.registered(256, 5, False, TOKENIZED_AT)
    assert json.loads(registered.tokens or b"") == [["[CLS]", "##f", "##g", "##h", "[SEP]"]]


def test_pairs(intakes: Any) -> None:
    accepted = accept([["a ||| b", "c"]], with_tokens=True, options=Options(pairs=True))
    rows_of(intakes(), accepted)
    registered = accepted.registered(256, 25, False, TOKENIZED_AT)
    tokens = ["[CLS]", "a", "|", "|", "|", "b", "[SEP]", "c", "[SEP]"]
    assert json.loads(registered.tokens or b"") == [tokens]


@pytest.mark.parametrize("count", [2, CHUNK_ROWS + 2])
def test_a_text_that_is_too_long_is_named_if_it_must_not_be_cut(intakes: Any, count: int) -> None:
    texts = ["abc"] * (count - 1) + ["abcd"]
    intake = intakes(max_length=5)
    accepted = accept(texts, options=Options(truncate=False))
    chunk = intake.start(accepted)
    errors = [chunk.error] if chunk else []
    while not any(errors):  # a later chunk may be finished before an earlier one
        errors += [chunk.error for chunk in chunks_of(intake)]
    (error,) = filter(None, errors)
    assert isinstance(error, InvalidText)
    assert error.kind == ErrorKind.TOO_LONG
    message = "text %d has 6 tokens, special ones included, but the server takes at most 5"
    assert message % (count - 1) in str(error)


@pytest.mark.parametrize("count", [2, INLINE_ROWS * 3])
def test_a_text_without_tokens_is_named(intakes: Any, count: int) -> None:
    """It can't be computed; with special tokens around them, all texts can."""
    texts = [["a"]] * (count - 1) + [[]]
    intake = intakes(no_special=True)
    chunk = intake.start(accept(texts, is_tokenized=True))
    if chunk is None:
        (chunk,) = chunks_of(intake)
    assert isinstance(chunk.error, InvalidText)
    assert "text %d has no tokens" % (count - 1) in str(chunk.error)
    (row,) = rows_of(intakes(), accept([[]], is_tokenized=True))
    assert row[2].shape == (3, 2)


@pytest.mark.parametrize("count", [1, INLINE_ROWS + 1])
def test_a_bug_in_a_thread_is_not_lost(intakes: Any, count: int) -> None:
    intake = intakes()
    chunk = intake.start(accept([None] * count))
    if chunk is None:
        (chunk,) = chunks_of(intake)
    assert isinstance(chunk.error, Exception)
    assert chunk.handle == 1


def open_files() -> Dict[str, str]:
    folder = Path("/proc/self/fd")
    return {path.name: path.resolve().name for path in folder.iterdir()}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts files by /proc")
def test_closing_finishes_what_was_begun_and_frees_everything() -> None:
    files = len(open_files())
    threads = set(threading.enumerate())
    intake = Intake(Tokenizer(vocabulary(), TokenizerSettings(25)))
    intake.start(accept(["abc"] * CHUNK_ROWS * 2))
    intake.close()
    assert set(threading.enumerate()) == threads
    assert len(open_files()) == files
