from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict

import numpy as np
import pytest
from unit.server.http.conftest import Harness, expected

from bert_serving.client.errors import (
    BadRequest,
    Overloaded,
    RequestTimeout,
    ShuttingDown,
    WorkerFailed,
)


def test_encode(served: Harness) -> None:
    answer = served.post("/encode", {"id": 123, "texts": ["hello world", "you"]})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["id"], body["status"]) == (123, 200)
    assert sorted(body) == ["id", "result", "status"]
    np.testing.assert_array_equal(
        np.array(body["result"], np.float32), expected(["hello world", "you"])
    )


def test_tokenized_texts(served: Harness) -> None:
    order = {"id": "a", "texts": [["h", "##i"], ["you"]], "is_tokenized": True}
    answer = served.post("/encode", order).json()
    vectors = expected([["h", "##i"], ["you"]], is_tokenized=True)
    np.testing.assert_array_equal(np.array(answer["result"], np.float32), vectors)


def test_an_id_that_is_long_is_refused(served: Harness) -> None:
    assert served.post("/encode", {"id": "a" * 4000, "texts": ["a"]}).status_code == 200
    served.fake.calls.clear()
    for value in ("a" * 5000, [{}] * 5000, {"a": [[1] * 3000]}):
        answer = served.post("/encode", {"id": value, "texts": ["a"]})
        assert answer.status_code == 413
        assert "id comes back in the answer and may have" in answer.json()["description"]
        assert len(answer.content) < 500
    assert served.fake.calls == []


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", [], {}, True, 1, -0.5, "no", [0]])
def test_is_tokenized_is_what_1_10_took_it_for(served: Harness, value: Any) -> None:
    texts = [["a", "b"]] if value else ["a b"]
    answer = served.post("/encode", {"texts": texts, "is_tokenized": value})
    assert answer.status_code == 200
    assert served.fake.calls[0]["is_tokenized"] is bool(value)


def test_the_id_may_be_anything_or_missing(served: Harness) -> None:
    for value in ({"a": [1]}, None, "x", 1.5, False, -(2**70), [{"a": 2**64}]):
        assert served.post("/encode", {"id": value, "texts": ["a"]}).json()["id"] == value
    assert served.post("/encode", {"texts": ["a"]}).json()["id"] is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"id": 1}, "texts is missing: it must be a list of strings"),
        ({"texts": []}, "texts is an empty list"),
        ({"texts": "a"}, "texts must be a list, but is 'a'"),
        ({"texts": ["a", 5]}, "texts[1] must be a string, but is 5"),
        ({"texts": ["a", " "]}, "texts[1] must have more in it than whitespace, but is ' '"),
        ({"texts": [["a"], []], "is_tokenized": True}, "texts[1] must be a list of tokens"),
        ({"texts": [["a"], ["b", 5]], "is_tokenized": True}, "texts[1][1] must be a string"),
        ({"texts": ["a"], "is_tokenized": True}, "texts are strings, but is_tokenized is true"),
        ({"texts": [["a"]]}, "texts are lists of tokens, but is_tokenized is false"),
        ({"texts": ["a"], "is_tokenized": "false"}, "texts are strings, but is_tokenized is true"),
        ([], "it is no JSON object"),
    ],
)
def test_what_is_wrong_is_named(served: Harness, body: Any, message: str) -> None:
    answer = served.post("/encode", body)
    assert answer.status_code == 400
    assert message in answer.json()["description"]
    assert answer.json()["type"] == "BadRequest"
    assert answer.json()["status"] == 400
    assert served.fake.calls == []


def test_a_body_that_is_no_json(served: Harness) -> None:
    for content in (b"", b"{", b"\xff", b"[" * 5000, b'{"id": "\x01"}'):
        answer = served.http.post("/encode", content=content)
        assert answer.status_code == 400
        assert "Invalid JSON" in answer.json()["description"]


def test_too_many_texts(serve: Callable[..., Harness]) -> None:
    served = serve("-http_max_rows", "2")
    assert served.post("/encode", {"texts": ["a", "b"]}).status_code == 200
    answer = served.post("/encode", {"texts": ["a", "b", "c"]})
    assert answer.status_code == 413
    assert "larger -http_max_rows" in answer.json()["description"]


def overloaded(seconds: Any) -> Overloaded:
    error = Overloaded("too much waits")
    error.retry_after = seconds
    return error


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (BadRequest("no"), 400, {}),
        (ValueError("texts[0] is odd"), 400, {}),
        (overloaded(2.2), 429, {"retry-after": "3"}),
        (overloaded(None), 429, {"retry-after": "1"}),
        (ShuttingDown("bye"), 503, {"retry-after": "1"}),
        (WorkerFailed("out of memory"), 500, {}),
        (KeyError("oops"), 500, {}),
    ],
)
def test_what_the_service_says(
    served: Harness, error: Exception, status: int, headers: Dict[str, str]
) -> None:
    served.fake.error = error
    answer = served.post("/encode", {"texts": ["a"]})
    assert answer.status_code == status
    assert str(error) in answer.json()["description"]
    assert answer.json()["status"] == status
    assert {name: answer.headers.get(name) for name in headers} == headers


def test_the_time_that_is_left_goes_along(serve: Callable[..., Harness]) -> None:
    served = serve("-http_timeout", "7")
    served.post("/encode", {"texts": ["a"]})
    assert 0 < served.fake.calls[0]["timeout"] <= 7


def test_status(served: Harness) -> None:
    answer = served.http.get("/status/server").json()
    assert answer == {"num_worker": 1, "statistic": {"num_data_request": 3}, "status": 200}
    assert served.http.get("/status/client").json() == {
        "identity": "\\xff1",
        "num_request": 5,
        "pending_request": [2, 4],
        "status": 200,
    }


def test_a_status_that_does_not_come(
    serve: Callable[..., Harness], caplog: pytest.LogCaptureFixture
) -> None:
    served = serve("-http_timeout", "1")

    async def silent() -> Dict[str, Any]:
        return await asyncio.get_event_loop().create_future()

    served.fake.server_status = silent  # type: ignore[method-assign]
    answer = served.http.get("/status/server")
    assert answer.status_code == 504
    assert answer.json()["type"] == "DeadlineExceeded"
    assert "within 1 s" in answer.json()["description"]
    assert not caplog.records
    served.fake.server_status = late  # type: ignore[method-assign]
    assert "the client's words" in served.http.get("/status/server").json()["description"]


async def late() -> Dict[str, Any]:
    raise RequestTimeout("the client's words")
