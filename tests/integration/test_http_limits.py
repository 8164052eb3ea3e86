"""Limits, disconnects, starts and stops of HTTP; each test has a server of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterator, List

import httpx
import psutil
import pytest
from support import PATIENCE, client_of, free_ports, http_flags, running, started, url_of

from bert_serving.server import BertServer, StartupError

pytestmark = pytest.mark.slow

ECHO = ["-engine", "echo"]


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Poll a condition that no event announces."""
    deadline = time.monotonic() + PATIENCE
    tick = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "waited in vain for " + what
        tick.wait(0.02)


def connected(server: BertServer) -> socket.socket:
    assert server.spec.http is not None
    return socket.create_connection(("127.0.0.1", server.spec.http.port), PATIENCE)


def request(body: bytes, length: int) -> bytes:
    """A request's head, and as much of its body as is given."""
    head = "POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length
    return head.encode("ascii") + body


def post(server: BertServer, body: Any, path: str = "/encode") -> httpx.Response:
    return httpx.post(url_of(server) + path, json=body, timeout=PATIENCE, trust_env=False)


def post_from(address: str, server: BertServer, body: Any) -> httpx.Response:
    """From another address of this machine."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(transport=transport, trust_env=False, timeout=PATIENCE) as client:
        return client.post(url_of(server) + "/encode", json=body)


def get(server: BertServer, path: str) -> httpx.Response:
    return httpx.get(url_of(server) + path, timeout=PATIENCE, trust_env=False)


def processes(name: str) -> List[psutil.Process]:
    """The processes of that name of the server that runs."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.cmdline()[-2:] == ["bert_serving.server.process", name]
    ]


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """It stands still until the block ends or resumes it."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def statistic(server: BertServer) -> Dict[str, Any]:
    found: Dict[str, Any] = get(server, "/status/server").json()["statistic"]
    return found


def drop_of(reader: socket.socket) -> int:
    """Bytes that come until the connection is cut."""
    size = 0
    with suppress(ConnectionError):
        while True:
            chunk = reader.recv(1 << 20)
            if not chunk:
                break
            size += len(chunk)
    return size


def test_more_than_may_be_served() -> None:
    """One request that doesn't get on with its body takes the only place."""
    body = json.dumps({"texts": ["hi"]}).encode("ascii")
    with running(*ECHO, *http_flags(), "-http_max_connect", "1") as server:
        with connected(server) as slow:
            slow.sendall(request(body[:3], len(body)))

            def refused() -> Any:
                answer = post(server, {"texts": ["hi"]})
                return answer if answer.status_code == 503 else None

            answer = wait_for(refused, "the first request to begin")
            assert answer.headers["retry-after"] == "1"
            assert get(server, "/readyz").status_code == 200
            slow.sendall(body[3:])
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
        assert post(server, {"texts": ["hi"]}).status_code == 200


def test_a_body_that_does_not_come() -> None:
    with running(*ECHO, *http_flags(), "-http_timeout", "1") as server, connected(server) as slow:
        slow.sendall(request(b'{"te', 100))
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("begin", ["GET /", "GET / HTTP/1.1\r\nX: "])
def test_a_head_that_is_too_long(begin: str) -> None:
    """It is refused before its end."""
    with running(*ECHO, *http_flags()) as server:
        with connected(server) as talker:
            talker.sendall(begin.encode("ascii") + b"a" * (64 << 10))
            assert talker.recv(100).startswith(b"HTTP/1.1 431 ")
            drop_of(talker)
        assert post(server, {"texts": ["hi"]}).status_code == 200


def test_heads_that_do_not_come() -> None:
    """Connections without any end, too."""
    with running(*ECHO, *http_flags(), "-http_timeout", "1") as server:
        with connected(server) as slow, connected(server) as silent:
            slow.sendall(b"POST /encode HTTP/1.1\r\nHost: localhost\r\n")
            assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
            assert silent.recv(100) == b""
        assert post(server, {"texts": ["hi"]}).status_code == 200


#: Its answer is far more than the system takes for a client that doesn't read.
MANY = json.dumps({"texts": ["text %d" % number for number in range(4096)]}).encode("ascii")


def test_an_answer_that_is_not_taken() -> None:
    """It holds the only place for its time, and is dropped."""
    flags = ["-http_max_connect", "1", "-http_timeout", "5"]
    with running(*ECHO, *http_flags(), *flags) as server, connected(server) as reader:
        reader.sendall(request(MANY, len(MANY)))
        wait_for(lambda: post(server, {"texts": ["hi"]}).status_code == 503, "it to be served")
        head = reader.recv(15)
        assert head == b"HTTP/1.1 200 OK"
        assert post(server, {"texts": ["hi"]}).status_code == 503
        wait_for(lambda: post(server, {"texts": ["hi"]}).status_code == 200, "the place")
        assert drop_of(reader) < 10_000_000


def test_a_deadline_that_passes() -> None:
    """A row a batch takes far longer than the only second that there is."""
    flags = ["-http_timeout", "1", "-http_max_rows", "1000000", "-max_batch_size", "1"]
    texts = ["late %d" % number for number in range(100_000)]
    with running(*ECHO, *http_flags(), *flags) as server:
        answer = post(server, {"texts": texts})
        assert answer.status_code == 504
        assert answer.json()["type"] == "DeadlineExceeded"
        wait_for(lambda: statistic(server)["num_waiting_row"] == 0, "the rows to be dropped")


@pytest.mark.usefixtures("unhurried")
def test_a_queue_that_is_full() -> None:
    with running(*ECHO, *http_flags(), "-max_queue_rows", "10", "-max_client_share", "1") as server:
        (worker,) = processes("worker-0")
        order = {"texts": ["a"] * 10}
        with ThreadPoolExecutor(1) as threads, suspended(worker):
            first = threads.submit(post, server, order)
            wait_for(lambda: statistic(server)["num_data_request"], "it to be accepted")
            answer = post(server, order)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            worker.resume()
            assert first.result(PATIENCE).status_code == 200
        # What could never be accepted isn't to be sent again.
        assert post(server, {"texts": ["a"] * 11}).status_code == 400


@pytest.mark.usefixtures("unhurried")
def test_one_user_leaves_place_for_others() -> None:
    """HTTP may have 4 of the 8 texts, and each machine 2."""
    with running(*ECHO, *http_flags(), "-max_queue_rows", "8") as server:
        (worker,) = processes("worker-0")
        with ThreadPoolExecutor(2) as threads, suspended(worker):
            first = threads.submit(post, server, {"texts": ["a"] * 2})
            wait_for(lambda: statistic(server)["num_data_request"] == 1, "it to be accepted")
            assert post(server, {"texts": ["a"]}).status_code == 429
            second = threads.submit(post_from, "127.0.0.2", server, {"texts": ["b"] * 2})
            wait_for(lambda: statistic(server)["num_data_request"] == 2, "it to be accepted")
            worker.resume()
            assert first.result(PATIENCE).status_code == second.result(PATIENCE).status_code == 200


def test_a_client_that_disconnects_cancels_its_work() -> None:
    rows = 40_000
    body = json.dumps({"texts": ["abandoned %d" % number for number in range(rows)]})
    content = body.encode("ascii")
    flags = ["-max_batch_size", "1", "-http_max_rows", str(rows)]
    with running(*ECHO, *http_flags(), *flags) as server:
        with connected(server) as leaver:
            leaver.sendall(request(content, len(content)))
            wait_for(lambda: statistic(server)["num_data_request"], "it to be accepted")
        wait_for(lambda: statistic(server)["num_open_request"] == 0, "it to be dropped")
        assert statistic(server)["num_batch"] < rows
        assert statistic(server)["num_waiting_row"] == 0
        text = get(server, "/metrics").text
        assert 'path="/encode",status="499"} 1.0' in text


# --------------------------------------------------------------------------- start and stop


def test_a_port_that_is_taken() -> None:
    port = free_ports()[0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen(1)
        with pytest.raises(StartupError, match="name another -http_port"), running(
            *ECHO, "-http_port", str(port)
        ):
            pass


def test_a_process_that_dies_is_replaced_and_the_service_goes_on() -> None:
    with running(*ECHO, *http_flags()) as server, client_of(server) as client:
        (before,) = processes("http")
        os.kill(before.pid, signal.SIGKILL)
        assert client.encode(["hello"]).shape == (1, 768)

        def ready() -> bool:
            try:
                return get(server, "/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(ready, "another process")
        assert [one.pid for one in processes("http")] != [before.pid]
        assert post(server, {"texts": ["hi"]}).status_code == 200


def test_what_is_under_way_is_answered_before_the_end() -> None:
    texts = ["text %d of a long job" % number for number in range(3000)]
    answers: List[httpx.Response] = []
    with running(*ECHO, *http_flags(), "-max_batch_size", "4") as server:
        asking = threading.Thread(target=lambda: answers.append(post(server, {"texts": texts})))
        asking.start()
        wait_for(lambda: statistic(server)["num_data_request"], "it to be accepted")
        server.stop()
        asking.join(PATIENCE)
    assert answers[0].status_code == 200
    assert len(answers[0].json()["result"]) == 3000


def test_idle_connections_do_not_hold_it_up() -> None:
    with running(*ECHO, *http_flags()) as server, httpx.Client(trust_env=False) as client:
        assert client.get(url_of(server) + "/healthz", timeout=PATIENCE).status_code == 200
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < PATIENCE


def test_answers_that_are_not_taken_do_not_hold_it_up() -> None:
    """They are dropped at the end of the time for what is under way: it isn't waited in vain."""
    flags = [*http_flags(), "-http_timeout", "600", "-drain_timeout", "1"]
    address = ("127.0.0.1", int(flags[1]))
    with started(*ECHO, *flags) as service, socket.create_connection(address, PATIENCE) as reader:
        reader.sendall(request(MANY, len(MANY)))
        assert reader.recv(15) == b"HTTP/1.1 200 OK"
        service.process.terminate()
        said = service.finish()
    assert "stopping" in said
    assert "some HTTP requests were not answered" not in said
    assert "Traceback" not in said
