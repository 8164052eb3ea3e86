from __future__ import annotations

import json
import threading
from typing import Any, Callable, List

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.server.http.conftest import Harness

from bert_serving.server.engines.echo import vocabulary
from bert_serving.server.http import inputs, openai
from bert_serving.server.http import parsing as module
from bert_serving.server.http.parsing import COSTS, parsed_bytes

COST = {chr(sign): cost for sign, cost in COSTS}
TEXT = st.text(st.sampled_from('ab,[{"\\') | st.characters(blacklist_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(TEXT, inner, max_size=3),
)


def cost_of(value: Any) -> int:
    if isinstance(value, list):
        return COST["["] + sum(map(cost_of, value)) + max(0, len(value) - 1) * COST[","]
    if isinstance(value, dict):
        return COST["{"] - COST["["] + cost_of(list(value.values()))
    return 0


@given(JSON, st.integers(1, 7), st.booleans())
def test_what_is_in_strings_is_no_value(value: Any, piece: int, is_ascii: bool) -> None:
    content = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        assert parsed_bytes(content) == len(content) + cost_of(value)


@given(st.binary())
def test_whatever_it_is_it_is_counted(content: bytes) -> None:
    assert parsed_bytes(content) >= len(content)


@pytest.mark.parametrize("path", ["/encode", "/v1/embeddings", "/embed", "/tokenize"])
@pytest.mark.parametrize(
    "content",
    [
        b'{"texts": ["a"], "id": [' + b",".join([b"{}"] * 20_000) + b"]}",
        b'{"model": "default", "input": [' + b",".join([b"1"] * 200_000) + b"]}",
        b'{"inputs": [' + b",".join([b"[]"] * 20_000) + b"]}",
        b"[" * 20_000,
        b'{"\\\\":"\\"",' + b'"":[' * 20_000,
    ],
    ids=["objects", "ids", "lists", "brackets", "keys"],
)
def test_what_takes_far_more_when_parsed_is_not(
    serve: Callable[..., Harness], path: str, content: bytes
) -> None:
    """It isn't even looked at whether it is JSON, and what is asked for."""
    served = serve("-http_max_body", "1")
    assert len(content) < served.service.http.max_body
    answer = served.http.post(path, content=content)
    assert answer.status_code == 413
    assert "too many values" in answer.text
    assert "larger -http_max_body" in answer.text


def test_a_text_of_brackets_and_commas_is_a_text(serve: Callable[..., Harness]) -> None:
    served = serve("-http_max_body", "1")
    text = '[{"a\\": ,' * 50_000
    assert served.post("/encode", {"texts": [text]}).status_code == 200
    assert served.fake.calls[0]["texts"] == [text]


def test_large_bodies_are_parsed_in_one_thread(
    served: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And their ids become tokens there; small ones are taken care of on the spot."""
    threads: List[str] = []

    def watched(work: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*arguments: Any) -> Any:
            threads.append(threading.current_thread().name)
            return work(*arguments)

        return watch

    monkeypatch.setattr(inputs, "whole", watched(inputs.whole))
    monkeypatch.setattr(openai, "_in_tokens", watched(openai._in_tokens))
    ids = [vocabulary()["a"]] * 20
    assert served.post("/v1/embeddings", {"model": "default", "input": ids}).status_code == 200
    assert threads
    assert not [name for name in threads if name.startswith("bodies")]
    threads.clear()
    large = {"model": "default", "input": [ids] * 4000}
    for _ in range(2):
        assert served.post("/v1/embeddings", large).status_code == 200
    assert set(threads) == {"bodies_0"}
