"""Another model takes the place of the one that serves, while clients ask."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, List

import httpx
import numpy as np
import pytest
from integration.test_recovery import at_the_same_time, join, texts_of
from support import (
    PATIENCE,
    children_of,
    client_of,
    command,
    http_flags,
    running,
    started,
    url_of,
    wait_for,
    wait_until_whole,
)

from bert_serving.client import BertClient
from bert_serving.server import BertServer

pytestmark = pytest.mark.slow

TEXTS = texts_of("reload", 300)


@pytest.fixture
def model(golden: Path, tmp_path: Path) -> Path:
    """A copy of a small model, of which the echo engine uses the vocabulary."""
    copy = tmp_path / "model"
    shutil.copytree(str(golden / "tf1-tiny" / "model"), str(copy))
    return copy


def exchange(model: Path) -> None:
    """Give the model another vocabulary: the same tokens, with other numbers."""
    path = model / "vocab.txt"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(lines[:24] + lines[:23:-1]) + "\n", "utf-8")


def generation(client: BertClient) -> int:
    number: int = client.server_status["generation"]
    return number


@pytest.fixture
def flags(model: Path) -> List[str]:
    return ["-engine", "echo", "-model_dir", str(model), "-max_seq_len", "NONE"]


def test_no_request_is_lost(model: Path, flags: List[str]) -> None:
    enough = threading.Event()
    results: List[np.ndarray] = []

    def ask(server: BertServer) -> Callable[[], None]:
        def work() -> None:
            with client_of(server, timeout=PATIENCE * 1000) as client:
                while not enough.is_set():
                    results.append(client.encode(TEXTS))

        return work

    def ask_over_http(server: BertServer) -> Callable[[], None]:
        def work() -> None:
            url, order = url_of(server) + "/encode", {"texts": TEXTS}
            with httpx.Client(timeout=PATIENCE, trust_env=False) as http:
                while not enough.is_set():
                    answer = http.post(url, json=order)
                    assert answer.status_code == 200
                    results.append(np.array(answer.json()["result"], np.float32))

        return work

    with running(*flags, "-num_worker", "2", *http_flags()) as server, client_of(
        server, timeout=PATIENCE * 1000
    ) as client:
        old = client.encode(TEXTS)
        threads = at_the_same_time([ask(server), ask(server), ask_over_http(server)])
        for number in (2, 3):
            exchange(model)
            server.reload()
            wait_for(lambda number=number: generation(client) == number, "the new model")  # type: ignore[misc]
            before = len(results)
            wait_for(lambda before=before: len(results) > before + 6, "answers")  # type: ignore[misc]
            if number == 2:
                new = client.encode(TEXTS)
        wait_until_whole(server)
        enough.set()
        join(threads)
        assert not (old == new).all()
        np.testing.assert_array_equal(client.encode(TEXTS), old)
        with httpx.Client(base_url=url_of(server), timeout=PATIENCE, trust_env=False) as http:
            (tokens,) = http.post("/tokenize", json={"inputs": "hi"}).json()
            ids = {"model": "default", "input": [one["id"] for one in tokens]}
            (one,) = http.post("/v1/embeddings", json=ids).json()["data"]
            found = np.array(one["embedding"], np.float32)
            np.testing.assert_array_equal(found, client.encode(["hi"])[0])
    kinds = [(result == old).all() - int((result == new).all()) for result in results]
    assert set(kinds) == {1, -1}, "an answer of both models, or of none"


@pytest.mark.parametrize("how", ["no model", "a vocabulary that is too large"])
def test_a_bad_model_is_refused(how: str, model: Path, flags: List[str]) -> None:
    with started(*flags) as service:
        with service.client(timeout=PATIENCE * 1000) as client:
            expected = client.encode(TEXTS)
            if how == "no model":
                shutil.rmtree(str(model))
            else:
                with (model / "vocab.txt").open("a") as file:
                    file.writelines("word%d\n" % number for number in range(1000))
            service.process.send_signal(signal.SIGHUP)
            (preparation,) = wait_for_some(service.process.pid, "reload")
            wait_for(lambda: not preparation.is_running(), "the end of the attempt")
            np.testing.assert_array_equal(client.encode(TEXTS), expected)
            # Also what is replaced works with the old one.
            (worker,) = children_of(service.process.pid, "worker-0")
            (sink,) = children_of(service.process.pid, "sink")
            sink.kill()
            worker.kill()
            np.testing.assert_array_equal(client.encode(TEXTS), expected)
            assert generation(client) == 1
        service.process.send_signal(signal.SIGTERM)
        errors = service.finish()
    assert service.process.returncode == 0
    assert "the model stays as it was" in errors
    assert str(model) in errors
    assert "Traceback" not in errors


def wait_for_some(pid: int, name: str) -> List[Any]:
    found: List[Any] = []

    def look() -> bool:
        found[:] = children_of(pid, name)
        return bool(found)

    wait_for(look, name)
    return found


def test_the_command(model: Path, flags: List[str]) -> None:
    with running(*flags) as server, client_of(server, timeout=PATIENCE * 1000) as client:
        old = client.encode(TEXTS)
        exchange(model)
        asked = subprocess.run(
            command("reload") + ["-port", str(server.spec.port)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert asked.returncode == 0
        assert "load its model again" in asked.stdout
        wait_for(lambda: generation(client) == 2, "the new model")
        assert not (client.encode(TEXTS) == old).all()
        # What is lost comes back with the new model.
        expected = client.encode(TEXTS)
        for name in ("worker-0", "ventilator"):
            wait_until_whole(server)
            children_of(os.getpid(), name)[0].kill()
            np.testing.assert_array_equal(client.encode(TEXTS), expected)


def test_a_stop_while_it_is_loaded_leaves_nothing(flags: List[str]) -> None:
    with started(*flags) as service:
        service.process.send_signal(signal.SIGHUP)
        wait_for_some(service.process.pid, "reload")
        service.process.send_signal(signal.SIGTERM)
        service.finish()
    assert service.process.returncode == 0
