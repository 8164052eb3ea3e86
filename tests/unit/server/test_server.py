from __future__ import annotations

import argparse
import logging
import socket
from typing import Any, Callable, Iterator, List, Optional

import pytest
import zmq
from support import PATIENCE, free_ports
from unit.server.support import Hub, receive

from bert_serving.server import BertServer
from bert_serving.server.arguments import get_args_parser
from bert_serving.server.errors import PipelineError, StartupError

# ------------------------------------------------------------------------------- shutdown


def ask(port: int, ip: str = "127.0.0.1", timeout: int = PATIENCE * 1000) -> None:
    BertServer.shutdown(argparse.Namespace(ip=ip, port=port, timeout=timeout))


def test_a_server_is_asked_to_stop_as_1_10_asked_it(hub: Hub) -> None:
    requests = hub.socket(zmq.PULL)
    port = requests.bind_to_random_port("tcp://127.0.0.1")
    ask(port)
    assert receive(requests) == [b"0", b"TERMINATION", b"0", b"0"]


def test_a_server_is_asked_to_reload(hub: Hub) -> None:
    requests = hub.socket(zmq.PULL)
    port = requests.bind_to_random_port("tcp://127.0.0.1")
    BertServer.ask_to_reload(argparse.Namespace(ip="127.0.0.1", port=port, timeout=PATIENCE * 1000))
    assert receive(requests) == [b"0", b"RELOAD", b"0", b"0"]


def test_where_nobody_listens() -> None:
    port = free_ports()[0]
    with pytest.raises(TimeoutError, match=r"127\.0\.0\.1 port %d \(waited 10 ms\)" % port):
        ask(port, timeout=10)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("ip", ["::1", "[::1]"])
def test_a_server_at_an_ipv6_address_is_asked(hub: Hub, ip: str) -> None:
    """One can be started there, and clients of it can be told the address in both forms."""
    requests = hub.socket(zmq.PULL)
    requests.setsockopt(zmq.IPV6, 1)
    port = requests.bind_to_random_port("tcp://[::1]")
    ask(port, ip)
    assert receive(requests)[1] == b"TERMINATION"


# --------------------------------------------------------------- what becomes of a failure


class FakeSupervisor:
    """Does at once what a test wants of a service's life."""

    error: Optional[BaseException] = None
    fails_when_ready = False

    def __init__(self, spec: Any, args: Any) -> None:
        self.calls: List[str] = []

    def run(self, on_ready: Callable[[], None]) -> None:
        if self.error is None or self.fails_when_ready:
            on_ready()
        if self.error is not None:
            raise self.error

    def stop(self, at_once: bool = False) -> None:
        self.calls.append("stop at once" if at_once else "stop")

    def reload(self) -> None:
        self.calls.append("reload")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("bert_serving")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A server, and nothing behind it."""

    def make(error: Optional[BaseException] = None, when_ready: bool = False) -> Any:
        class Supervisor(FakeSupervisor):
            pass

        Supervisor.error, Supervisor.fails_when_ready = error, when_ready
        monkeypatch.setattr("bert_serving.server.server.Supervisor", Supervisor)
        port, port_out = free_ports()
        flags = ["-engine", "echo", "-port", str(port), "-port_out", str(port_out)]
        return BertServer(get_args_parser().parse_args(flags))

    return make


def test_a_life_without_failure(make: Callable[..., Any], capsys: Any) -> None:
    server = make()
    with server as entered:
        assert entered is server
        assert server.error is None
    assert not server.is_alive()
    assert not server.is_ready.is_set()
    assert server._supervisor.calls.count("close") == 1
    said = capsys.readouterr().err
    assert "ready on 127.0.0.1 ports %d" % server.port in said
    assert said.splitlines()[-1].endswith("stopped")


def test_what_keeps_a_server_from_starting_is_raised_and_not_logged(
    make: Callable[..., Any], capsys: Any
) -> None:
    """Whoever catches it tells the user; once is enough."""
    server = make(StartupError("the port is taken"))
    with pytest.raises(StartupError, match="the port is taken"), server:
        pass
    assert not server.is_alive()
    assert server._supervisor.calls == ["close"]
    assert "error" not in capsys.readouterr().err


def test_what_ends_a_running_server_is_logged_and_kept(
    make: Callable[..., Any], capsys: Any
) -> None:
    error = PipelineError("sink was ended by signal SIGKILL; the service stops")
    server = make(error, when_ready=True)
    server.start()
    server.join(PATIENCE)
    assert server.error is error
    assert "error: sink was ended by signal SIGKILL" in capsys.readouterr().err
    with pytest.raises(PipelineError):
        server.wait_until_ready()


def test_a_bug_is_raised_and_waited_for_by_nobody(make: Callable[..., Any]) -> None:
    server = make(KeyError("x"))
    with pytest.raises(KeyError):
        server.run()  # here, for a thread would tell only standard error
    assert isinstance(server.error, KeyError)
    assert server._is_settled.is_set()
    assert server._supervisor.calls == ["close"]


def test_orders_are_passed_on(make: Callable[..., Any]) -> None:
    server = make()
    server.stop()
    server.stop(at_once=True)
    server.reload()
    server.close()  # it was never started
    assert server._supervisor.calls == ["stop", "stop at once", "reload", "close"]
