"""The reference systems' results, through every engine that is installed.

Each engine computes each case in this process; the one that is the default here also in a running
server, the others a few, for each server's worker must import them.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
from support import client_of, port_flags, running

from bert_serving.graph_opt import cache
from bert_serving.graph_opt.sources import read_model
from bert_serving.server import engines
from bert_serving.server.computing import compute
from bert_serving.server.engines import Engine, Features
from bert_serving.server.errors import StartupError
from bert_serving.server.helper import get_args_parser
from bert_serving.server.planning import plan_model
from bert_serving.server.spec import EngineSpec

GOLDEN = Path(__file__).parent.parent / "golden"
TF1 = GOLDEN / "tf1-tiny"
CASES: List[Dict[str, Any]] = json.loads((TF1 / "cases.json").read_text("utf-8"))
#: A vector for every token, several layers and poolings, tokens instead of texts, the pooler.
FEW = (0, 12, 15, 25)
TOLERANCE = 1e-4

CLASSIFIER = TF1 / "classifier"
PROBABILITIES = ["-model_dir", str(CLASSIFIER), "-num_labels", "3"]
PROBABILITIES += ["-pooling_strategy", "CLASSIFICATION"]


def is_installed(name: str) -> bool:
    try:
        return engines.choose(name) == name
    except StartupError:
        return False


#: Those that compute a model, the default one first.
INSTALLED = [name for name, kind in engines.ENGINES.items() if kind.target and is_installed(name)]
SERVED = [
    pytest.param(name, case, id="%s-%s" % (name, case["file"][:7]))
    for name in INSTALLED
    for number, case in enumerate(CASES)
    if name == INSTALLED[0] or number in FEW
]

every_engine = pytest.mark.parametrize("name", INSTALLED)


def case_flags(case: Dict[str, Any]) -> List[str]:
    return ["-model_dir", str(TF1 / "model")] + case["flags"]


# -------------------------------------------------------------------------------- engines


def features_of(ids: np.ndarray, types: np.ndarray, mask: np.ndarray) -> Features:
    """Rows as the reference padded them: to us these are tokens, if masked ones."""
    tokens = np.stack([ids.ravel(), types.ravel(), mask.ravel()]).astype(np.int32)
    return Features(tokens, np.full(len(ids), ids.shape[1], np.int32))


@contextmanager
def loaded(name: str, flags: List[str], packed: bool) -> Iterator[Any]:
    """An engine in this process, with the graph for these flags; gives it and its spec."""
    args = get_args_parser().parse_args(flags + port_flags())
    source = read_model(args.model_dir, ckpt_name=args.ckpt_name)
    plan = plan_model(args, source)
    target = engines.ENGINES[name].target
    assert target is not None
    graph = cache.cached_graph(source, plan.graph, cache.Form(target, packed=packed)).path
    spec = EngineSpec(name, str(graph), plan.dimension, plan.per_token, 1, 0.5)
    engine: Engine = engines.create(name)
    engine.load(spec, -1)
    try:
        yield engine, spec
    finally:
        engine.close()


@pytest.mark.usefixtures("own_environment")
@every_engine
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("case", CASES, ids=[case["file"][:7] for case in CASES])
def test_engines_give_what_bert_as_service_gave(
    name: str, case: Dict[str, Any], packed: bool
) -> None:
    with np.load(str(TF1 / case["file"])) as reference:
        ids, mask, types = (reference[key] for key in ("ids", "mask", "types"))
        expected = reference["vectors"]
    features = features_of(ids, types, mask)
    with loaded(name, case_flags(case), packed) as (engine, spec):
        vectors = compute(engine, features, spec)
    assert vectors.dtype == expected.dtype
    vectors = vectors.reshape(expected.shape)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.usefixtures("own_environment")
@every_engine
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_engines_give_the_probabilities_of_a_classifier(name: str, packed: bool) -> None:
    with np.load(str(CLASSIFIER / "probs.npz")) as reference:
        ids, mask, types = (reference[key] for key in ("ids", "mask", "types"))
        expected = reference["probabilities"]
    features = features_of(ids, types, mask)
    with loaded(name, PROBABILITIES, packed) as (engine, spec):
        np.testing.assert_allclose(compute(engine, features, spec), expected, rtol=0, atol=1e-5)


# -------------------------------------------------------------------------------- servers


@pytest.mark.filterwarnings("ignore:.*max_seq_len")  # about texts that are meant to be too long
@pytest.mark.parametrize(("name", "case"), SERVED)
def test_bert_as_service(name: str, case: Dict[str, Any]) -> None:
    with np.load(str(TF1 / case["file"])) as data:
        reference = {key: data[key] for key in ("ids", "vectors")}
    flags = ["-cpu", "-engine", name, "-show_tokens_to_client"] + case_flags(case)
    with running(*flags) as server, client_of(server) as client:
        vectors, tokens = client.encode(
            case["texts"], is_tokenized=case["is_tokenized"], show_tokens=True
        )
        alone = client.encode(case["texts"][-1:], is_tokenized=case["is_tokenized"])
    vocabulary = (TF1 / "model" / "vocab.txt").read_text("utf-8").split("\n")
    for row, expected in zip(tokens, reference["ids"]):
        ids = [vocabulary.index(token) for token in row]
        assert ids == expected[: len(ids)].tolist()
        assert not expected[len(ids) :].any()
    assert vectors.dtype == reference["vectors"].dtype
    np.testing.assert_allclose(vectors, reference["vectors"], rtol=0, atol=TOLERANCE)
    # A text's vectors don't depend on the company in which it was computed.
    width = alone.shape[1]
    np.testing.assert_allclose(alone[0], vectors[-1][:width], rtol=0, atol=TOLERANCE)


@every_engine
def test_a_classifier_is_served(name: str) -> None:
    """The reference's token ids, by their names; its texts aren't kept, only single ones are."""
    with np.load(str(CLASSIFIER / "probs.npz")) as reference:
        single = ~reference["types"].any(axis=1)
        rows, masks = reference["ids"][single], reference["mask"][single].astype(bool)
        expected = reference["probabilities"][single]
    assert len(rows) > 10
    vocabulary = (CLASSIFIER / "vocab.txt").read_text("utf-8").split("\n")
    texts = [[vocabulary[i] for i in ids[keep]] for ids, keep in zip(rows, masks)]
    flags = PROBABILITIES + ["-cpu", "-engine", name, "-no_special_token"]
    with running(*flags) as server, client_of(server) as client:
        config = client.server_config
        probabilities = client.encode(texts, is_tokenized=True)
    assert (config["pooling_strategy"], config["engine"]) == (7, name)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)


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
