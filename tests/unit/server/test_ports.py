from __future__ import annotations

import argparse
import errno
import os
import socket
from contextlib import contextmanager
from typing import Iterator

import pytest
from support import free_ports, port_flags

from bert_serving.server.arguments import get_args_parser
from bert_serving.server.errors import StartupError
from bert_serving.server.ports import check_ports


def parse(*flags: str) -> argparse.Namespace:
    """Flags on free ports, unless they name some themselves."""
    return get_args_parser().parse_args(port_flags() + list(flags))


@contextmanager
def taken(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that somebody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen(1)
        yield listener.getsockname()[1]


def test_checking_ports_leaves_them_free() -> None:
    args = parse()
    check_ports(args)
    for port in (args.port, args.port_out):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_one_port_for_both() -> None:
    with pytest.raises(StartupError, match="-port and -port_out are both 7777"):
        check_ports(parse("-port", "7777", "-port_out", "7777"))


def test_http_has_a_port_of_its_own() -> None:
    with pytest.raises(StartupError, match="-port_out and -http_port are both 7777"):
        check_ports(parse("-port_out", "7777", "-http_port", "7777"))


@pytest.mark.parametrize("flag", ["-port", "-port_out", "-http_port"])
def test_a_taken_port_is_named_with_its_flag(flag: str) -> None:
    with taken() as port, pytest.raises(StartupError) as raised:
        check_ports(parse(flag, str(port)))
    message = str(raised.value)
    reason = os.strerror(errno.EADDRINUSE)
    assert message.startswith("can't listen on 127.0.0.1 port %d: %s" % (port, reason))
    assert message.endswith("name another " + flag)


def test_an_ipv6_address() -> None:
    try:
        with taken("::1") as port, pytest.raises(StartupError, match="::1 port %d" % port):
            check_ports(parse("-host", "::1", "-port", str(port)))
    except OSError:
        pytest.skip("this machine has no IPv6")
    check_ports(parse("-host", "::1"))


def test_an_address_of_another_machine() -> None:
    reason = os.strerror(errno.EADDRNOTAVAIL)
    with pytest.raises(StartupError, match=r"can't listen on 192\.0\.2\.1 port \d+: " + reason):
        check_ports(parse("-host", "192.0.2.1"))


def test_what_lingers_of_a_server_that_ended_is_no_obstacle() -> None:
    port = free_ports()[0]
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
        served.close()  # the server's side first, so that the wait is at its port
        assert client.recv(1) == b""
        client.close()
    with socket.socket() as strict, pytest.raises(OSError):
        strict.bind(("127.0.0.1", port))
    check_ports(parse("-port", str(port)))
