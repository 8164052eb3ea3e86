"""The comparisons that need no other system, with a tiny model, from start to results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bert_serving.benchmarks.compare import main
from bert_serving.benchmarks.pipelined import PipelinedLoad, pipelined
from bert_serving.benchmarks.wire import Target
from bert_serving.benchmarks.workloads import Batch
from bert_serving.server import BertServer

pytestmark = pytest.mark.slow


def quick(directory: Path, *names: str) -> dict:
    out = directory / "out"
    words = ["--quick", "--directory", str(directory / "kept"), "-o", str(out), "--only"]
    assert main(words + list(names)) == 0
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["environment"]["cores"] > 0
    checks = {one["check"]["name"]: one for one in results["results"]["checks"]}
    assert set(checks) == set(names)
    for one in checks.values():
        assert one["problem"] is None
        assert min(one["ours"] + one["theirs"]) > 0
    return checks


def test_plumbing(tmp_path: Path) -> None:
    checks = quick(tmp_path, "echo-requests", "echo-rows")
    assert checks["echo-requests"]["theirs"] == []


@pytest.mark.timeout(300)
def test_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setenv("BERT_SERVING_CACHE", str(tmp_path / "cache"))
    names = ("efficiency", "latency", "int8", "priority", "memory")
    checks = quick(tmp_path, *names)
    for name in names:
        assert len(checks[name]["theirs"]) == len(checks[name]["ours"]) == 1


def test_pipelining_counts_every_request(echo_server: BertServer) -> None:
    target = Target("127.0.0.1", echo_server.spec.port, echo_server.spec.port_out)
    batches = [Batch(["text %d" % number] * 3, tokens=20) for number in range(4)]
    found = pipelined(target, batches, PipelinedLoad(clients=5, window=4, seconds=0.3))
    assert found.requests_per_second > 0
    assert found.rows_per_second == pytest.approx(3 * found.requests_per_second)
