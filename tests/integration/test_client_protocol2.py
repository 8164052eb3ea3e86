"""What clients ask of a server of protocol 2, through real processes; echoed vectors tell their
text."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import unicodedata
from contextlib import contextmanager
from typing import Any, Awaitable, Callable, Iterator, List, Tuple

import numpy as np
import psutil
import pytest
from support import PATIENCE, command, environment, free_ports, running

from bert_serving.client import AsyncBertClient, BadRequest, BertClient, TextTooLong
from bert_serving.server import BertServer
from bert_serving.server.helper import get_args_parser

Connect = Callable[..., BertClient]
WORD = "a"


def texts_of(name: str, count: int) -> List[str]:
    """Different texts of different lengths."""
    return ["%s %d %s" % (name, number, "x" * (number * 7 % 40)) for number in range(count)]


def plain(text: str) -> str:
    """As the tokenizer sees it: in lower case, without accents."""
    letters = unicodedata.normalize("NFD", text.lower())
    return "".join(one for one in letters if unicodedata.category(one) != "Mn")


def use(server: BertServer, work: Callable[[AsyncBertClient], Awaitable[Any]]) -> Any:
    """What ``work`` returns, which gets a client of ``server``."""

    async def run() -> Any:
        ports = (server.spec.port, server.spec.port_out)
        async with AsyncBertClient("127.0.0.1", *ports, timeout=PATIENCE * 1000) as client:
            return await work(client)

    return asyncio.run(run())


# ---------------------------------------------------------------------------------- options


def test_tokens_are_found_again_in_the_text(connect: Connect) -> None:
    texts = ["First do it, then do it right!", "ñandú 😀 again"]
    _, tokens, offsets = connect().encode(texts, show_offsets=True)
    for text, row, spans in zip(texts, tokens, offsets):
        assert row[0] == "[CLS]"
        assert row[-1] == "[SEP]"
        assert spans[0] == spans[-1] == [0, 0]
        for token, (start, stop) in zip(row[1:-1], spans[1:-1]):
            piece = token[2:] if token.startswith("##") else token
            assert token == "[UNK]" or plain(text[start:stop]) == piece


def test_details(connect: Connect) -> None:
    client = connect()
    response = client.encode(["hello", "hello world"], details=True, show_tokens=True)
    assert response.num_tokens == sum(len(row) for row in response.tokens)
    assert response.truncated == ()
    assert 0 <= response.timings.queue <= response.timings.total
    assert response.timings.tokenize <= response.timings.total
    assert response.model == client.server_config["model_fingerprint"]
    for _, part in client.encode(["hello", "hello world"], details=True, stream=True):
        assert part.model == response.model


def test_half_precision_and_unit_length(connect: Connect) -> None:
    client = connect()
    whole = client.encode(["hello world"])
    half = client.encode(["hello world"], dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, whole, rtol=1e-3)
    unit = client.encode(["hello world"], normalize=True)
    np.testing.assert_allclose(unit, whole / np.linalg.norm(whole), rtol=1e-5)


def test_pairs(connect: Connect) -> None:
    client = connect()
    joined = client.encode(["how old are you ? ||| i am six"])
    np.testing.assert_array_equal(client.encode(pairs=[("how old are you ?", "i am six")]), joined)
    _, tokens = client.encode(pairs=[("a ||| b", "c")], show_tokens=True)
    assert tokens[0].count("[SEP]") == 2
    assert tokens[0].count("|") == 3


def test_truncation(connect: Connect) -> None:
    client = connect()
    limit = client.server_config["max_length"]
    fits, long = " ".join([WORD] * (limit - 2)), " ".join([WORD] * (limit + 9)) + " end"
    client.encode([fits], truncate=False)
    with pytest.raises(TextTooLong, match="1"):
        client.encode([fits, long], truncate=False)
    with pytest.warns(UserWarning, match=r"row 1, .*\(%d\)" % limit):
        _, tokens = client.encode([fits, long], show_tokens=True)
    assert len(tokens[1]) == limit
    assert tokens[1][-2] == WORD
    with pytest.warns(UserWarning, match="row 0"):
        _, tokens = client.encode([long], show_tokens=True, truncate="left")
    assert "".join(tokens[0]).replace("##", "").endswith("end[SEP]")


# ---------------------------------------------------------------------------------- streams


def test_stream(connect: Connect) -> None:
    client, texts = connect(), texts_of("stream", 3000)
    whole = client.encode(texts)
    seen = np.zeros(len(texts), int)
    parts = 0
    for rows, array in client.encode(texts, stream=True):
        np.testing.assert_array_equal(array, whole[rows])
        seen[rows] += 1
        parts += 1
    assert (seen == 1).all()
    assert parts > 1
    np.testing.assert_array_equal(client.encode(texts, show_progress=True), whole)


def test_a_stream_closed_early_leaves_nothing(connect: Connect) -> None:
    client = connect()
    with client.encode(texts_of("early", 20_000), stream=True) as parts:
        next(parts)
    assert client.encode(["hello"]).shape == (1, 768)
    assert client.pending_request == set()


# ------------------------------------------------------------------------------ many at once


def test_one_client_of_32_threads(connect: Connect) -> None:
    """10,000 requests; every answer goes to its asker."""
    client, total, threads = connect(), 10_000, 32
    texts = texts_of("shared", 50)
    expected = client.encode(texts)
    failures: List[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, total, threads):
                (vector,) = client.encode([texts[number % 50]])
                np.testing.assert_array_equal(vector, expected[number % 50])
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE * 5)
        assert not worker.is_alive()
    assert failures == []
    assert client.dropped_replies == 0


def test_a_thousand_tasks_of_which_half_are_cancelled(echo_server: BertServer) -> None:
    async def work(client: AsyncBertClient) -> Tuple[Any, List[Any]]:
        texts = texts_of("task", 1000)
        expected = await client.encode(texts)
        tasks = [asyncio.ensure_future(client.encode([text] * 20)) for text in texts]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return expected, await asyncio.gather(*tasks, return_exceptions=True)

    expected, results = use(echo_server, work)
    for number, result in enumerate(results):
        if number % 2:
            np.testing.assert_array_equal(result, np.repeat(expected[number : number + 1], 20, 0))
        else:
            assert isinstance(result, asyncio.CancelledError)


@pytest.mark.usefixtures("unhurried")
def test_what_is_cancelled_is_not_computed() -> None:
    """Nothing of it but what a worker held already, which here stands still meanwhile."""
    count, rows = 1000, 20
    others = set(psutil.Process().children(recursive=True))
    with running("-engine", "echo", "-max_batch_size", "40") as server:
        own = set(psutil.Process().children(recursive=True)) - others
        (worker,) = [child for child in own if child.cmdline()[-1] == "worker-0"]

        async def until(client: AsyncBertClient, key: str, wanted: int) -> None:
            while (await client.server_status())["statistic"][key] != wanted:
                pass  # each question goes through the ventilator, which counts on

        async def work(client: AsyncBertClient) -> List[float]:
            texts = texts_of("task", count)
            expected = await client.encode(texts)
            before = (await client.server_status())["statistic"]
            worker.suspend()
            tasks = [asyncio.ensure_future(client.encode([text] * rows)) for text in texts]
            await until(client, "num_open_request", count)
            for task in tasks[::2]:
                task.cancel()
            await until(client, "num_cancelled", count // 2)
            await until(client, "num_open_request", count // 2)
            worker.resume()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for number, result in enumerate(results):
                if number % 2:
                    np.testing.assert_array_equal(result, [expected[number]] * rows)
                else:
                    assert isinstance(result, asyncio.CancelledError)
            await until(client, "num_open_request", 0)
            after = (await client.server_status())["statistic"]
            assert after["num_waiting_row"] == 0
            return [one["histograms"]["batch_rows"]["sum"] for one in (before, after)]

        before, after = use(server, work)
        held = server.spec.credits * server.spec.max_batch_size
    wanted = count // 2 * rows
    assert wanted <= after - before <= wanted + held


def test_stream_of_tasks(echo_server: BertServer) -> None:
    async def one(client: AsyncBertClient, name: str) -> None:
        texts = texts_of(name, 300)
        whole = await client.encode(texts)
        count = 0
        async for rows, array in client.encode(texts, stream=True):
            np.testing.assert_array_equal(array, whole[rows])
            count += len(rows)
        assert count == len(texts)

    async def work(client: AsyncBertClient) -> None:
        await asyncio.gather(*[one(client, "task %d" % number) for number in range(20)])

    use(echo_server, work)


# -------------------------------------------------------------------------------- reconnect


def test_calls_outlive_a_restart() -> None:
    """While threads ask, the server stops and another one starts on its ports."""
    port, port_out = free_ports()
    flags = ["-port", str(port), "-port_out", str(port_out), "-engine", "echo"]
    texts = texts_of("restart", 40)
    answered = [threading.Event() for _ in range(8)]
    go_on = threading.Event()
    failures: List[BaseException] = []

    def start() -> BertServer:
        server = BertServer(get_args_parser().parse_args(flags))
        server.start()
        server.wait_until_ready()
        return server

    server = start()
    with BertClient(port=port, port_out=port_out, timeout=PATIENCE * 1000) as client:
        expected = client.encode(texts)

        def work(number: int) -> None:
            try:
                np.testing.assert_array_equal(client.encode(texts), expected)
                answered[number].set()
                assert go_on.wait(PATIENCE)
                np.testing.assert_array_equal(client.encode(texts), expected)
            except BaseException as error:
                failures.append(error)
            finally:
                answered[number].set()

        workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for worker in workers:
            worker.start()
        for event in answered:
            assert event.wait(PATIENCE)
        server.close()
        go_on.set()  # asked while there is no server
        server = start()
        for worker in workers:
            worker.join(PATIENCE)
            assert not worker.is_alive()
        assert failures == []
        assert client.pending_request == set()
    server.close()


@contextmanager
def process(ports: Tuple[int, int], scratch: Any) -> Iterator["subprocess.Popen[str]"]:
    """A server as a process of its own, ready to answer, that is killed in the end."""
    flags = ["-engine", "echo", "-port", str(ports[0]), "-port_out", str(ports[1])]
    server = subprocess.Popen(
        command("start") + flags,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A killed process can't remove its directory.
        env=environment(ZEROMQ_SOCK_TMP_DIR=str(scratch)),
    )
    children: List[psutil.Process] = []
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "client.encode" in line:
                break
        children = psutil.Process(server.pid).children()
        yield server
    finally:
        server.kill()
        server.communicate(timeout=PATIENCE)
        _, left = psutil.wait_procs(children, timeout=PATIENCE)
        assert not left


def test_calls_outlive_a_server_that_is_killed(tmp_path: Any) -> None:
    """What it had accepted and not answered is asked again of the next one."""
    ports = free_ports()
    texts = texts_of("killed", 30_000)
    results: List[Any] = [None, None]

    def whole() -> None:
        results[0] = client.encode(texts, timeout=PATIENCE * 3)

    def in_parts() -> None:
        array = np.full((len(texts), 768), np.nan, np.float32)
        for rows, part in client.encode(texts, stream=True, timeout=PATIENCE * 3):
            assert np.isnan(array[rows, 0]).all()
            array[rows] = part
            has_begun.set()
        results[1] = array

    has_begun = threading.Event()
    workers = [threading.Thread(target=work) for work in (whole, in_parts)]
    with process(ports, tmp_path):
        client = BertClient("127.0.0.1", *ports, timeout=PATIENCE * 1000)
        for worker in workers:
            worker.start()
        assert has_begun.wait(PATIENCE)
    with process(ports, tmp_path), client:
        for worker in workers:
            worker.join(PATIENCE * 3)
            assert not worker.is_alive()
        expected = client.encode(texts, timeout=PATIENCE * 3)
    np.testing.assert_array_equal(results[0], expected)
    np.testing.assert_array_equal(results[1], expected)


def test_a_server_that_starts_later() -> None:
    port, port_out = free_ports()
    made: List[BertClient] = []

    def connect() -> None:
        made.append(BertClient(port=port, port_out=port_out, timeout=PATIENCE * 1000))

    waiting = threading.Thread(target=connect)
    waiting.start()
    flags = ["-port", str(port), "-port_out", str(port_out), "-engine", "echo"]
    with BertServer(get_args_parser().parse_args(flags)):
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        with made[0] as client:
            assert client.encode(["hello"]).shape == (1, 768)


def test_a_pooling_of_its_own() -> None:
    with running("-engine", "echo", "-pooling_strategy", "REDUCE_MEAN") as server, BertClient(
        port=server.spec.port, port_out=server.spec.port_out, timeout=PATIENCE * 1000
    ) as client:
        tokens = client.encode(["hello world"], pooling_strategy="NONE", pooling_layer=-1)
        assert tokens.ndim == 3
        mean = client.encode(["hello world"], pooling_strategy="REDUCE_MEAN", pooling_layer=-1)
        assert mean.shape == (1, 768)


def test_a_server_that_pools_its_own_way_only() -> None:
    flags = ["-engine", "echo", "-pooling_strategy", "REDUCE_MEAN", "-fixed_pooling"]
    with running(*flags) as server, BertClient(
        port=server.spec.port, port_out=server.spec.port_out, timeout=PATIENCE * 1000
    ) as client:
        client.encode(["hello world"], pooling_strategy="REDUCE_MEAN")
        with pytest.raises(BadRequest, match="fixed_pooling"):
            client.encode(["hello world"], pooling_strategy="CLS_TOKEN")
