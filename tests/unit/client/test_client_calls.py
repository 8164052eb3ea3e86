from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bert_serving.client import NotSupported, ProtocolError
from bert_serving.client.arguments import Arguments
from bert_serving.client.calls import Call, as_seconds, call_of, command, seconds_of, shortened
from bert_serving.client.facts import ServerFacts, facts_of, protocol_of
from bert_serving.client.options import MAX_TIMEOUT, Options
from bert_serving.client.protocol import VectorsReply
from bert_serving.client.requests import Taken
from bert_serving.client.responses import response_of, unit_length

OURS = ServerFacts(2, 25)
OLD = ServerFacts(1, 25, ("REDUCE_MEAN",), (-2,))


# ------------------------------------------------------------------------------------ calls


def test_our_server_does_it_all() -> None:
    arguments = Arguments(["a"], normalize=True, dtype="float16", show_tokens=True, details=True)
    call = call_of(arguments, OURS, 2.5)
    assert call == Call(
        b'["a"]',
        1,
        Options(timeout=2.5, normalize=True, dtype="float16", tokens=True),
        2.5,
        shows_tokens=True,
        details=True,
        dtype="float16",
    )


def test_the_client_does_what_1_10_does_not() -> None:
    call = call_of(Arguments(["a"], normalize=True, dtype="float16"), OLD, None)
    assert (call.options, call.seconds) == (None, None)
    assert (call.unit_length, call.dtype) == (True, "float16")
    call = call_of(Arguments(pairs=[("a", "b")], stream=True), OLD)
    assert json.loads(call.payload) == ["a ||| b"]
    assert call.is_stream


def test_a_server_that_nothing_is_known_of() -> None:
    arguments = Arguments(["a"], timeout=5)
    assert not arguments.needs_facts
    assert call_of(arguments, None) == Call(b'["a"]', 1, None, 5)


@pytest.mark.parametrize(
    "options",
    [
        {"details": True},
        {"show_tokens": True},
        {"show_offsets": True},
        {"normalize": False},
        {"truncate": False},
        {"truncate": "left"},
        {"dtype": "float16"},
        {"stream": True},
        {"pooling_layer": -2},
        {"pooling_strategy": "NONE"},
    ],
)
def test_what_a_server_has_to_be_known_for(options: Any) -> None:
    assert Arguments(["a"], **options).needs_facts
    assert Arguments(pairs=[("a", "b")]).needs_facts


def test_offsets_are_of_no_use_without_tokens() -> None:
    arguments = Arguments(["a"], show_offsets=True)
    assert arguments.options(3.0) == Options(timeout=3.0, tokens=True, offsets=True)
    assert call_of(arguments, OURS).shows_tokens


def test_seconds() -> None:
    assert seconds_of(Arguments(["a"]), 3.0) == 3.0
    assert seconds_of(Arguments(["a"], timeout=5), 3.0) == 5
    assert seconds_of(Arguments(["a"], timeout=float("inf")), 3.0) is None
    call = call_of(Arguments(["a"]), OURS, 3.0)
    later = shortened(call, 1.0)
    assert (later.seconds, later.options) == (2.0, Options(timeout=2.0))
    assert shortened(call, 9.0).seconds == 0.001
    assert shortened(command(b"SHOW_CONFIG"), 9.0) == command(b"SHOW_CONFIG")


@pytest.mark.parametrize("huge", [1e10, 1e300, 10**400])
def test_a_time_that_no_clock_can_count_is_a_long_one(huge: float) -> None:
    assert seconds_of(Arguments(["a"], timeout=huge), 3.0) == MAX_TIMEOUT
    assert as_seconds(huge * 1000, 1000) == MAX_TIMEOUT
    assert as_seconds(float("inf"), 1000) is None
    assert as_seconds(1500, 1000) == 1.5


def test_what_is_not_known_of_a_1_10_server() -> None:
    for options in ({"pooling_layer": -2}, {"pooling_strategy": "NONE"}):
        with pytest.raises(NotSupported, match="unknown"):
            call_of(Arguments(["a"], **options), ServerFacts(1))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------ facts


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({}, ServerFacts(1)),
        (
            {"max_seq_len": 25, "pooling_strategy": 4, "pooling_layer": [-2]},
            ServerFacts(1, 25, ("CLS_TOKEN", "FIRST_TOKEN"), (-2,)),
        ),
        ({"max_seq_len": None, "max_length": 512, "protocol": 2}, ServerFacts(2, 512)),
        ({"max_seq_len": "x", "pooling_strategy": "odd"}, ServerFacts(1)),
        ({"pooling_layer": -2}, ServerFacts(1, layers=(-2,))),
    ],
)
def test_facts(config: Any, facts: ServerFacts) -> None:
    assert facts_of(config) == facts


def test_protocol() -> None:
    assert protocol_of({}) == 1
    assert protocol_of({"protocol": 2}) == 2
    with pytest.raises(ProtocolError, match="'two'"):
        protocol_of({"protocol": "two"})


# ---------------------------------------------------------------------------------- results


def test_unit_length() -> None:
    vectors = np.array([[3, 4], [0, 0]], np.float32)
    result = unit_length(vectors)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_what_a_server_made_is_not_made_again() -> None:
    array = np.full((1, 2), 7, np.float16)
    array.setflags(write=False)
    call = call_of(Arguments(["a"], normalize=True, dtype="float16"), OURS)
    assert response_of(Taken(1, VectorsReply(1, array), call), "ndarray").embedding is array


def test_unaligned_vectors_are_copied() -> None:
    array = np.frombuffer(b"x" + b"\0" * 8, np.uint8)[1:].view(np.float32)[None]
    assert not array.flags.aligned or array.ctypes.data % 4 == 0
    call = call_of(Arguments(["a"]), OURS)
    assert response_of(Taken(1, VectorsReply(1, array), call), "ndarray").embedding.flags.aligned
