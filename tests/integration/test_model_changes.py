"""The model is replaced amid something that takes several answers: these are of one model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest
from integration.test_recovery import texts_of
from integration.test_reload import generation
from support import PATIENCE, client_of, free_ports, running, wait_for

from bert_serving.benchmarks.chaos.relay import Relay
from bert_serving.client import BertClient, ModelChanged, Response
from bert_serving.client.bulk.files import Paths
from bert_serving.client.bulk.state import load
from bert_serving.server import BertServer
from bert_serving.server.engines.echo import vocabulary
from bert_serving.server.engines.faults import VARIABLE

#: The text that makes an engine hang as long as the model is the first one.
POISON = "~"
#: The model's.
DIMENSION = 40
TEXTS = texts_of("stream", 2000)
TEXTS[1000] = POISON


@pytest.fixture
def model(golden: Path, tmp_path: Path) -> Path:
    """A small model with the vocabulary of the echo engine, which its faults go by."""
    directory = tmp_path / "model"
    directory.mkdir()
    for path in (golden / "tf1-tiny" / "model").iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    (directory / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", "utf-8")
    return directory


def exchange(model: Path) -> None:
    """Give the model another vocabulary: the same tokens, but what isn't special in reverse."""
    lines = (model / "vocab.txt").read_text("utf-8").splitlines()
    (model / "vocab.txt").write_text("\n".join(lines[:5] + lines[:4:-1]) + "\n", "utf-8")


def load_another(server: BertServer, model: Path, client: BertClient) -> None:
    before = generation(client)
    exchange(model)
    server.reload()
    wait_for(lambda: generation(client) == before + 1, "the new model")


def flags_of(model: Path) -> List[str]:
    return ["-engine", "echo", "-model_dir", str(model), "-max_seq_len", "NONE"]


def test_a_stream_has_no_rows_of_another_model(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is lost while a row is missing, which hangs, and is back with the new one."""
    monkeypatch.setenv(VARIABLE, POISON + "=hang")
    with running(*flags_of(model), "-num_worker", "2") as server, client_of(
        server, timeout=PATIENCE * 1000
    ) as direct, Relay(server.spec.port) as to, Relay(server.spec.port_out) as back, BertClient(
        port=to.port, port_out=back.port, timeout=3 * PATIENCE * 1000
    ) as client:
        expected = direct.encode(TEXTS[:1000])
        old = direct.server_config["model_fingerprint"]
        stream = client.encode(TEXTS, stream=True, details=True)
        parts = [next(stream)]
        targets = (to.target, back.target)
        for relay, nobody in zip((to, back), free_ports()):
            relay.target = nobody
            relay.cut()
        wait_for(lambda: not open_requests(direct), "the client to count as gone")
        load_another(server, model, direct)
        to.target, back.target = targets
        with pytest.raises(ModelChanged, match="model changed while a stream") as raised:
            take_all(stream, parts)
        new = direct.server_config["model_fingerprint"]
        assert old != new
        assert old in str(raised.value)
        assert new in str(raised.value)
        check(parts, old, expected)
        # The rest isn't computed for nobody, and who asks again gets all from the new model.
        wait_for(lambda: not open_requests(direct), "the rest to be dropped")
        everything = client.encode(TEXTS, stream=True, details=True)
        assert {part.model for _, part in everything} == {new}
        assert not (client.encode(TEXTS[:1000]) == expected).all()


def take_all(stream: Iterator[Any], parts: List[Any]) -> None:
    """Those before an error count, too."""
    for part in stream:
        parts.append(part)


def open_requests(client: BertClient) -> int:
    number: int = client.server_status["statistic"]["num_open_request"]
    return number


def check(parts: List[Any], model: str, expected: np.ndarray) -> None:
    """Each row's vector is the model's, of those that are known."""
    for rows, response in parts:
        assert isinstance(response, Response)
        assert response.model == model
        known = rows < len(expected)
        np.testing.assert_array_equal(response.embedding[known], expected[rows[known]])


def test_a_run_of_the_bulk_encoder_ends_with_its_model(model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.npy"
    texts = ["text %d" % number for number in range(200_000)]
    source.write_text("\n".join(texts), "utf-8")
    with running(*flags_of(model)) as server, client_of(server) as client:
        old = client.server_config["model_fingerprint"]
        ports = ["--port", str(server.spec.port), "--port_out", str(server.spec.port_out)]
        words = [sys.executable, "-m", "bert_serving.client.bulk.cli", str(source), "-o", str(out)]
        # Slowly, so that it lasts until the new model is there.
        words += [*ports, "--batch_size", "16", "--window", "1"]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, universal_newlines=True)
        try:
            wait_for(Paths(out).partial.exists, "the run")
            expected = client.encode(texts[:16])
            load_another(server, model, client)
            errors = process.communicate(timeout=3 * PATIENCE)[1]
        except BaseException:
            process.kill()
            process.communicate()
            raise
        new = client.server_config["model_fingerprint"]
        assert process.returncode == 1, errors
        assert "its fingerprint was %s and is %s" % (old, new) in errors
        state = load(Paths(out).progress)
        assert state is not None
        assert 16 < state.rows < len(texts)
        rows = np.fromfile(str(Paths(out).partial), np.float32, offset=128)
        found = rows.reshape(state.rows, DIMENSION)
        np.testing.assert_array_equal(found[:16], expected)
        again = subprocess.run(words, capture_output=True, text=True, timeout=3 * PATIENCE)
        assert again.returncode == 2
        assert "model_fingerprint was %s and is %s" % (old, new) in again.stderr
        # Once the old model is back, so is its name, and the run goes on.
        load_another(server, model, client)
        assert client.server_config["model_fingerprint"] == old
        np.testing.assert_array_equal(
            found[-16:], client.encode(texts[state.rows - 16 : state.rows])
        )
