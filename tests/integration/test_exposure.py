"""What of a server can be reached from other machines."""

from __future__ import annotations

import psutil
from support import http_flags, running


def test_it_listens_on_this_machine_only() -> None:
    with running("-engine", "echo", *http_flags()) as server:
        pids = {child.pid for child in psutil.Process().children(recursive=True)}
        found = {
            (connection.laddr.ip, connection.laddr.port)
            for connection in psutil.net_connections("inet")
            if connection.pid in pids and connection.status == psutil.CONN_LISTEN
        }
        spec = server.spec
        assert spec.http is not None
        ports = (spec.port, spec.port_out, spec.http.port)
    assert found == {("127.0.0.1", port) for port in ports}
