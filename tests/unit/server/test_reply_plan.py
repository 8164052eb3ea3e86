from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.client.protocol import Details
from bert_serving.server.messages import decode
from bert_serving.server.model_fingerprint import LENGTH
from bert_serving.server.reply_plan import MODEL_BYTES, ReplyPlan
from bert_serving.server.request_messages import Registered

MODEL = b"0123456789abcdef"


def test_a_fingerprint_has_its_place() -> None:
    assert MODEL_BYTES == LENGTH == len(MODEL)


@given(
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**40),
    st.floats(0, 1e9),
    st.sampled_from([MODEL, b""]),
    st.lists(st.integers(0, 2**40), max_size=4),
)
def test_round_trip(
    stream: bool, half: bool, num_tokens: int, accepted: float, model: bytes, truncated: List[int]
) -> None:
    plan = ReplyPlan(stream, half, num_tokens, accepted, accepted + 1, model, tuple(truncated))
    registered = Registered(1, b"me", 7, 2, 0, None, plan)
    assert decode([bytes(frame) for frame in registered.frames()]) == registered


@pytest.mark.parametrize(("model", "told"), [(MODEL, MODEL.decode()), (b"", None)])
def test_what_the_client_is_told(model: bytes, told: str) -> None:
    plan = ReplyPlan(True, False, 9, 100.0, 101.0, model, (3,))
    details = plan.details(103.0, 107.0, {2: "no luck"})
    assert details == Details(9, (3,), (1.0, 3.0, 4.0, 7.0), None, {2: "no luck"}, told)
