"""The reference systems' results, through a running server and client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from support import client_of, running

CASES: List[Dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "golden" / "tf1-tiny" / "cases.json").read_text("utf-8")
)
TOLERANCE = 1e-4


@pytest.mark.filterwarnings("ignore:.*max_seq_len")  # about texts that are meant to be too long
@pytest.mark.parametrize("case", CASES, ids=[case["file"][:7] for case in CASES])
def test_bert_as_service(case: Dict[str, Any], golden: Path) -> None:
    reference = np.load(str(golden / "tf1-tiny" / case["file"]))
    model = str(golden / "tf1-tiny" / "model")
    flags = ["-cpu", "-model_dir", model, "-show_tokens_to_client"] + case["flags"]
    with running(*flags) as server, client_of(server) as client:
        vectors, tokens = client.encode(
            case["texts"], is_tokenized=case["is_tokenized"], show_tokens=True
        )
        alone = client.encode(case["texts"][-1:], is_tokenized=case["is_tokenized"])
    vocabulary = (golden / "tf1-tiny" / "model" / "vocab.txt").read_text("utf-8").split("\n")
    for row, expected in zip(tokens, reference["ids"]):
        ids = [vocabulary.index(token) for token in row]
        assert ids == expected[: len(ids)].tolist()
        assert not expected[len(ids) :].any()
    assert vectors.dtype == reference["vectors"].dtype
    np.testing.assert_allclose(vectors, reference["vectors"], rtol=0, atol=TOLERANCE)
    # A text's vectors don't depend on the company in which it was computed.
    width = alone.shape[1]
    np.testing.assert_allclose(alone[0], vectors[-1][:width], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("layer", [0, 1, 2, 3, "pooler"])
def test_layers_of_hugging_face(layer: Any, golden: Path) -> None:
    """The reference's token ids, by their names: its tokenizer had another vocabulary."""
    model = golden / "hf" / "hf-tiny"
    reference = np.load(str(golden / "hf" / "hf-tiny.npz"))
    mask = reference["mask"].astype(bool)
    vocabulary = (model / "vocab.txt").read_text("utf-8").split("\n")
    texts = [[vocabulary[i] for i in ids[keep]] for ids, keep in zip(reference["ids"], mask)]
    flags = ["-cpu", "-model_dir", str(model), "-no_special_token", "-pooling_strategy"]
    flags += ["CLS_POOLED"] if layer == "pooler" else ["NONE", "-pooling_layer", str(layer)]
    with running(*flags) as server, client_of(server) as client:
        vectors = client.encode(texts, is_tokenized=True)
    if layer == "pooler":
        np.testing.assert_allclose(vectors, reference["pooler"], rtol=0, atol=TOLERANCE)
        return
    for row, keep, expected in zip(vectors, mask, reference["hidden_%d" % (layer + 1)]):
        ours = row[: keep.sum()]
        np.testing.assert_allclose(ours, expected[keep], rtol=0, atol=TOLERANCE)


def is_forged(text: str) -> bool:
    """Special tokens typed by a user are text here; the reference takes them for real ones."""
    return "[SEP]" in text


def test_sentence_transformers(golden: Path) -> None:
    reference = np.load(str(golden / "hf" / "minilm.npz"))
    texts = json.loads(str(reference["texts"]))
    with running("-cpu", "-num_worker", "2") as server, client_of(server) as client:
        assert client.server_config["max_seq_len"] == 256
        vectors = client.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    distances = np.abs(vectors - reference["vectors"]).max(axis=1)
    different = [text for text, far in zip(texts, distances > TOLERANCE) if far]
    assert different == [text for text in texts if is_forged(text)]
    assert len(different) == 1
