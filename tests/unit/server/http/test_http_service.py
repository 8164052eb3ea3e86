from __future__ import annotations

import threading
from typing import Any, List

import pytest
from unit.server.http.conftest import Harness

from bert_serving.server.http import service as module
from bert_serving.server.tokenization import Tokenizer

WAIT_SECONDS = 30.0


def test_a_tokenizer_is_made_once(served: Harness) -> None:
    assert served.service.tokenizer() is served.service.tokenizer()


def test_a_tokenizer_that_is_made_while_the_model_changes_is_not_the_new_ones(
    served: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = served.service
    made: List[Tokenizer] = []
    has_begun, may_end = threading.Event(), threading.Event()

    class Slow(Tokenizer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            has_begun.set()
            assert may_end.wait(WAIT_SECONDS)

    monkeypatch.setattr(module, "Tokenizer", Slow)
    thread = threading.Thread(target=lambda: made.append(service.tokenizer()))
    thread.start()
    assert has_begun.wait(WAIT_SECONDS)
    new = {**service.vocabulary, "brandnew": len(service.vocabulary)}
    service.change(service.spec, new)
    may_end.set()
    thread.join()
    for tokenizer, knows in ((made[0], False), (service.tokenizer(), True)):
        (encoded,) = tokenizer.encode(["brandnew"], False)
        assert (tokenizer.tokens_of(encoded) == ["[CLS]", "brandnew", "[SEP]"]) == knows
