from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, List

import numpy as np
import pytest

from bert_serving.client import BertClient
from bert_serving.client.bulk.errors import BulkError
from bert_serving.client.bulk.pipeline import BatchFailed
from bert_serving.client.bulk.service import ServerEncoder, free_ports, server_arguments


@contextmanager
def encoder_of(server: Any, waits: List[float], **options: Any) -> Iterator[ServerEncoder]:
    ports = {"port": server.port, "port_out": server.port_out}
    with BertClient("127.0.0.1", timeout=10_000, check_length=False, **ports) as client:
        yield ServerEncoder(client, client.server_config, options, waits.append)


def test_results_belong_to_their_requests(server: Any, vectors: Any, hold: Any) -> None:
    server.script.texts = hold(3, lambda replies: reversed(replies))
    with encoder_of(server, []) as encoder:
        ids = {encoder.submit([text]): text for text in ("a", "bb", "ccc")}
        for _ in range(3):
            result = encoder.receive()
            assert np.array_equal(result.vectors, vectors([ids.pop(result.id)]))
    assert not ids


def test_a_failure_belongs_to_its_request(server: Any, failure: Any, hold: Any) -> None:
    hold = hold(2, lambda replies: replies)

    def answer(request: Any) -> Any:
        if request.request_id == 3:  # behind the configuration, asked for twice
            hold.replies.append(failure(request))
            return []
        return hold(request)

    server.script.texts = answer
    with encoder_of(server, []) as encoder:
        first, second = encoder.submit(["a"]), encoder.submit(["b"])
        with pytest.raises(BatchFailed, match="the engine broke") as failed:
            encoder.receive()
        assert failed.value.id == first
        assert encoder.receive().id == second


def test_an_answer_of_another_model(server: Any, answer: Any) -> None:
    other = "f" * 16
    server.script.texts = lambda request: [
        answer(request, model=other) if b"new" in request.payload else answer(request)
    ]
    with encoder_of(server, []) as encoder:
        encoder.submit(["old"])
        assert encoder.receive().vectors.shape == (1, 2)
        encoder.submit(["new"])
        with pytest.raises(BulkError, match=r"was 0123456789abcdef and is ffff.* by --restart"):
            encoder.receive()


def test_a_1_10_server_does_not_tell_its_model(make_server: Any) -> None:
    with encoder_of(make_server(is_1_10=True), []) as encoder:
        encoder.submit(["a"])
        assert encoder.receive().vectors.shape == (1, 2)


def test_what_an_overloaded_server_refuses_is_sent_again(
    server: Any, answer: Any, overload: Any
) -> None:
    seen: List[int] = []

    def refuse_at_first(request: Any) -> Any:
        seen.append(request.request_id)
        return [answer(request) if len(seen) > 4 else overload(request)]

    server.script.texts = refuse_at_first
    waits: List[float] = []
    with encoder_of(server, waits) as encoder:
        ids = [encoder.submit([text]) for text in ("a", "b", "c")]
        assert sorted(encoder.receive().id for _ in ids) == ids
    # When all three were refused, one was sent again; that was refused, too.
    assert waits == [0.25, 0.25]
    assert len(seen) == 7


def test_a_server_that_stays_overloaded(server: Any, overload: Any) -> None:
    server.script.texts = lambda request: [overload(request)]
    waits: List[float] = []
    with encoder_of(server, waits) as encoder:
        encoder.submit(["a"])
        with pytest.raises(BulkError, match="Overloaded: too much"):
            encoder.receive()
    assert sum(waits) == 10.0


def test_the_arguments_of_a_server_that_is_started() -> None:
    args = server_arguments(["-engine", "echo", "-port", "77"])
    assert (args.engine, args.port) == ("echo", 77)
    assert args.port_out not in (None, 5556)
    one, other = free_ports()
    assert one != other
