"""Each of the service's processes is killed or stopped while clients ask, who get their answers."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import Any, Callable, List

import httpx
import numpy as np
import psutil
import pytest
import zmq
from support import (
    PATIENCE,
    RawClient,
    children_of,
    client_of,
    http_flags,
    running,
    url_of,
    wait_for,
    wait_until_whole,
)

from bert_serving.client.frames import encode_request, encode_texts
from bert_serving.client.protocol import ErrorReply, Request
from bert_serving.client.reply_frames import decode_reply
from bert_serving.server import BertServer

pytestmark = pytest.mark.slow

FLAGS = ["-engine", "echo", "-num_worker", "2", *http_flags()]
#: Seconds for a call that a fault interrupts: noticing it, starting again and computing.
LONG = 3 * PATIENCE


def texts_of(name: str, count: int) -> List[str]:
    return ["%s %d %s" % (name, number, "x" * (number * 7 % 40)) for number in range(count)]


def at_the_same_time(works: List[Callable[[], None]]) -> List[threading.Thread]:
    """Threads that are running; what one of them raises is raised by :func:`join`."""
    threads = [_Work(work) for work in works]
    for thread in threads:
        thread.start()
    return list(threads)


class _Work(threading.Thread):
    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._work = work
        self.error: Any = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


def join(threads: List[Any]) -> None:
    for thread in threads:
        thread.join(2 * LONG)
        assert not thread.is_alive(), "a client hangs"
        if thread.error is not None:
            raise thread.error


def ask_over_http(server: BertServer, texts: List[str], expected: np.ndarray) -> None:
    order = {"texts": texts}
    with httpx.Client(base_url=url_of(server), timeout=LONG, trust_env=False) as http:
        answer = http.post("/encode", json=order).json()
    np.testing.assert_array_equal(np.array(answer["result"], np.float32), expected)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda n: n.name)
@pytest.mark.parametrize("name", ["worker-0", "sink", "ventilator", "http"])
def test_calls_outlive_a_lost_process(name: str, number: int) -> None:
    texts = {client: texts_of(str(client), 8000) for client in range(3)}
    few = texts_of("http", 1000)
    with running(*FLAGS) as server, client_of(server, timeout=LONG * 1000) as client:
        expected = {one: client.encode(texts[one]) for one in texts}
        of_few = client.encode(few)

        def ask(one: int) -> Callable[[], None]:
            def work() -> None:
                with client_of(server, timeout=LONG * 1000) as own:
                    for _ in range(2):
                        np.testing.assert_array_equal(own.encode(texts[one]), expected[one])

            return work

        works = [ask(one) for one in texts]
        if name != "http":
            works.append(lambda: ask_over_http(server, few, of_few))
        threads = at_the_same_time(works)
        wait_for(
            lambda: client.server_status["statistic"]["num_open_request"], "work to be under way"
        )
        (lost,) = children_of(os.getpid(), name)
        lost.send_signal(number)
        join(threads)
        wait_for(
            lambda: [one for one in children_of(os.getpid(), name) if one != lost],
            "another in the place of the lost process",
        )
        wait_until_whole(server)
        np.testing.assert_array_equal(client.encode(few), of_few)
        ask_over_http(server, few, of_few)


def test_readiness_goes_and_comes_with_the_pipeline() -> None:
    with running(*FLAGS) as server, httpx.Client(
        base_url=url_of(server), timeout=PATIENCE, trust_env=False
    ) as http:
        assert http.get("/readyz").status_code == 200
        (sink,) = children_of(os.getpid(), "sink")
        sink.kill()
        wait_for(lambda: http.get("/readyz").status_code == 503, "the loss to be noticed")
        assert http.get("/healthz").status_code == 200
        wait_for(lambda: http.get("/readyz").status_code == 200, "the pipeline")


def test_readiness_goes_and_comes_with_the_last_worker() -> None:
    with running("-engine", "echo", *http_flags()) as server, httpx.Client(
        base_url=url_of(server), timeout=PATIENCE, trust_env=False
    ) as http:
        is_noticed = threading.Event()

        def kill_all() -> None:
            while not is_noticed.wait(0.02):
                for worker in children_of(os.getpid(), "worker-0"):
                    with suppress(psutil.NoSuchProcess):
                        worker.kill()

        assert http.get("/readyz").status_code == 200
        killing = at_the_same_time([kill_all])
        try:
            wait_for(lambda: http.get("/readyz").status_code == 503, "the loss to be noticed")
        finally:
            is_noticed.set()
        join(killing)
        assert http.get("/healthz").status_code == 200
        wait_for(lambda: http.get("/readyz").status_code == 200, "a worker", LONG)


def test_a_worker_that_is_lost_while_it_is_replaced() -> None:
    with running("-engine", "echo") as server, client_of(server, timeout=LONG * 1000) as client:
        expected = client.encode(["hello"])
        (first,) = children_of(os.getpid(), "worker-0")
        first.kill()
        wait_for(
            lambda: [c for c in children_of(os.getpid(), "worker-0") if c.pid != first.pid],
            "the replacement",
        )
        (second,) = children_of(os.getpid(), "worker-0")
        second.kill()
        np.testing.assert_array_equal(client.encode(["hello"]), expected)
        wait_until_whole(server)


def expect_loss(client: RawClient) -> None:
    """Request 7 is answered with the error of one that was lost with a process."""
    reply = decode_reply(client.receive(LONG))
    assert isinstance(reply, ErrorReply)
    assert (reply.request_id, reply.kind) == (7, "internal")
    assert "send it again" in reply.message


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("name", ["sink", "ventilator"])
def test_a_client_of_protocol_1_gets_an_error_rather_than_silence(name: str) -> None:
    """It doesn't ask again by itself."""
    with running("-engine", "echo") as server, RawClient(server) as old, client_of(
        server, timeout=LONG * 1000
    ) as client:
        (worker,) = children_of(os.getpid(), "worker-0")
        worker.send_signal(signal.SIGSTOP)  # so that the request is open
        request = Request(old.identity, encode_texts(["hello"]), 7, 1)
        old.send(*encode_request(request)[:4])
        wait_for(
            lambda: client.server_status["statistic"]["num_open_request"] == 1,
            "the request to be accepted",
        )
        children_of(os.getpid(), name)[0].kill()
        expect_loss(old)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("name", ["sink", "ventilator"])
def test_a_request_of_protocol_1_that_is_being_tokenized(name: str) -> None:
    with running("-engine", "echo") as server, RawClient(server) as old, client_of(
        server, timeout=LONG * 1000
    ) as client:
        (worker,) = children_of(os.getpid(), "worker-0")
        worker.send_signal(signal.SIGSTOP)
        texts = ["a b"] * 200_000
        old.send(*encode_request(Request(old.identity, encode_texts(texts), 7, len(texts)))[:4])
        wait_for(
            lambda: client.server_status["statistic"]["num_open_request"] == 1,
            "the request to be accepted",
        )
        children_of(os.getpid(), name)[0].kill()
        expect_loss(old)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("name", ["sink", "ventilator"])
def test_a_reply_of_protocol_1_that_waits_for_its_client(name: str) -> None:
    late = b"late"
    with running("-engine", "echo") as server, RawClient(server) as old, client_of(
        server, timeout=LONG * 1000
    ) as client:

        def is_computed() -> bool:
            work = client.server_status["statistic"]
            return bool(work["num_data_request"] == 1 and work["num_open_request"] == 0)

        old.send(*encode_request(Request(late, encode_texts(["hello"]), 7, 1))[:4])
        wait_for(is_computed, "the reply")
        (lost,) = children_of(os.getpid(), name)
        lost.kill()
        wait_for(lambda: not lost.is_running(), "the lost process's end")
        wait_until_whole(server)
        old.receiver.setsockopt(zmq.SUBSCRIBE, late)
        expect_loss(old)
