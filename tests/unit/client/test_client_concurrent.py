from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

from bert_serving.client import (
    ClientClosed,
    ConcurrentBertClient,
    PoolExhausted,
    RequestTimeout,
    __version__,
)
from bert_serving.client import concurrent as module


@pytest.fixture
def make_pool(server: Any) -> Any:
    pools: List[ConcurrentBertClient] = []

    def make(max_concurrency: int, **kwargs: Any) -> ConcurrentBertClient:
        kwargs.setdefault("timeout", 10_000)
        pools.append(
            ConcurrentBertClient(
                max_concurrency,
                ip="127.0.0.1",
                port=server.port,
                port_out=server.port_out,
                **kwargs,
            )
        )
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_surface(make_pool: Any, vectors: Any) -> None:
    with make_pool(2) as pool:
        assert pool.max_concurrency == 2
        np.testing.assert_array_equal(pool.encode(["a"]), vectors(["a"]))
        np.testing.assert_array_equal(pool.encode(texts=["a"]), vectors(["a"]))
        tokenized = pool.encode([["a", "b"]], True, True)
        np.testing.assert_array_equal(tokenized, vectors(["a b"]))
        assert pool.server_config["asked"] == "SHOW_CONFIG"
        assert pool.server_status["asked"] == "SHOW_STATUS"
        assert pool.status["client_version"] == __version__
        assert len(pool.available_bc) == 2


def test_client_is_given_back_after_an_error(make_pool: Any) -> None:
    pool = make_pool(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="empty list"):
            pool.encode([])
    assert len(pool.available_bc) == 1


@pytest.mark.parametrize("name", ["fetch", "fetch_all", "encode_async"])
def test_no_async(make_pool: Any, name: str) -> None:
    with pytest.raises(NotImplementedError, match="BertClient"):
        getattr(make_pool(1), name)(delay=1)


def test_no_non_blocking(make_pool: Any) -> None:
    pool = make_pool(1)
    for call in (lambda: pool.encode(["a"], False), lambda: pool.encode(["a"], blocking=False)):
        with pytest.raises(NotImplementedError, match="blocking=False"):
            call()


def test_all_in_use(make_pool: Any, server: Any, hold: Any, in_thread: Any) -> None:
    pool = make_pool(2)
    server.script.texts = hold(3)
    waiting = [in_thread(pool.encode, [text]) for text in ("a", "b")]
    server.wait_for(2)
    with pytest.raises(RuntimeError, match="all 2 clients are in use") as caught:
        pool.encode(["c"])
    assert type(caught.value) is PoolExhausted
    with pytest.raises(PoolExhausted):
        assert pool.status
    pool.close()
    for result in waiting:
        with pytest.raises(ClientClosed):
            result()


def test_many_threads(make_pool: Any, in_thread: Any, vectors: Any) -> None:
    pool = make_pool(4)

    def work(name: int) -> None:
        for number in range(20):
            text = "%d of %d" % (number, name)
            np.testing.assert_array_equal(pool.encode([text]), vectors([text]))

    for result in [in_thread(work, name) for name in range(4)]:
        result()
    assert len(pool.available_bc) == 4


@pytest.mark.parametrize("identity", ["me", b"me"])
def test_named_identity_stays_unique(make_pool: Any, identity: Any) -> None:
    pool = make_pool(3, identity=identity)
    assert {client.identity for client in pool.available_bc} == {b"me-0", b"me-1", b"me-2"}


def test_closed(make_pool: Any) -> None:
    pool = make_pool(2)
    pool.close()
    pool.close()
    with pytest.raises(ClientClosed):
        pool.encode(["a"])


def test_failing_constructor_closes_the_others(make_pool: Any, monkeypatch: Any) -> None:
    made: List[Any] = []

    class Failing(module.BertClient):
        def __init__(self, **kwargs: Any) -> None:
            if len(made) == 2:
                raise RequestTimeout("the third fails")
            super().__init__(**kwargs)
            made.append(self)

    monkeypatch.setattr(module, "BertClient", Failing)
    with pytest.raises(RequestTimeout, match="third"):
        make_pool(3)
    for client in made:
        with pytest.raises(ClientClosed):
            client.encode(["a"])


def test_at_least_one(make_pool: Any) -> None:
    with pytest.raises(ValueError, match="max_concurrency"):
        make_pool(0)


def test_a_pool_lends_a_client_to_a_stream(make_pool: Any, server: Any) -> None:
    pool = make_pool(1)
    stream = pool.encode(["a", "b", "c"], stream=True, dtype="float16")
    next(stream)
    assert pool.available_bc == []
    assert [rows.tolist() for rows, _ in stream] == [[2]]
    assert len(pool.available_bc) == 1
    pool.encode(["a"], stream=True).close()
    assert len(pool.available_bc) == 1
    with pytest.raises(ValueError, match="empty list"):
        pool.encode([], stream=True)
    assert len(pool.available_bc) == 1
