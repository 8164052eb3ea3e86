"""Starting, stopping and losing processes. Nothing may be left behind, which a fixture checks."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Iterator, List, Optional

import numpy as np
import psutil
import pytest
from support import PATIENCE, client_of, command, free_ports, http_flags, port_flags, running

from bert_serving.client import BertClient, ServerError
from bert_serving.server import BertServer, StartupError
from bert_serving.server.helper import get_args_parser


def wait_for(condition: Callable[[], Any], what: str) -> None:
    """Poll a condition that no event announces, such as the end of another process's child."""
    deadline = time.monotonic() + PATIENCE
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited in vain for " + what
        tick.wait(0.02)


class Started:
    """bert-serving-start as a process of its own."""

    def __init__(self, *flags: str, before: Optional[Callable[[], None]] = None) -> None:
        self.port, self.port_out = free_ports()
        ports = ["-port", str(self.port), "-port_out", str(self.port_out)]
        self.process = subprocess.Popen(
            command("start") + ports + list(flags),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            preexec_fn=before,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "client.encode" in line:
                break
        self.children = psutil.Process(self.process.pid).children()

    def client(self, **options: Any) -> BertClient:
        return BertClient(port=self.port, port_out=self.port_out, **options)

    def finish(self) -> str:
        """Wait for the end; what it said on standard error."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        psutil.wait_procs(self.children, timeout=PATIENCE)
        assert not [child for child in self.children if child.is_running()]
        return errors


@contextmanager
def started(*flags: str, before: Optional[Callable[[], None]] = None) -> Iterator[Started]:
    service = Started(*flags, before=before)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
        service.finish()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_order(number: int) -> None:
    with started("-engine", "echo", "-num_worker", "2") as service:
        assert len(service.children) == 4
        with service.client() as client:
            client.encode(["hello"])
            service.process.send_signal(number)
            errors = service.finish()
    assert service.process.returncode == 0
    assert "stopped" in errors
    assert "Traceback" not in errors
    assert "killed" not in errors


def test_what_was_accepted_is_answered_before_the_end() -> None:
    texts = ["text %d of a long job" % number for number in range(4000)]
    with started("-engine", "echo") as service, service.client() as client:
        client.encode(texts, blocking=False)
        # The job is accepted once a request that was sent after it is answered.
        assert client.server_config["engine"] == "echo"
        service.process.send_signal(signal.SIGTERM)
        (vectors,) = client.fetch_all()
        assert vectors.shape == (4000, 768)
        service.finish()
    assert service.process.returncode == 0


def few_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))


def test_more_connections_than_the_usual_limit_of_files() -> None:
    """Silent ones, on both ports; a client gets through all the same."""
    with started("-engine", "echo", before=few_files) as service, ExitStack() as silent:
        for port in (service.port, service.port_out):
            for _ in range(200):
                silent.enter_context(socket.create_connection(("127.0.0.1", port)))
        with service.client(timeout=PATIENCE * 1000) as client:
            assert client.encode(["hello"]).shape == (1, 768)
        service.process.send_signal(signal.SIGTERM)
        service.finish()


def test_terminate_command() -> None:
    with started("-engine", "echo") as service:
        asked = subprocess.run(
            command("terminate") + ["-port", str(service.port)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert asked.returncode == 0
        assert str(service.port) in asked.stdout
        service.finish()
    assert service.process.returncode == 0


def test_terminate_without_a_server() -> None:
    port = free_ports()[0]
    asked = subprocess.run(
        command("terminate") + ["-port", str(port), "-timeout", "200"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert asked.returncode == 1
    assert str(port) in asked.stderr
    assert "Traceback" not in asked.stderr


def test_children_end_with_a_supervisor_that_was_killed(tmp_path: Any) -> None:
    # A killed process can't remove its directory; it is in one that the test owns.
    os.environ["ZEROMQ_SOCK_TMP_DIR"] = str(tmp_path)
    try:
        with started("-engine", "echo", *http_flags()) as service:
            assert len(service.children) == 4
            service.process.kill()
            service.finish()
    finally:
        del os.environ["ZEROMQ_SOCK_TMP_DIR"]


def test_a_killed_worker_loses_nothing_and_is_replaced() -> None:
    texts = ["text %d of a job" % number for number in range(20000)]
    with running("-engine", "echo", "-num_worker", "2") as server, client_of(server) as client:
        whole = client.encode(texts)
        workers = [
            child
            for child in psutil.Process().children()
            if child.pid in [c.process.pid for c in worker_children(server)]
        ]
        assert len(workers) == 2
        client.encode(texts, blocking=False)
        workers[0].kill()
        (vectors,) = client.fetch_all()
        np.testing.assert_array_equal(vectors, whole)
        wait_for(
            lambda: [c.is_ready for c in worker_children(server)] == [True, True],
            "the replacement",
        )
        np.testing.assert_array_equal(client.encode(texts[:50]), whole[:50])


def worker_children(server: BertServer) -> List[Any]:
    children = list(server._supervisor._children.values())
    return [child for child in children if child.role == "worker"]


@pytest.mark.parametrize("role", ["sink", "ventilator"])
def test_the_service_stops_when_it_cannot_go_on(role: str) -> None:
    with started("-engine", "echo") as service:
        for child in service.children:
            if child.cmdline()[-1] == role:
                child.kill()
        errors = service.finish()
    assert service.process.returncode == 1
    assert role in errors
    assert "SIGKILL" in errors


def test_in_process_server_raises_what_keeps_it_from_starting() -> None:
    with running("-engine", "echo") as server:
        taken = ["-port", str(server.spec.port), "-port_out", str(free_ports()[0])]
        with pytest.raises(StartupError, match=str(server.spec.port)):
            BertServer(get_args_parser().parse_args(["-engine", "echo"] + taken))


def test_a_port_that_is_taken_after_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bert_serving.server.preparation.check_ports", lambda args: None)
    with running("-engine", "echo") as server:
        taken = ["-port", str(server.spec.port), "-port_out", str(free_ports()[0])]
        other = BertServer(get_args_parser().parse_args(["-engine", "echo"] + taken))
        with pytest.raises(StartupError, match="ventilator can't start"), other:
            pass


def test_close_twice_and_without_a_start() -> None:
    server = BertServer(get_args_parser().parse_args(port_flags() + ["-engine", "echo"]))
    server.start()
    server.wait_until_ready()
    server.close()
    server.close()
    assert not server.is_ready.is_set()
    never_started = BertServer(get_args_parser().parse_args(port_flags() + ["-engine", "echo"]))
    never_started.close()
    never_started.close()


def test_a_stop_that_comes_before_the_start() -> None:
    server = BertServer(get_args_parser().parse_args(port_flags() + ["-engine", "echo"]))
    server.stop()
    server.start()
    server.join(PATIENCE)
    assert not server.is_alive()


def test_a_program_without_a_guard_around_its_main_part(tmp_path: Any) -> None:
    port, port_out = free_ports()
    program = tmp_path / "program.py"
    program.write_text(
        "from bert_serving.client import BertClient\n"
        "from bert_serving.server import BertServer\n"
        "from bert_serving.server.helper import get_args_parser\n"
        "flags = ['-engine', 'echo', '-port', '%d', '-port_out', '%d']\n"
        "with BertServer(get_args_parser().parse_args(flags)) as server:\n"
        "    with BertClient(port=%d, port_out=%d) as client:\n"
        "        print(client.encode(['hello']).shape)\n" % (port, port_out, port, port_out)
    )
    run = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout == "(1, 768)\n", run.stderr
    assert run.returncode == 0


def kind_of_first_refusal(client: BertClient) -> str:
    """Ask until the server refuses."""
    while True:
        try:
            client.encode(["late"])
        except ServerError as error:
            return error.kind


def test_new_requests_are_refused_while_stopping() -> None:
    """A connection that outlives the start of the stop gets errors, not silence."""
    texts = ["text %d of a long job" % number for number in range(30000)]
    with running("-engine", "echo") as server:
        patient, late = client_of(server), client_of(server, timeout=PATIENCE * 1000)
        with patient, late:
            patient.encode(texts, blocking=False)
            # The job is accepted once a request that was sent after it is answered.
            assert patient.server_config
            stopper = threading.Thread(target=server.close)
            stopper.start()
            assert kind_of_first_refusal(late) == "shutting_down"
            (vectors,) = patient.fetch_all()
            assert vectors.shape == (30000, 768)
            stopper.join(PATIENCE)
            assert not stopper.is_alive()
