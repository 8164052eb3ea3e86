"""The closed loop over HTTP, against servers that are made up."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Iterator, List

import pytest

from bert_serving.benchmarks.clients import ClosedLoad
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.http_load import http_closed_loop
from bert_serving.benchmarks.workloads import Batch

BATCHES = [[Batch(["client %d" % client], tokens=4)] for client in range(3)]


@contextmanager
def server(statuses: List[int], seen: List[Dict[str, Any]]) -> Iterator[int]:
    """Answers with these statuses in turn, the last one from then on; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(order)
            data = [{"embedding": [0.0, 1.0]} for _ in order["input"]]
            content = json.dumps({"data": data}).encode("ascii")
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            """Tests are silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
            thread.join()


def test_every_client_sends_its_texts() -> None:
    seen: List[Dict[str, Any]] = []
    with server([200], seen) as port:
        result = http_closed_loop(port, "name", BATCHES, ClosedLoad(3, repeats=3, warm_up=1))
    assert result.errors == {}
    assert result.latency.requests == 3 * 2
    assert result.requests_per_second * result.seconds == pytest.approx(6)
    assert {one["model"] for one in seen} == {"name"}
    texts = [one["input"][0] for one in seen]
    assert sorted(texts) == sorted(["client 0", "client 1", "client 2"] * 3)


def test_failures_are_counted() -> None:
    with server([200, 500, 200], []) as port:
        load = ClosedLoad(1, repeats=4, warm_up=1, timeout=10.0)
        result = http_closed_loop(port, "name", BATCHES[:1], load)
    assert result.errors == {"BenchmarkError": 1}
    assert result.latency.requests == 3


def test_a_warm_up_that_fails() -> None:
    with server([503], []) as port, pytest.raises(BenchmarkError, match="HTTP status 503"):
        http_closed_loop(port, "name", BATCHES, ClosedLoad(3, repeats=3, warm_up=1))
