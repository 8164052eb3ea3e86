from __future__ import annotations

import base64
import json
from typing import Any, Callable, Dict

import numpy as np
import pytest
from unit.server.http.conftest import Harness, expected

from bert_serving.client.errors import DeadlineExceeded, TextTooLong
from bert_serving.server.engines.echo import vocabulary
from bert_serving.server.http.inputs import Served
from bert_serving.server.http.openai import served_names
from bert_serving.server.http.parsing import parse
from bert_serving.server.http.schemas import EmbeddingsRequest

IDS = vocabulary()
PATH = "/v1/embeddings"


def order(value: Any, **more: Any) -> Dict[str, Any]:
    return dict({"model": "echo", "input": value}, **more)


def vectors_of(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    assert {one["object"] for one in data} == {"embedding"}
    return np.array([one["embedding"] for one in data], np.float32)


def test_texts(served: Harness) -> None:
    answer = served.post(PATH, order(["hi", "you"], user="me", other=1))
    np.testing.assert_array_equal(vectors_of(answer), expected(["hi", "you"]))
    body = answer.json()
    assert (body["object"], body["model"]) == ("list", "echo")
    # h, ##i and y, ##o, ##u, with [CLS] and [SEP].
    assert body["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


def test_one_text(served: Harness) -> None:
    np.testing.assert_array_equal(vectors_of(served.post(PATH, order("hi"))), expected(["hi"]))


def test_base64(served: Harness) -> None:
    answer = served.post(PATH, order(["hi", "you"], encoding_format="base64")).json()
    for one, vector in zip(answer["data"], expected(["hi", "you"])):
        found = np.frombuffer(base64.b64decode(one["embedding"]), "<f4")
        np.testing.assert_array_equal(found, vector)


def test_token_ids(served: Harness) -> None:
    ids = [IDS["h"], IDS["##i"]]
    for value in (ids, [ids], [float(ids[0]), ids[1]], [IDS["[CLS]"]] + ids + [IDS["[SEP]"]]):
        np.testing.assert_array_equal(vectors_of(served.post(PATH, order(value))), expected(["hi"]))
    served.fake.calls.clear()
    served.post(PATH, order([[IDS["[CLS]"], IDS["[SEP]"]], [IDS["[CLS]"]]]))
    assert served.fake.calls[0]["texts"] == [["[CLS]", "[SEP]"], ["[CLS]"]]


@pytest.mark.parametrize("is_special", [False, True])
def test_no_more_ids_become_tokens_than_the_model_takes(
    serve: Callable[..., Harness], is_special: bool
) -> None:
    served = serve("-max_seq_len", "5")
    ids = [IDS[token] for token in "abcdefghij" * 1000]
    if is_special:
        ids = [IDS["[CLS]"]] + ids + [IDS["[SEP]"]]
    looked_up = []

    class Watched(Dict[int, str]):
        def __getitem__(self, number: int) -> str:
            looked_up.append(number)
            return super().__getitem__(number)

    served.service.tokens = Watched(served.service.tokens)
    assert served.post(PATH, order([ids, ids])).status_code == 200
    assert len(looked_up) <= 2 * (5 + 2)
    for tokens in served.fake.calls[0]["texts"]:
        assert tokens[:5] == list("abcde")


def test_what_is_ignored_is_not_kept() -> None:
    content = json.dumps(order("a", user=[{}] * 10)).encode("ascii")
    assert parse(EmbeddingsRequest, content, Served(5, 9, 9, 10_000)).user is None


def test_special_ids_stay_where_the_server_adds_none(serve: Callable[..., Harness]) -> None:
    served = serve("-no_special_token")
    served.post(PATH, order([IDS["[CLS]"], IDS["a"], IDS["[SEP]"]]))
    assert served.fake.calls[0]["texts"] == [["[CLS]", "a", "[SEP]"]]


def test_an_id_without_a_token(served: Harness) -> None:
    """A token that stands twice in a vocabulary has the last id."""
    del served.service.tokens[7]
    answer = served.post(PATH, order([5, 7]))
    assert answer.status_code == 400
    assert "token id 7 in row 0" in answer.json()["error"]["message"]


def test_dimensions(served: Harness) -> None:
    vectors = vectors_of(served.post(PATH, order(["hi", "you"], dimensions=16)))
    whole = expected(["hi", "you"])[:, :16]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(
        vectors, whole / np.linalg.norm(whole, axis=1, keepdims=True), rtol=1e-6
    )
    # As many as there are: they stay as they were.
    np.testing.assert_array_equal(
        vectors_of(served.post(PATH, order("hi", dimensions=None))), expected(["hi"])
    )
    np.testing.assert_array_equal(
        vectors_of(served.post(PATH, order("hi", dimensions=768.0))), expected(["hi"])
    )


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"input": "a"}, "model", "model is missing"),
        ({"model": "echo"}, "input", "input is missing: it must be a string, a list of strings"),
        (order(""), "input", "input must have more in it than whitespace"),
        (order([]), "input", "input is an empty list"),
        (order(None), "input", "input must be a list, but is None"),
        (order([[]]), "input", "input[0] must be a list of token ids"),
        (order([[5], "a"]), "input", "input[1] must be a list of token ids"),
        (order([1, "a"]), "input", "input[1] must be the id of a token"),
        (order([193]), "input", "from 0 to 192, but is 193"),
        (order([True]), "input", "input[0] must be a string, but is True"),
        (order("a", encoding_format="int8"), "encoding_format", '"float" or "base64"'),
        (order("a", dimensions=0), "dimensions", "a whole number from 1"),
        (order("a", dimensions=769), "dimensions", "at most 768"),
    ],
)
def test_what_is_wrong_is_named(served: Harness, body: Any, param: str, message: str) -> None:
    answer = served.post(PATH, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert message in error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_errors_of_the_service(served: Harness) -> None:
    served.fake.error = TextTooLong("text 3 is too long")
    answer = served.post(PATH, order("a"))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    served.fake.error = DeadlineExceeded("too late")
    answer = served.post(PATH, order("a"))
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "timeout"


def test_models(served: Harness) -> None:
    (model,) = served.http.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("echo", "model", "bert-serving")
    assert served.http.get("/v1/models/echo").json() == model
    answer = served.http.get("/v1/models/gpt/5")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_another_model_is_not_found(served: Harness) -> None:
    answer = served.post(PATH, {"model": "gpt", "input": "a"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "served are echo, default" in error["message"]


def test_a_long_name_is_not_repeated(served: Harness) -> None:
    answer = served.post(PATH, {"model": "x" * 100_000, "input": "a"})
    assert answer.status_code == 404
    assert len(answer.content) < 500


def test_names_of_a_model() -> None:
    assert served_names("org/name") == ["org/name", "name", "default"]
    assert served_names("/models/my/") == ["/models/my/", "my", "default"]
    assert served_names("echo") == ["echo", "default"]


def test_token_vectors_have_no_room(serve: Callable[..., Harness]) -> None:
    answer = serve("-pooling_strategy", "NONE").post(PATH, order("a"))
    assert answer.status_code == 400
    assert "POST /encode" in answer.json()["error"]["message"]
