"""AsyncBertClient against a server on real sockets."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any, Awaitable, Callable, Dict, List, Optional

import numpy as np
import pytest

from bert_serving.client import (
    AsyncBertClient,
    ClientClosed,
    ConnectionFailed,
    DeadlineExceeded,
    ModelChanged,
    NotSupported,
    ProtocolError,
    RequestTimeout,
    Response,
    TextTooLong,
    VersionMismatch,
    WorkerFailed,
    __version__,
)
from bert_serving.client.protocol import ErrorKind, topic_of
from bert_serving.client.reply_frames import error_frames

LONG = " ".join(["word"] * 26)


def client_of(server: Any, **kwargs: Any) -> AsyncBertClient:
    kwargs.setdefault("ip", "127.0.0.1")
    kwargs.setdefault("timeout", 10_000)
    return AsyncBertClient(port=server.port, port_out=server.port_out, **kwargs)


def use(server: Any, work: Callable[[AsyncBertClient], Awaitable[Any]], **kwargs: Any) -> Any:
    """What ``work`` returns, which gets a client that is connected."""

    async def run() -> Any:
        async with client_of(server, **kwargs) as client:
            return await work(client)

    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.fixture(params=["ours", "1.10"])
def either_server(request: Any, make_server: Any) -> Any:
    return make_server(is_1_10=request.param == "1.10")


async def until(condition: Callable[[], Any]) -> None:
    """Let others have their turn until ``condition`` holds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("waited in vain")


# ----------------------------------------------------------------------------------- encode


def test_encode(either_server: Any, vectors: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        result = await client.encode(["a", "b c"])
        np.testing.assert_array_equal(result, vectors(["a", "b c"]))
        assert result.dtype == np.float32
        assert not result.flags.writeable
        assert (await client.server_config())["asked"] == "SHOW_CONFIG"
        assert (await client.server_status())["asked"] == "SHOW_STATUS"
        result = await client.encode([["a", "b"]], is_tokenized=True)
        np.testing.assert_array_equal(result, vectors(["a b"]))
        assert client.pending_request == set()
        assert client.status["num_request"] == 5

    use(either_server, work)


def test_arguments(server: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        array, tokens, offsets = await client.encode(
            ["a b"],
            timeout=2.5,
            pooling_strategy="CLS_TOKEN",
            pooling_layer=-1,
            normalize=True,
            truncate="left",
            dtype="float16",
            show_offsets=True,
            user="somebody",
        )
        assert array.dtype == np.float16
        assert (tokens, offsets) == ([["a", "b"]], [[[0, 1], [2, 3]]])
        response = await client.encode(pairs=[("a b", "c")], details=True)
        assert isinstance(response, Response)
        assert response.num_tokens == 3

    use(server, work, timeout=-1)
    assert server.headers == [
        {
            "timeout": 2.5,
            "pooling_strategy": "CLS_TOKEN",
            "pooling_layer": [-1],
            "normalize": True,
            "truncate": "left",
            "dtype": "float16",
            "tokens": True,
            "offsets": True,
            "user": "somebody",
        },
        {"pairs": True},
    ]


def test_wrong_arguments_raise_at_once(server: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        for wrong in ({}, {"texts": "a"}, {"texts": ["a"], "timeout": "1"}):
            with pytest.raises(TypeError):
                client.encode(**wrong)
        with pytest.raises(ValueError, match="dtype"):
            client.encode(["a"], stream=True, dtype="int8")

    use(server, work)
    assert server.texts == []


def test_lists(server: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        assert await client.encode(["a"]) == [[1.0, 97.0]]
        assert [part async for part in client.encode(["a"], stream=True)] == [([0], [[1.0, 97.0]])]

    use(server, work, output_fmt="list")


def test_1_10(make_server: Any) -> None:
    server = make_server(is_1_10=True)

    async def work(client: AsyncBertClient) -> None:
        assert (await client.encode(["a"], dtype="float16")).dtype == np.float16
        assert len([part async for part in client.encode(["a", "b"], stream=True)]) == 1
        with pytest.raises(NotSupported, match="truncate"):
            await client.encode(["a"], truncate=False)
        with pytest.warns(UserWarning, match="show_tokens_to_client") as caught:
            await client.encode(["a"], show_tokens=True)
        assert caught[0].filename == __file__

    use(server, work)


def test_the_server_is_asked_only_if_it_matters(server: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        await client.encode(["a"])
        assert [len(frames) for frames in server.requests] == [4]
        assert (await client.encode(["a"], dtype="float16", timeout=9)).dtype == np.float16
        assert server.requests[1][1] == b"SHOW_CONFIG"

    use(server, work, ignore_all_checks=True)


@pytest.mark.parametrize(("client_ms", "seconds"), [(-1, None), (1, float("inf"))])
def test_the_server_is_asked_as_long_as_it_takes(
    server: Any, monkeypatch: Any, client_ms: int, seconds: Any
) -> None:
    """The limit of connecting is none of a call's."""
    monkeypatch.setattr("bert_serving.client.base.CONNECT_TIMEOUT_MS", 1)
    server.script.answers_commands = False

    async def work(client: AsyncBertClient) -> None:
        call = asyncio.ensure_future(client.encode(["a"], dtype="float16", timeout=seconds))
        await until(lambda: server.requests)
        server.kill()  # what was asked is asked again when there is a server
        server.script.answers_commands = True
        server.start()
        assert (await call).dtype == np.float16

    use(server, work, ignore_all_checks=True, timeout=client_ms)


def test_whether_a_1_10_server_sends_tokens_is_learned(make_server: Any, answer: Any) -> None:
    server = make_server(config={"show_tokens_to_client": True}, is_1_10=True)
    server.script.texts = lambda request: [answer(request, b'[["a"]]')]

    async def work(client: AsyncBertClient) -> None:
        assert (await client.encode(["a"], show_tokens=True))[1] == [["a"]]

    use(server, work, ignore_all_checks=True)


def test_warns_of_what_was_cut(server: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        with pytest.warns(UserWarning, match="in row 1") as caught:
            await client.encode(["a", LONG])
        assert caught[0].filename == __file__
        with pytest.warns(UserWarning, match="in row 1"):
            assert len([part async for part in client.encode(["a", LONG], stream=True)]) == 1

    use(server, work)
    use(server, lambda client: client.encode(["a", LONG]), check_length=False)


def test_errors(server: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        with pytest.raises(TextTooLong):
            await client.encode([LONG], truncate=False)
        server.script.texts = lambda request: [
            error_frames(request.identity, request.request_id, ErrorKind.WORKER_FAILED, "died")
        ]
        with pytest.raises(WorkerFailed, match="died"):
            await client.encode(["a"])
        bad = b'{"dtype":"float32","shape":[9]}'
        server.script.texts = lambda request: [
            [topic_of(request.identity), bad, b"", b"%d" % request.request_id]
        ]
        with pytest.raises(ProtocolError, match="can't be read"):
            await client.encode(["a"])
        server.script.texts = lambda request: [
            [topic_of(request.identity), b"{}", b"", b"no number"]
        ]
        with pytest.raises(ProtocolError, match="request id"):
            await client.encode(["a"])
        assert client.pending_request == set()

    use(server, work)


def test_a_socket_that_fails(server: Any, monkeypatch: Any) -> None:
    server.script.texts = lambda request: []

    def fail() -> None:
        raise ConnectionFailed("can't receive") from OSError("why")

    async def work(client: AsyncBertClient) -> None:
        tasks = [asyncio.ensure_future(client.encode([text])) for text in ("a", "b")]
        await until(lambda: len(server.texts) == 2)
        monkeypatch.setattr(client._exchange._connection, "read", fail)
        server.script.texts = lambda request: [answered(request)]
        tasks.append(asyncio.ensure_future(client.encode(["c"])))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in results] == [ConnectionFailed] * 3
        assert len(set(map(id, results))) == 3
        assert str(results[0]) == "can't receive"
        assert str(results[0].__cause__) == "why"

    def answered(request: Any) -> Any:
        return error_frames(request.identity, request.request_id, ErrorKind.INTERNAL, "no")

    use(server, work)


def test_timeout(server: Any, hold: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        normal, server.script.texts = server.script.texts, hold(99)
        with pytest.raises(RequestTimeout, match="100 ms") as caught:
            await client.encode(["a"], timeout=0.1)
        assert str(server.port) in str(caught.value)
        await until(lambda: server.cancelled == [2])
        server.script.texts = normal
        assert (await client.encode(["b"])).shape == (1, 2)

    use(server, work)


def test_identities_of_others(server: Any, answer: Any, vectors: Any) -> None:
    def texts(request: Any) -> Any:
        reply = answer(request)
        return [[*reply[:3], b"999"], [b"client-10", *reply[1:]], reply, reply]

    async def work(client: AsyncBertClient) -> None:
        for text in ("a", "b"):
            np.testing.assert_array_equal(await client.encode([text]), vectors([text]))
        assert client.dropped_replies >= 5

    server.script.texts = texts
    use(server, work, identity="client-1")


# ------------------------------------------------------------------------------ many at once


def test_a_thousand_at_once(server: Any, vectors: Any, hold: Any) -> None:
    """All are under way before the first is answered, and in another order."""
    server.script.texts = hold(1000, reversed)
    texts = [["text %d" % number, "of two"] for number in range(1000)]

    async def work(client: AsyncBertClient) -> List[Any]:
        return await asyncio.gather(*[client.encode(batch) for batch in texts])

    for batch, result in zip(texts, use(server, work)):
        np.testing.assert_array_equal(result, vectors(batch))


def test_half_of_them_cancelled(server: Any, vectors: Any, answer: Any) -> None:
    held: List[Any] = []

    def texts(request: Any) -> Any:
        if b"go" in request.payload:
            return [reply for number, reply in held] + [answer(request)]
        held.append((request.request_id, answer(request)))
        return []

    server.script.texts = texts

    async def work(client: AsyncBertClient) -> None:
        tasks = [
            asyncio.ensure_future(client.encode(["text %d" % number])) for number in range(100)
        ]
        await until(lambda: len(held) == 100)
        for task in tasks[::2]:
            task.cancel()
        await until(lambda: len(server.cancelled) == 50)
        await client.encode(["go"])
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(results):
            if number % 2:
                np.testing.assert_array_equal(result, vectors(["text %d" % number]))
            else:
                assert isinstance(result, asyncio.CancelledError)
        assert client.dropped_replies == 50
        assert client.pending_request == set()

    use(server, work)
    assert sorted(server.cancelled) == list(range(2, 102, 2))


# ---------------------------------------------------------------------------------- streams


def test_stream(server: Any, vectors: Any) -> None:
    texts = ["text %d" % number for number in range(5)]

    async def work(client: AsyncBertClient) -> None:
        seen = []
        async for rows, array in client.encode(texts, stream=True):
            np.testing.assert_array_equal(array, vectors([texts[row] for row in rows]))
            assert rows.dtype == np.int64
            seen.append(rows.tolist())
        assert seen == [[0, 1], [2, 3], [4]]
        parts = [part async for part in client.encode(["a b"], stream=True, show_offsets=True)]
        assert parts[0][2:] == ([["a", "b"]], [[[0, 1], [2, 3]]])

    use(server, work)
    assert server.cancelled == []


@pytest.mark.parametrize("how", ["aclose", "with", "break", "cancel"])
def test_a_stream_that_ends_early_is_cancelled(server: Any, parts: Any, how: str) -> None:
    server.script.texts = lambda request: parts(request)[:1]
    taken: List[Any] = []

    async def take_all(client: AsyncBertClient) -> None:
        async for part in client.encode(["a", "b", "c"], stream=True):
            taken.append(part)
            if how == "break":
                break

    async def work(client: AsyncBertClient) -> None:
        if how in ("break", "cancel"):
            task = asyncio.ensure_future(take_all(client))
            await until(lambda: taken)
            if how == "cancel":
                task.cancel()
            await asyncio.wait([task])
        else:
            stream = client.encode(["a", "b", "c"], stream=True)
            if how == "with":
                async with stream:
                    await stream.__anext__()
            else:
                await stream.__anext__()
                await stream.aclose()
                await stream.aclose()
            assert [part async for part in stream] == []
        await until(lambda: server.cancelled == [2])
        assert client.pending_request == set()

    use(server, work)


def test_a_stream_that_was_not_begun(server: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        stream = client.encode(["a"], stream=True)
        await stream.aclose()
        client.encode(["a"], stream=True)

    use(server, work)
    assert server.texts == []


async def rows_of(stream: Any, begun: Optional[List[int]] = None) -> List[int]:
    if begun is not None:
        begun.append(1)  # whoever sees it finds this task waiting for the first part
    return [row async for rows, _ in stream for row in rows.tolist()]


@pytest.mark.parametrize("taken", [0, 1])
def test_a_stream_that_another_task_closes(server: Any, parts: Any, taken: int) -> None:
    """It is at its end for the task that waits in it."""
    server.script.texts = lambda request: parts(request)[:taken]

    async def work(client: AsyncBertClient) -> None:
        stream = client.encode(["a", "b", "c"], stream=True, timeout=1000)
        for _ in range(taken):
            await stream.__anext__()
        begun: List[int] = []
        reader = asyncio.ensure_future(rows_of(stream, begun))
        await until(lambda: begun and server.texts)
        await stream.aclose()
        assert await reader == []
        await until(lambda: server.cancelled == [2])
        assert client.pending_request == set()

    use(server, work)


def test_a_stream_that_is_closed_before_its_server_is_known(server: Any) -> None:
    server.script.answers_commands = False

    async def work(client: AsyncBertClient) -> None:
        stream = client.encode(["a"], stream=True)
        reader = asyncio.ensure_future(rows_of(stream))
        await until(lambda: server.requests)
        with pytest.raises(RuntimeError, match="two tasks"):
            await stream.__anext__()
        await stream.aclose()
        assert await reader == []
        assert client.pending_request == set()

    use(server, work, ignore_all_checks=True)
    assert server.texts == []


def test_two_tasks_at_one_stream(server: Any, parts: Any) -> None:
    """The one that comes second has the error; the first one goes on."""
    held: List[Any] = []

    def texts(request: Any) -> Any:
        held.extend(parts(request) if request.rows == 3 else [])
        return [] if request.rows == 3 else held

    server.script.texts = texts

    async def work(client: AsyncBertClient) -> None:
        stream = client.encode(["a", "b", "c"], stream=True)
        first = asyncio.ensure_future(rows_of(stream))
        await until(lambda: server.texts)
        with pytest.raises(RuntimeError, match="two tasks"):
            await rows_of(stream)
        release = asyncio.ensure_future(client.encode(["go"]))
        assert await first == [0, 1, 2]
        release.cancel()
        await asyncio.wait([release])

    use(server, work)


def test_timeout_of_a_stream(server: Any, parts: Any) -> None:
    server.script.texts = lambda request: parts(request)[:1]

    async def work(client: AsyncBertClient) -> None:
        stream = client.encode(["a", "b", "c"], stream=True, timeout=2.0)
        await stream.__anext__()
        with pytest.raises(RequestTimeout, match="2000 ms"):
            await stream.__anext__()
        await until(lambda: server.cancelled == [2])

    use(server, work)


# -------------------------------------------------------------------------------- reconnect


def test_restart(either_server: Any, vectors: Any) -> None:
    server = either_server
    normal, server.script.texts = server.script.texts, lambda request: []

    async def work(client: AsyncBertClient) -> None:
        tasks = [asyncio.ensure_future(client.encode(["text %d" % number])) for number in range(32)]
        await until(lambda: len(server.texts) == 32)
        server.kill()
        server.script.texts = normal
        server.start()
        for number, result in enumerate(await asyncio.gather(*tasks)):
            np.testing.assert_array_equal(result, vectors(["text %d" % number]))
        assert client.dropped_replies == 0

    use(server, work, timeout=-1)
    assert len(server.texts) == 64
    again = None if server.script.is_1_10 else {"again": True}
    assert server.headers[32:] == [again] * 32


def test_a_stream_goes_on_after_a_restart(server: Any, parts: Any, vectors: Any) -> None:
    texts = ["text %d" % number for number in range(7)]
    server.script.texts = lambda request: parts(request, 2)[:2]

    async def work(client: AsyncBertClient) -> None:
        seen: Dict[int, Any] = {}
        async for rows, array in client.encode(texts, stream=True):
            for row, vector in zip(rows.tolist(), array):
                assert row not in seen
                seen[row] = vector
            if len(seen) == 4:
                server.kill()
                server.script.texts = lambda request: parts(request, 3)
                server.start()
        np.testing.assert_array_equal([seen[row] for row in range(7)], vectors(texts))

    use(server, work)


def test_a_stream_of_another_model(server: Any, parts: Any) -> None:
    server.script.texts = lambda request: parts(request, 2)[:2]
    texts = ["text %d" % number for number in range(7)]

    async def work(client: AsyncBertClient) -> None:
        stream = client.encode(texts, stream=True)
        for _ in range(2):
            await stream.__anext__()
        server.kill()
        server.script.texts = lambda request: parts(request, 3, "f" * 16)[:1]
        server.start()
        with pytest.raises(ModelChanged, match="ask again for all"):
            await stream.__anext__()
        await until(lambda: server.cancelled == [2])

    use(server, work)


def test_deadline_while_the_server_is_gone(server: Any) -> None:
    server.script.texts = lambda request: []

    async def work(client: AsyncBertClient) -> None:
        task = asyncio.ensure_future(client.encode(["a"], timeout=0.3))
        await until(lambda: server.texts)
        server.kill()
        with pytest.raises((RequestTimeout, DeadlineExceeded)):
            await task

    use(server, work)


# ------------------------------------------------------------------------ connect and close


def test_constructor_opens_nothing() -> None:
    client = AsyncBertClient(port=5, identity="me")
    assert client.status == {
        "identity": b"me",
        "num_request": 0,
        "num_pending_request": 0,
        "pending_request": set(),
        "output_fmt": "ndarray",
        "port": 5,
        "port_out": 5556,
        "server_ip": "localhost",
        "client_version": __version__,
        "timeout": -1,
    }
    with pytest.raises(AttributeError, match="'numpy'"):
        AsyncBertClient(output_fmt="numpy")


def test_not_connected() -> None:
    client = AsyncBertClient()
    with pytest.raises(ClientClosed, match="connect"):
        asyncio.run(client.encode(["a"]))
    client.close()
    with pytest.raises(ClientClosed, match="is closed"):
        asyncio.run(client.connect())


def test_connect_twice(server: Any) -> None:
    async def work(client: AsyncBertClient) -> None:
        await client.connect()
        assert client.request_id == 1

    use(server, work)


def test_connect_checks(make_server: Any) -> None:
    old = make_server(config={"server_version": "1.9.0", "max_seq_len": 5})

    async def fail() -> None:
        client = client_of(old)
        with pytest.raises(VersionMismatch):
            await client.connect()
        with pytest.raises(ClientClosed):
            await client.encode(["a"])
        silent = AsyncBertClient("127.0.0.1", old.port, old.port, timeout=100)
        with pytest.raises(RequestTimeout, match="100 ms"):
            await silent.connect()

    asyncio.run(fail())


def test_close_while_tasks_wait(server: Any) -> None:
    server.script.texts = lambda request: []

    async def take(client: AsyncBertClient) -> None:
        async for _ in client.encode(["b"], stream=True):
            pass

    async def work(client: AsyncBertClient) -> None:
        tasks = [asyncio.ensure_future(one) for one in (client.encode(["a"]), take(client))]
        await until(lambda: len(server.texts) == 2)
        client.close()
        client.close()
        for task in tasks:
            with pytest.raises(ClientClosed):
                await task
        with pytest.raises(ClientClosed):
            await client.encode(["a"])
        with pytest.raises(ClientClosed):
            await client.server_status()

    use(server, work, timeout=-1)


def test_another_event_loop(server: Any) -> None:
    client = client_of(server)
    asyncio.run(client.connect())
    for call in (client.encode(["a"]), client.server_config(), client.connect()):
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(call)
    client.close()
    assert client.pending_request == set()


FORK = """
import asyncio, os, sys
from bert_serving.client import AsyncBertClient, ClientForked

async def main():
    client = AsyncBertClient(ignore_all_checks=True)
    await client.connect()
    child = os.fork()
    if child == 0:
        try:
            await client.encode(["a"])
        except ClientForked as error:
            assert str(os.getppid()) in str(error)
        else:
            os._exit(1)
        client.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    client.close()

asyncio.run(main())
"""

NOT_CLOSED = """
import asyncio
from bert_serving.client import AsyncBertClient

async def main():
    client = AsyncBertClient(ignore_all_checks=True)
    await client.connect()
    task = asyncio.ensure_future(client.encode(["a"]))
    await asyncio.sleep(0)

asyncio.run(main())
"""

CLOSED_AFTER_ITS_LOOP = """
import asyncio
from bert_serving.client import AsyncBertClient

client = AsyncBertClient(ignore_all_checks=True)
loop = asyncio.new_event_loop()
loop.run_until_complete(client.connect())
stream = client.encode(["a"], stream=True)
try:
    loop.run_until_complete(asyncio.wait_for(stream.__anext__(), 0.01))
except asyncio.TimeoutError:
    pass
loop.close()
client.close()
"""


@pytest.mark.parametrize(
    "script", [FORK, NOT_CLOSED, CLOSED_AFTER_ITS_LOOP], ids=["fork", "not closed", "loop closed"]
)
def test_in_its_own_process(script: str) -> None:
    if script is FORK and not hasattr(os, "fork"):
        pytest.skip("this system doesn't fork")
    # pyzmq warns of a client that isn't closed.
    flags = [] if script is NOT_CLOSED else ["-W", "error"]
    ended = subprocess.run(
        [sys.executable, *flags, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
