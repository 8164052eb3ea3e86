"""The measuring of precisions, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bert_serving.benchmarks.precision import main
from bert_serving.benchmarks.sentences import LONGEST, varied_sentences
from bert_serving.graph_opt.pipeline import PRECISIONS

TINY = Path(__file__).resolve().parents[2] / "golden" / "hf" / "hf-tiny"


def test_the_same_sentences_at_every_run() -> None:
    assert varied_sentences(50) == varied_sentences(1000)[:50]
    assert varied_sentences(50) != varied_sentences(50, seed=1)


def test_the_sentences_are_varied() -> None:
    texts = varied_sentences()
    assert len(texts) == 1000
    assert len(set(texts)) > 800
    words = [len(text.split()) for text in texts]
    assert min(words) == 0
    assert max(words) > LONGEST * 0.9
    assert sum(count <= 2 for count in words) > 100
    assert sum(count >= 100 for count in words) > 50
    assert sum(not text.isascii() for text in texts) > 150
    assert sum(any(character.isdigit() for character in text) for text in texts) > 100
    assert any("\u4e00" <= text[:1] <= "\u9fff" for text in texts), "Chinese"
    assert any(len(set(text.split())) == 1 < len(text.split()) for text in texts), "repetitions"


def test_a_table_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnx", "onnxruntime", "ml_dtypes"):
        pytest.importorskip(package)
    flags = ["-model_dir", str(TINY), "-texts", "40", "-rounds", "1", "-o", str(tmp_path)]
    assert main(flags) == 0
    shown = capsys.readouterr().out
    written = json.loads((tmp_path / "precision.json").read_text(encoding="utf-8"))
    assert written["machine"]["texts"] == 40
    found = {one["precision"]: one for one in written["precisions"]}
    assert list(found) == list(PRECISIONS)
    for name, one in found.items():
        assert "| %s |" % name in shown
        assert one["finite"]
        assert 0.99 < one["worst_cosine"] <= 1 + 1e-12
        assert one["speed"] > 0
    assert found["fp32"]["largest_difference"] == 0
    assert found["fp32"]["encoder_bytes"] == 1
    assert found["fp16"]["encoder_bytes"] < 0.6
    assert found["bf16"]["worst_cosine"] < found["fp16"]["worst_cosine"]
