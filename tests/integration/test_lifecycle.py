"""Starting, stopping and losing processes. Nothing may be left behind, which a fixture checks."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import Any, Set

import pytest
from support import (
    PATIENCE,
    children_of,
    client_of,
    command,
    free_ports,
    http_flags,
    port_flags,
    running,
    started,
)

from bert_serving.client import BertClient, ServerError
from bert_serving.server import BertServer, StartupError
from bert_serving.server.helper import get_args_parser
from bert_serving.server.replacement import MOST_RESTARTS

pytestmark = pytest.mark.slow


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


def test_the_service_stops_when_it_cannot_go_on() -> None:
    """It is started again some times, but not for ever."""
    with started("-engine", "echo") as service:
        sinks: Set[int] = set()
        while service.process.poll() is None:
            for child in children_of(service.process.pid, "sink"):
                if child.pid not in sinks:
                    sinks.add(child.pid)
                    child.kill()
        errors = service.finish()
    assert service.process.returncode == 1
    assert len(sinks) == MOST_RESTARTS + 1
    assert "sink was ended by signal SIGKILL, after 5 restarts" in errors


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
