"""Texts that make a worker crash, fail or run out of memory, among others' texts; and workers that
are killed while they compute.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List

import numpy as np
import psutil
import pytest
from support import PATIENCE, client_of, running

from bert_serving.client import ServerError
from bert_serving.server import BertServer
from bert_serving.server.engines.echo import echo_vector, vocabulary
from bert_serving.server.engines.faults import VARIABLE
from bert_serving.server.spec import ServiceSpec
from bert_serving.server.tokenization import Tokenizer

pytestmark = pytest.mark.slow

CLIENTS, TEXTS = 20, 10
#: Which of whose texts is poisonous.
POISONED, ROW = 7, 4
#: A row that kills workers does so five times, and each replacement waits twice as long.
PATIENT = 4 * PATIENCE


@contextmanager
def faulty_server(
    monkeypatch: pytest.MonkeyPatch, faults: str, *flags: str
) -> Iterator[BertServer]:
    monkeypatch.setenv(VARIABLE, faults)  # which replacements need as well
    with running("-engine", "echo", *flags) as server:
        yield server


def expected(spec: ServiceSpec, texts: List[str]) -> np.ndarray:
    encoded = Tokenizer(vocabulary(), spec.tokenizer).encode(texts, False)
    return np.array([echo_vector(one.features[0]) for one in encoded])


def texts_of(client: int) -> List[str]:
    return ["text %d of client %d" % (number, client) for number in range(TEXTS)]


def ask_all(server: BertServer, requests: Dict[int, List[str]]) -> Dict[int, Any]:
    """Each client's vectors or its error, all asked at a time."""
    answers: Dict[int, Any] = {}

    def ask(number: int) -> None:
        with client_of(server, timeout=PATIENT * 1000) as client:
            try:
                answers[number] = client.encode(requests[number])
            except ServerError as error:
                answers[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    return answers


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("kill", "was ended by signal SIGKILL"),
        ("segv", "was ended by signal SIGSEGV"),
        ("raise", "EngineError: the engine was told to fail"),
        ("memory", "MemoryError: the engine was told to run out of memory"),
        ("shape", "the engine returned an array of shape"),
    ],
)
def test_poison_among_others_texts(
    fault: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = {number: texts_of(number) for number in range(CLIENTS)}
    requests[POISONED][ROW] += " ~"
    with faulty_server(monkeypatch, "~=" + fault, "-num_worker", "2") as server:
        answers = ask_all(server, requests)
        failed = answers.pop(POISONED)
        assert isinstance(failed, ServerError), failed
        assert "text %d can't be computed" % ROW in str(failed)
        assert reason in str(failed)
        assert sorted(answers) == sorted(set(requests) - {POISONED})
        for number, vectors in answers.items():
            np.testing.assert_array_equal(vectors, expected(server.spec, requests[number]))


@pytest.mark.parametrize("per_token", [False, True])
def test_a_request_goes_on_without_what_fails_if_it_asks_for_that(
    per_token: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = texts_of(0)
    texts[ROW] += " ~"
    asked: Dict[str, Any] = {"partial": True, "details": True}
    if per_token:
        asked.update(pooling_strategy="NONE", pooling_layer=-1)
    with faulty_server(monkeypatch, "~=raise") as server, client_of(server) as client:
        good = texts[:ROW] + ["other"] + texts[ROW + 1 :]
        right = client.encode(good, **asked).embedding.copy()
        right[ROW] = 0
        response = client.encode(texts, **asked)
        np.testing.assert_array_equal(response.embedding[:, : right.shape[1]], right)
        assert list(response.failed) == [ROW]
        assert "text %d can't be computed" % ROW in response.failed[ROW]
        parts = list(client.encode(texts, stream=True, **asked))
        assert sorted(row for rows, _ in parts for row in rows) == list(range(TEXTS))
        for rows, part in parts:
            np.testing.assert_array_equal(part.embedding[:, : right.shape[1]], right[rows])
        assert [list(part.failed) for _, part in parts if part.failed] == [[ROW]]


def test_batches_that_are_too_large_for_the_memory_are_halved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = texts_of(0)
    texts[ROW] += " ~"
    with faulty_server(monkeypatch, "~=crowd") as server, client_of(server) as client:
        np.testing.assert_array_equal(client.encode(texts), expected(server.spec, texts))
        assert client.server_status["statistic"]["num_error"] == {}


def test_a_slow_batch_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_server(monkeypatch, "~=slow") as server, client_of(server) as client:
        texts = ["a ~", "b"]
        np.testing.assert_array_equal(client.encode(texts), expected(server.spec, texts))


def test_workers_that_are_killed_lose_nothing() -> None:
    """They are killed while all of them compute, one after another."""
    requests = {number: texts_of(number) * 5 for number in range(4)}
    with running("-engine", "echo", "-num_worker", "2") as server:
        right = {number: expected(server.spec, texts) for number, texts in requests.items()}
        is_over = threading.Event()
        wrong: List[Any] = []

        def ask(number: int) -> None:
            with client_of(server, timeout=PATIENT * 1000) as client:
                while not is_over.is_set():
                    try:
                        vectors = client.encode(requests[number])
                    except Exception as error:
                        wrong.append(error)
                        return
                    if not np.array_equal(vectors, right[number]):
                        wrong.append(vectors)

        threads = [threading.Thread(target=ask, args=(number,)) for number in requests]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                victim = workers()[0]
                victim.kill()
                wait_until_replaced(victim.pid)
        finally:
            is_over.set()
            for thread in threads:
                thread.join(PATIENT)
        assert not any(thread.is_alive() for thread in threads), "a request has no answer"
        assert wrong == []


def workers() -> List[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if any(word.startswith("worker-") for word in child.cmdline()):
                found.append(child)
    return found


def wait_until_replaced(pid: int) -> None:
    """Poll for what no event announces."""
    deadline, tick = time.monotonic() + PATIENCE, threading.Event()
    while True:
        pids = [child.pid for child in workers()]
        if pid not in pids and len(pids) == 2:
            return
        assert time.monotonic() < deadline, "it isn't replaced"
        tick.wait(0.02)
