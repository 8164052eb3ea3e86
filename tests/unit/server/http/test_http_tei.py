from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import replace
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest
from unit.server.http.conftest import Harness, expected

from bert_serving.client.errors import Overloaded, TextTooLong, WorkerFailed
from bert_serving.server.engines.echo import vocabulary
from bert_serving.server.http import tei
from bert_serving.server.http.answers import unit_length
from bert_serving.server.http.service import Service
from bert_serving.server.http.tei import CHARACTERS_AT_ONCE, MOST_CHARACTERS, ROWS_AT_ONCE

IDS = vocabulary()


def vectors_of(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json(), np.float32)


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_embed(served: Harness, path: str) -> None:
    answer = served.post(path, {"inputs": ["hi", "you"], "parameters": {}})
    wanted = unit_length(expected(["hi", "you"]))
    np.testing.assert_array_equal(vectors_of(answer), wanted)
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=1), 1.0, rtol=1e-6)
    assert served.fake.calls[0]["truncate"] is False
    assert served.fake.calls[0]["normalize"] is None


def test_one_text_as_it_is(served: Harness) -> None:
    answer = served.post("/embed", {"inputs": "hi", "normalize": False})
    np.testing.assert_array_equal(vectors_of(answer), expected(["hi"]))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, False),
        ({"truncate": None}, False),
        ({"truncate": False, "truncation_direction": "Left"}, False),
        ({"truncate": True}, "right"),
        ({"truncate": True, "truncation_direction": "Left"}, "left"),
        ({"truncate": True, "truncation_direction": "right"}, "right"),
    ],
)
def test_truncation(served: Harness, options: Any, wanted: Any) -> None:
    served.post("/embed", dict(options, inputs="hi"))
    assert served.fake.calls[0]["truncate"] == wanted


def test_a_model_that_normalizes(serve: Callable[..., Harness]) -> None:
    served = serve(normalize=True)
    # The fake doesn't: what comes is believed to be of unit length.
    np.testing.assert_array_equal(
        vectors_of(served.post("/embed", {"inputs": "hi"})), expected(["hi"])
    )
    served.post("/embed", {"inputs": "hi", "normalize": False})
    assert [call["normalize"] for call in served.fake.calls] == [None, False]


def reload(served: Harness, normalize: bool) -> None:
    """Another model takes the place of the first."""
    spec = served.service.spec
    pooling = replace(spec.pooling, normalize=normalize)
    served.service.change(replace(spec, pooling=pooling), served.service.vocabulary)


def test_a_model_that_normalizes_gives_way_to_one_that_does_not(
    serve: Callable[..., Harness],
) -> None:
    served = serve(normalize=True)
    reload(served, normalize=False)
    wanted = unit_length(expected(["hi"]))
    np.testing.assert_array_equal(vectors_of(served.post("/embed", {"inputs": "hi"})), wanted)
    served.post("/embed", {"inputs": "hi", "normalize": False})
    reload(served, normalize=True)
    served.post("/embed", {"inputs": "hi", "normalize": False})
    assert [call["normalize"] for call in served.fake.calls] == [None, None, False]


@pytest.mark.parametrize("normalize", [True, False])
def test_a_model_gives_way_while_it_computes(
    serve: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch, normalize: bool
) -> None:
    served = serve(normalize=normalize)
    encode = served.fake.encode

    async def interrupted(*arguments: Any, **options: Any) -> Any:
        reload(served, not normalize)
        return await encode(*arguments, **options)

    monkeypatch.setattr(served.fake, "encode", interrupted)
    wanted = unit_length(expected(["hi"]))
    np.testing.assert_array_equal(vectors_of(served.post("/embed", {"inputs": "hi"})), wanted)


def test_dimensions(served: Harness) -> None:
    vectors = vectors_of(served.post("/embed", {"inputs": "hi", "dimensions": 8}))
    np.testing.assert_allclose(vectors, unit_length(expected(["hi"])[:, :8]), rtol=1e-6)
    assert served.post("/embed", {"inputs": "hi", "dimensions": 800}).status_code == 400


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (TextTooLong("text 0 is too long"), 413, "Validation"),
        (Overloaded("too much waits"), 429, "Overloaded"),
        (WorkerFailed("out of memory"), 424, "Backend"),
        (RuntimeError("a bug"), 500, "Backend"),
    ],
)
def test_errors(served: Harness, error: Exception, status: int, kind: str) -> None:
    served.fake.error = error
    answer = served.post("/embed", {"inputs": "hi"})
    assert answer.status_code == status
    assert answer.json()["error_type"] == kind
    assert str(error) in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "inputs is missing: it must be a string or a list of strings"),
        ({"inputs": [1]}, "inputs[0] must be a string, but is 1"),
        ({"inputs": "a", "prompt_name": "query"}, "prompt_name must be null"),
        ({"inputs": "a", "truncation_direction": "up"}, "truncation_direction must be"),
    ],
)
def test_what_is_wrong_is_named(served: Harness, body: Any, message: str) -> None:
    answer = served.post("/embed", body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert answer.json()["error_type"] == "Validation"


def test_tokenize(served: Harness) -> None:
    (tokens,) = served.post("/tokenize", {"inputs": "Hi you"}).json()
    assert [one["id"] for one in tokens] == [
        IDS[token] for token in ("[CLS]", "h", "##i", "y", "##o", "##u", "[SEP]")
    ]
    special = {"special": True, "start": None, "stop": None}
    assert tokens[0] == dict(special, id=IDS["[CLS]"], text="[CLS]")
    assert tokens[1] == {"id": IDS["h"], "text": "H", "special": False, "start": 0, "stop": 1}
    assert tokens[3] == {"id": IDS["y"], "text": "y", "special": False, "start": 3, "stop": 4}
    assert served.fake.calls == []


def test_tokenize_without_special_tokens_and_without_cutting(serve: Callable[..., Harness]) -> None:
    served = serve("-max_seq_len", "5")
    order = {"inputs": ["abcdefghij"] * 20, "add_special_tokens": False}
    answer = served.post("/tokenize", order).json()
    assert len(answer) == 20
    assert ["".join(one["text"] for one in tokens) for tokens in answer] == ["abcdefghij"] * 20


class Rendering:
    """Notes how many characters are tokenized, and whether on the event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: List[Tuple[int, bool]] = []
        self._render = tei.tokens_in_json
        monkeypatch.setattr(tei, "tokens_in_json", self._noted)

    def _noted(self, service: Service, texts: List[str], special: bool) -> Any:
        is_on_loop = True
        try:
            asyncio.get_event_loop()
        except RuntimeError:
            is_on_loop = False
        self.calls.append((sum(map(len, texts)), is_on_loop))
        return self._render(service, texts, special)


def test_tokenize_refuses_what_would_become_too_much(
    served: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendering = Rendering(monkeypatch)
    texts = ["a " * (MOST_CHARACTERS // 4), "b" * (MOST_CHARACTERS // 2)]
    assert served.post("/tokenize", {"inputs": texts}).status_code == 200
    assert rendering.calls == [(MOST_CHARACTERS, False)]
    for inputs in ([*texts, "c"], "a " * MOST_CHARACTERS):
        content = gzip.compress(json.dumps({"inputs": inputs}).encode("ascii"))
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = served.http.post("/tokenize", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error_type"] == "Validation"
        assert "at most %d are tokenized in a request" % MOST_CHARACTERS in answer.json()["error"]
    assert len(rendering.calls) == 1


def test_the_limit_of_tokenize_is_documented(served: Harness) -> None:
    post = served.http.get("/openapi.json").json()["paths"]["/tokenize"]["post"]
    assert f"of {MOST_CHARACTERS:,} characters at most" in post["description"]
    assert "413" in post["responses"]


@pytest.mark.parametrize(
    ("inputs", "is_on_loop"),
    [
        (["a"] * ROWS_AT_ONCE, True),
        (["a"] * (ROWS_AT_ONCE + 1), False),
        ("a" * CHARACTERS_AT_ONCE, True),
        ("a" * (CHARACTERS_AT_ONCE + 1), False),
    ],
)
def test_tokenize_keeps_the_event_loop_from_what_takes_long(
    served: Harness, monkeypatch: pytest.MonkeyPatch, inputs: Any, is_on_loop: bool
) -> None:
    rendering = Rendering(monkeypatch)
    assert served.post("/tokenize", {"inputs": inputs}).status_code == 200
    assert rendering.calls == [(len("".join(inputs)), is_on_loop)]


def test_info(serve: Callable[..., Harness]) -> None:
    info = serve("-max_seq_len", "12", "-http_max_rows", "99").http.get("/info").json()
    assert info["model_id"] == "echo"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["model_dtype"] == "float32"
    assert info["max_input_length"] == 12
    assert info["max_client_batch_size"] == 99
    assert info["max_concurrent_requests"] == 10
