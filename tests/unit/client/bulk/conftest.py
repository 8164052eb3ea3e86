"""Answers of a server to the command's requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bert_serving.client import reply_frames as frames
from bert_serving.client.protocol import Details


@pytest.fixture
def failure() -> Any:
    return lambda request: frames.error_frames(
        request.identity, request.request_id, "worker_failed", "the engine broke"
    )


@pytest.fixture
def refusal() -> Any:
    return lambda request: frames.error_frames(
        request.identity, request.request_id, "bad_request", "not so"
    )


@pytest.fixture
def overload() -> Any:
    return lambda request: frames.error_frames(
        request.identity, request.request_id, "overloaded", "too much", 0.25
    )


@pytest.fixture
def token_vectors() -> Any:
    return lambda request: frames.vectors_frames(
        request.identity,
        request.request_id,
        np.zeros((1, 3, 2), np.float32),
        details=Details(model="0123456789abcdef"),
    )
