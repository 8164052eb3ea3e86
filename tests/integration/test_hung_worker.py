from __future__ import annotations

import pytest
from support import PATIENCE, client_of, running

from bert_serving.client import WorkerFailed
from bert_serving.server.engines.faults import VARIABLE

pytestmark = pytest.mark.slow


def test_a_text_that_makes_workers_hang_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "~=hang")
    flags = ("-engine", "echo", "-num_worker", "2", "-worker_timeout", "1")
    with running(*flags) as server, client_of(server, timeout=4 * PATIENCE * 1000) as client:
        with pytest.raises(WorkerFailed, match=r"text 1 can't be computed: .* \d+ s$"):
            client.encode(["a", "b ~", "c"])
        assert client.encode(["a"]).shape == (1, 768)


def test_a_worker_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "~=stop")
    with running("-engine", "echo") as server, client_of(
        server, timeout=4 * PATIENCE * 1000
    ) as client, pytest.raises(WorkerFailed, match="text 0 can't be computed"):
        client.encode(["~"])
