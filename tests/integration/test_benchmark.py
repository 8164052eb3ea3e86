"""The benchmark against real servers with the echo engine, and against servers that fail."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest
import zmq
from support import free_ports

from bert_serving.benchmarks import engine
from bert_serving.benchmarks.cli import main
from bert_serving.benchmarks.closed import ClosedLoad, closed_loop
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.load import OpenLoad, open_loop
from bert_serving.benchmarks.wire import Target
from bert_serving.benchmarks.workloads import Batch
from bert_serving.client.frames import decode_request
from bert_serving.client.protocol import SHOW_CONFIG, Request
from bert_serving.client.reply_frames import error_frames, info_frames, vectors_frames
from bert_serving.server import BertServer

pytestmark = pytest.mark.slow

BATCHES = [Batch(["text %d" % number] * 2, tokens=20 + number) for number in range(5)]
FAST = ["-engine", "echo", "-no_progress", "-no_plots"]


def target_of(server: BertServer) -> Target:
    return Target("127.0.0.1", server.spec.port, server.spec.port_out)


def load(**changes: Any) -> OpenLoad:
    values: Dict[str, Any] = {"rate": 200.0, "seconds": 1.0, "warm_up": 0.0, "clients": 7}
    values.update(timeout=20.0, seed=1)
    return OpenLoad(**dict(values, **changes))


def read_results(directory: Path) -> Any:
    return json.loads((directory / "results.json").read_text(encoding="utf-8"))


def test_open_loop(echo_server: BertServer) -> None:
    told: List[float] = []
    result = open_loop(target_of(echo_server), BATCHES, load(), told.append)
    assert result.errors == {}
    assert result.latency.requests == len(result.latencies) > 100
    assert min(result.latencies) > 0
    assert result.unexpected == 0
    assert told == sorted(told)


@pytest.mark.parametrize("processes", [1, 2])
def test_closed_loop(echo_server: BertServer, processes: int) -> None:
    clients = [BATCHES[number:] for number in range(3)]
    result = closed_loop(
        target_of(echo_server), clients, ClosedLoad(3, repeats=4, processes=processes)
    )
    assert result.errors == {}
    assert result.latency.requests == 3 * 2
    # The first two of each client are its warm-up, and with two more all of their time counts.
    counted = [BATCHES[n:][turn % (5 - n)].tokens for n in range(3) for turn in range(2, 4)]
    assert result.tokens_per_second * result.seconds == pytest.approx(sum(counted))
    assert result.rows_per_second * result.seconds == pytest.approx(12)


Answer = Callable[[Request], List[Any]]


@contextmanager
def fake_server(answer: Answer) -> Iterator[Target]:
    """Answers SHOW_CONFIG, and what ``answer`` makes frames of; no frames: no answer."""
    ports = free_ports()
    with zmq.Context() as context:
        requests, replies = context.socket(zmq.PULL), context.socket(zmq.PUB)
        stop, stopped = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        stopped.bind("inproc://stop")
        stop.connect("inproc://stop")
        for socket, port in zip((requests, replies), ports):
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind("tcp://127.0.0.1:%d" % port)

        def serve() -> None:
            poller = zmq.Poller()
            poller.register(requests, zmq.POLLIN)
            poller.register(stopped, zmq.POLLIN)
            while stopped not in dict(poller.poll()):
                request = decode_request(requests.recv_multipart())
                if request.payload == SHOW_CONFIG:
                    config = b'{"max_seq_len": 16, "engine": "echo"}'
                    frames = info_frames(request.identity, request.request_id, config)
                else:
                    frames = answer(request)
                if frames:
                    replies.send_multipart(frames)
            for socket in (requests, replies, stopped):
                socket.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Target("127.0.0.1", *ports)
        finally:
            stop.send(b"")
            thread.join()
            stop.close()


def vectors(request: Request) -> List[Any]:
    array = np.zeros((request.rows, 4), np.float32)
    return vectors_frames(request.identity, request.request_id, array)


def test_answers_that_never_come_are_counted() -> None:
    def answer(request: Request) -> List[Any]:
        return vectors(request) if request.request_id % 2 else []

    with fake_server(answer) as target:
        result = open_loop(target, BATCHES, load(timeout=10.0))
    assert result.latency.requests > 100
    assert result.errors == {"no answer": (result.latency.requests + 1) // 2}
    assert result.latency.p99 is None


def test_errors_and_wrong_answers_are_counted() -> None:
    def answer(request: Request) -> List[Any]:
        number = request.request_id
        if number % 4 == 0:
            return error_frames(request.identity, number, "worker_failed", "it broke")
        if number % 4 == 1:
            return vectors_frames(request.identity, number, np.zeros((1, 4), np.float32))
        frames = vectors(request)
        return [frames[0], b"no JSON"] + frames[2:] if number % 4 == 2 else frames

    with fake_server(answer) as target:
        result = open_loop(target, BATCHES, load())
    total = result.latency.requests
    counts = {
        name: len(range(first, total, 4))
        for first, name in enumerate(("worker_failed", "wrong answer", "malformed"))
    }
    assert result.errors == counts
    assert len(result.latencies) == total - sum(counts.values())


def test_a_closed_loop_counts_errors() -> None:
    served: List[int] = []

    def answer(request: Request) -> List[Any]:
        served.append(request.request_id)
        if len(served) > 3:  # two of the warm-up, and one more
            return error_frames(request.identity, request.request_id, "deadline", "too late")
        return vectors(request)

    with fake_server(answer) as target:
        result = closed_loop(target, [BATCHES], ClosedLoad(1, repeats=5))
    assert result.errors == {"DeadlineExceeded": 2}
    assert result.latency.requests == 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_warm_up_that_fails_is_an_error(processes: int) -> None:
    def answer(request: Request) -> List[Any]:
        return error_frames(request.identity, request.request_id, "internal", "a bug")

    with fake_server(answer) as target, pytest.raises(BenchmarkError, match=r"warm-up .*a bug"):
        closed_loop(target, [BATCHES] * 2, ClosedLoad(2, repeats=5, processes=processes))


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    port, port_out = free_ports()
    words = ["-connect", "localhost:%d:%d" % (port, port_out), "-load", "-rate", "5"]
    assert main([*words, "-wait_till_ready", "1", "-no_progress"]) == 2
    assert "no answer from the server at localhost" in capsys.readouterr().err


def test_experiments_of_own_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-test_num_client", "1", "3", "-test_max_seq_len", "8", "-num_repeat", "4"]
    assert main(FAST + words + ["-client_batch_size", "5", "-o", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "## Speed by num_client" in shown
    assert "## Speed by max_seq_len" in shown
    found = read_results(tmp_path)
    experiments = found["results"]["experiments"]
    assert [point["value"] for point in experiments["num_client"]] == [1, 3]
    assert [one["result"]["latency"]["requests"] for one in experiments["num_client"]] == [2, 6]
    point = experiments["max_seq_len"][0]["result"]
    # As long as the server takes them.
    assert point["tokens_per_second"] == pytest.approx(8 * point["rows_per_second"])
    assert found["environment"]["engine"] == "echo"
    assert found["environment"]["flags"][:2] == ["-engine", "echo"]


def test_a_value_that_a_server_cannot_have_is_told(tmp_path: Path, golden: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = ["-model_dir", str(golden / "tf1-tiny" / "model"), "-graph_tmp_dir", str(tmp_path)]
    words = ["-test_max_seq_len", "500", "8", "-num_repeat", "3", "-client_batch_size", "2"]
    words += ["-no_progress", "-no_plots", "-cpu"]
    assert main(words + model + ["-o", str(tmp_path / "results")]) == 1
    first, second = read_results(tmp_path / "results")["results"]["experiments"]["max_seq_len"]
    assert first["result"] is None
    assert "-max_seq_len 500" in first["error"]
    assert second["error"] is None
    assert second["result"]["latency"]["failed"] == 0


def test_load_of_a_running_server(echo_server: BertServer, tmp_path: Path) -> None:
    target = target_of(echo_server)
    words = ["-connect", "%s:%d:%d" % (target.ip, target.port, target.port_out), "-load"]
    words += ["-rate", "100", "-seconds", "0.5", "-warm_up", "0.1", "-num_client", "5"]
    words += ["-client_batch_size", "3", "-no_progress", "-no_plots", "-o", str(tmp_path)]
    assert main(words) == 0
    found = read_results(tmp_path)["results"]
    assert found["server"]["protocol"] == 2
    assert found["runs"][0]["errors"] == {}
    assert found["runs"][0]["load"]["rate"] == 100


def test_search_with_the_preset(tmp_path: Path) -> None:
    words = ["-preset", "article", "-seconds", "0.3", "-warm_up", "0.1", "-resolution", "0.9"]
    words += ["-mean", "60000", "-num_client", "3", "-timeout", "1", "-o", str(tmp_path)]
    # No bound that a run so short could break: it goes up to where requests fail, or to the end.
    main(FAST + words)
    found = read_results(tmp_path)["results"]
    assert found["server"]["max_seq_len"] == 30
    assert found["search"]["bound"] == {"statistic": "mean", "seconds": 60.0}
    rates = [run["load"]["rate"] for run in found["runs"]]
    # Half of it where a request failed, as on a machine that is held up.
    assert rates[1] / rates[0] in (pytest.approx(2), pytest.approx(0.5))
    assert 6 <= found["mean_tokens"] <= 30


def test_engine_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SCAN_SECONDS", 0.0)
    monkeypatch.setattr(engine, "ROUND_SECONDS", 0.0)
    words = ["-engine_only", "-lengths", "5", "9", "-batch_sizes", "1", "4", "-rounds", "2"]
    assert main(FAST + words + ["-client_batch_size", "8", "-o", str(tmp_path)]) == 0
    found = read_results(tmp_path)["results"]
    assert [(one["length"], one["rows"]) for one in found["shapes"]] == [
        (5, 1),
        (5, 4),
        (9, 1),
        (9, 4),
    ]
    for one in found["efficiency"]:
        assert len(one["engine"]) == len(one["service"]) == 2
        assert one["ratio"] > 0
        assert one["failed"] == 0


def test_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A batch of 16,384 rows of 64 tokens has 12 MiB of features, and echo's sums are 8 bytes each.
    words = ["-memory", "-lengths", "8", "64", "-batch_sizes", "1", "16384", "-o", str(tmp_path)]
    assert main(FAST + words) == 0
    peaks = read_results(tmp_path)["results"]["peaks"]
    by_shape = {(one["length"], one["rows"]): one for one in peaks}
    assert all(one["measured"] and one["peak"] >= one["loaded"] > 2**20 for one in peaks)
    assert by_shape[64, 16384]["peak"] > by_shape[8, 1]["peak"] + 12 * 2**20
    assert "| 64 |" in capsys.readouterr().out


def test_memory_that_exceeds_the_limit(tmp_path: Path) -> None:
    words = ["-memory", "-lengths", "8", "16", "-batch_sizes", "1", "2", "-memory_limit", "1M"]
    assert main(FAST + words + ["-o", str(tmp_path)]) == 0
    peaks = read_results(tmp_path)["results"]["peaks"]
    assert [one["measured"] for one in peaks] == [True, False, False, False]
    assert all(one["exceeds"] and one["peak"] is None for one in peaks)
