from __future__ import annotations

import json
from typing import Any, List

import numpy as np
import pytest

from bert_serving.server.batch_messages import BatchMessage, Broken, Done, Part, Ready
from bert_serving.server.messages import decode
from bert_serving.server.pooling import Pooling
from bert_serving.server.request_messages import (
    Announced,
    Dropped,
    Gone,
    Info,
    Registered,
    RequestFailed,
    RowLost,
    Waiting,
)

#: No encoding's text, and as long as an identity may be.
CLIENT = bytes(range(1, 255))


def over_the_wire(message: Any) -> Any:
    return decode([bytes(frame) for frame in message.frames()])


@pytest.mark.parametrize(
    "message",
    [
        Ready(2),
        Done(((2**40, "worker-0.0"), (3, "worker-12.345"))),
        RowLost(2**40, 17, "text 17 can't be computed"),
        Broken("worker-0.0", 7, 'EngineError: "quoted", ünïcode, \ud800 and\nlines'),
        Broken("worker-1.0", 8, "out of memory", True),
        Registered(2**40, CLIENT, 10**20 - 1, 5, 25),
        Registered(1, CLIENT, 0, 1, 25, b'[["[CLS]", "\\u00fc", "[SEP]"]]'),
        RequestFailed(3, CLIENT, 2**64 - 1, "deadline", "zu spät"),
        RequestFailed(None, CLIENT, 4, "bad_request", "", 1.5, True),
        Announced(2**40, CLIENT, 2**64),
        Waiting(CLIENT, 2**64, True),
        Dropped(12),
        Info(CLIENT, 9, b'{"port": 5555}'),
        Gone(CLIENT),
    ],
    ids=lambda message: type(message).__name__,
)
def test_round_trip(message: Any) -> None:
    assert over_the_wire(message) == message


def assert_equal_arrays(actual: List[np.ndarray], expected: List[np.ndarray]) -> None:
    for a, e in zip(actual, expected):
        assert a.dtype == e.dtype
        assert a.shape == e.shape
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("lengths", [[4], [1, 3, 2], [0], []])
def test_round_trip_of_a_batch(lengths: List[int]) -> None:
    tokens = sum(lengths)
    message = BatchMessage(
        2**50,
        np.arange(len(lengths), dtype=np.int64) + 2**40,
        np.arange(len(lengths), dtype=np.int32),
        np.array(lengths, np.int32),
        np.arange(3 * tokens, dtype=np.int32).reshape(3, tokens),
    )
    assert len(message.frames()) == 2, "nothing is sent of poolings that nobody asked for"
    again = over_the_wire(message)
    assert (again.batch_id, again.alone, again.poolings) == (message.batch_id, True, {})
    assert_equal_arrays(
        [again.handles, again.indices, again.lengths, again.features],
        [message.handles, message.indices, message.lengths, message.features],
    )


def test_poolings_travel_with_their_batch() -> None:
    one, tokens = np.zeros(1, np.int32), np.zeros((3, 1), np.int32)
    poolings = {
        2**40: Pooling("REDUCE_MEAN", (11, 0, 11), True),
        3: Pooling("CLS_POOLED", (), False),
    }
    message = BatchMessage(1, one.astype(np.int64), one, one + 1, tokens, False, poolings)
    again = over_the_wire(message)
    assert again.poolings == poolings
    assert again.alone is False


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(("shape", "per_token"), [((2, 5), False), ((7, 3), True), ((0, 4), False)])
def test_round_trip_of_a_part(dtype: str, shape: Any, per_token: bool) -> None:
    rows = min(shape[0], 2)
    message = Part(
        np.arange(rows, dtype=np.int64),
        np.arange(rows, dtype=np.int32),
        np.arange(rows, dtype=np.int32) + 3,
        np.arange(shape[0] * shape[1], dtype=dtype).reshape(shape),
        per_token,
        12345.678,
    )
    again = over_the_wire(message)
    assert (again.per_token, again.began) == (per_token, 12345.678)
    assert_equal_arrays(
        [again.handles, again.indices, again.lengths, again.vectors],
        [message.handles, message.indices, message.lengths, message.vectors],
    )


def test_arrays_that_are_not_contiguous_are_sent_in_order() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4).T
    one = np.ones(4, np.int32)
    again = over_the_wire(Part(one.astype(np.int64), one, one, vectors, False))
    np.testing.assert_array_equal(again.vectors, vectors)


def test_vectors_are_neither_copied_to_send_nor_to_read() -> None:
    vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
    one = np.ones(2, np.int32)
    frames = Part(one.astype(np.int64), one, one, vectors, False).frames()
    again = decode(frames)
    assert isinstance(again, Part)
    assert np.shares_memory(again.vectors, vectors)


def test_what_describes_a_rare_message_is_plain_json() -> None:
    for message in (Ready(1), Dropped(1), RequestFailed(1, b"c", 2, "k", "m")):
        assert isinstance(json.loads(message.frames()[0][1:]), dict)


def test_an_unknown_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="gossip"):
        decode([b"?gossip"])
