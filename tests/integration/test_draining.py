"""Stopping while clients of all kinds wait for answers: protocol 1, protocol 2 and HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List

import httpx
import numpy as np
import psutil
import pytest
from integration.test_recovery import at_the_same_time, join, texts_of
from support import (
    PATIENCE,
    RawClient,
    Started,
    children_of,
    command,
    free_ports,
    started,
    wait_for,
)

from bert_serving.client import BertClient, ShuttingDown
from bert_serving.client.frames import encode_request, encode_texts
from bert_serving.client.protocol import ErrorReply, Request, VectorsReply
from bert_serving.client.reply_frames import decode_reply
from bert_serving.server.engines.faults import VARIABLE

pytestmark = pytest.mark.slow

TEXTS = texts_of("drain", 1000)
#: Stopped, it holds whatever was sent to it.
WORKER = "worker-0"


class Service:
    """One whose only worker is stopped, while a client of each kind waits for ``texts``."""

    def __init__(self, service: Started, http_port: int, texts: List[str]) -> None:
        self.service = service
        self.answers: Dict[str, Any] = {}
        self.http_port = http_port
        self._url = "http://127.0.0.1:%d/encode" % http_port
        self._texts = texts
        client = service.client(timeout=PATIENCE * 1000)
        with client:
            self.expected = client.encode(TEXTS)
            (self._worker,) = children_of(service.process.pid, WORKER)
            if texts is TEXTS:
                self._worker.send_signal(signal.SIGSTOP)
            works = [self._protocol_1, self._protocol_2, self._http]
            self.threads = at_the_same_time(works)
            wait_for(lambda: open_requests(client) == 3, "the requests to be accepted")

    def go_on(self) -> None:
        self._worker.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.service.process.send_signal(signal.SIGTERM)

    def finish(self) -> str:
        """Every client was answered and nothing is left; what the service said."""
        join(self.threads)
        errors = self.service.finish()
        assert self.service.process.returncode == 0
        assert "Traceback" not in errors
        return errors

    def _protocol_1(self) -> None:
        with RawClient(SimpleNamespace(spec=self.service)) as client:  # type: ignore[arg-type]
            request = Request(client.identity, encode_texts(self._texts), 1, len(self._texts))
            client.send(*encode_request(request)[:4])
            self.answers["protocol 1"] = decode_reply(client.receive(2 * PATIENCE))

    def _protocol_2(self) -> None:
        with self.service.client(timeout=2 * PATIENCE * 1000) as client:
            try:
                self.answers["protocol 2"] = client.encode(self._texts)
            except ShuttingDown as error:
                self.answers["protocol 2"] = error

    def _http(self) -> None:
        with httpx.Client(timeout=2 * PATIENCE, trust_env=False) as client:
            self.answers["http"] = client.post(self._url, json={"texts": self._texts})


def open_requests(client: BertClient) -> int:
    number: int = client.server_status["statistic"]["num_open_request"]
    return number


@contextmanager
def held(tmp_path: Any, *flags: str, texts: List[str] = TEXTS) -> Iterator[Service]:
    """``texts`` other than TEXTS have to hold the worker up by themselves."""
    os.environ["ZEROMQ_SOCK_TMP_DIR"] = str(tmp_path)
    try:
        (port,) = free_ports()[:1]
        with started("-engine", "echo", "-http_port", str(port), *flags) as service:
            yield Service(service, port, texts)
    finally:
        del os.environ["ZEROMQ_SOCK_TMP_DIR"]
    assert list(tmp_path.iterdir()) == [], "files are left"


def test_what_was_accepted_is_finished(tmp_path: Any) -> None:
    with held(tmp_path) as one:
        one.stop()
        one.go_on()
        one.finish()
    reply = one.answers["protocol 1"]
    assert isinstance(reply, VectorsReply)
    np.testing.assert_array_equal(reply.array, one.expected)
    np.testing.assert_array_equal(one.answers["protocol 2"], one.expected)
    result = one.answers["http"].json()["result"]
    np.testing.assert_array_equal(np.array(result, np.float32), one.expected)


def test_what_has_no_time_left_is_answered_with_an_error(tmp_path: Any) -> None:
    with held(tmp_path, "-drain_timeout", "1") as one:
        one.stop()
        one.finish()
    reply = one.answers["protocol 1"]
    assert isinstance(reply, ErrorReply)
    assert reply.kind == "shutting_down"
    assert isinstance(one.answers["protocol 2"], ShuttingDown)
    assert one.answers["http"].status_code == 503


@pytest.mark.parametrize("name", ["sink", "ventilator"])
def test_a_stop_while_the_pipeline_is_started_again(name: str, tmp_path: Any) -> None:
    """HTTP finishes what it has, which goes to the new pipeline."""
    with held(tmp_path) as one:
        (lost,) = children_of(one.service.process.pid, name)
        lost.kill()
        one.stop()
        one.finish()
    reply = one.answers["protocol 1"]
    assert isinstance(reply, ErrorReply)
    assert "send it again" in reply.message
    asked_again = one.answers["protocol 2"]
    if not isinstance(asked_again, ShuttingDown):
        np.testing.assert_array_equal(asked_again, one.expected)
    assert one.answers["http"].status_code == 200
    result = one.answers["http"].json()["result"]
    np.testing.assert_array_equal(np.array(result, np.float32), one.expected)


def test_a_second_signal_stops_at_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the time for what was accepted is over."""
    monkeypatch.setenv(VARIABLE, "~=hang")
    flags = ("-drain_timeout", str(100 * PATIENCE), "-worker_timeout", "0")
    with held(tmp_path, *flags, texts=["~"]) as one:
        one.stop()
        wait_for(lambda: refuses(one.http_port), "the stop to begin")
        one.stop()
        one.service.process.wait(PATIENCE)
        assert one.service.process.returncode == 0
        one.service.finish()
    # Whoever isn't answered doesn't wait for ever, but this test does no longer.
    for thread in one.threads:
        thread.join(4 * PATIENCE)
        assert not thread.is_alive()
    assert not isinstance(one.answers.get("protocol 1"), VectorsReply)
    assert not isinstance(one.answers.get("protocol 2"), np.ndarray)
    assert "http" not in one.answers or one.answers["http"].status_code != 200


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


#: As the only process of a container, nearly: signals without a handler don't reach process 1.
IN_A_CONTAINER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def namespaces_are_allowed() -> bool:
    words = [*IN_A_CONTAINER, "true"]
    try:
        return subprocess.run(words, timeout=PATIENCE, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not namespaces_are_allowed(), reason="this user may make no namespaces")
def test_as_process_1() -> None:
    port, port_out = free_ports()
    ports = ["-port", str(port), "-port_out", str(port_out)]
    process = subprocess.Popen(
        IN_A_CONTAINER + command("start") + ["-engine", "echo", *ports],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    try:
        with BertClient(port=port, port_out=port_out, timeout=PATIENCE * 1000) as client:
            assert client.encode(["hello"]).shape == (1, 768)
        (inside,) = psutil.Process(process.pid).children()
        inside.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert "stopping: finishing what was accepted" in errors
