"""Pooling what the graph of every layer gives is the same as the graph with that pooling."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from support import PATIENCE

from bert_serving.graph_opt import cache
from bert_serving.graph_opt.errors import GraphOptError
from bert_serving.graph_opt.pooling import GraphOptions
from bert_serving.graph_opt.sources import read_model
from bert_serving.server import engines, optimize
from bert_serving.server.engines import Engine, Features, base
from bert_serving.server.engines.echo import EchoEngine, echo_vector
from bert_serving.server.errors import EngineError, StartupError
from bert_serving.server.pooling import STRATEGIES, Pooling, pool
from bert_serving.server.spec import EngineSpec

GOLDEN = Path(__file__).parents[2] / "golden"
MODELS = {"google": GOLDEN / "tf1-tiny" / "model", "huggingface": GOLDEN / "hf" / "hf-tiny"}
ENGINES = [name for name, kind in engines.ENGINES.items() if kind.target]
LAYERS: Tuple[Tuple[int, ...], ...] = ((0,), (2, 1), (1, 2, 1))

pytestmark = pytest.mark.usefixtures("own_environment")


def installed(name: str) -> str:
    for package in engines.ENGINES[name].packages:
        pytest.importorskip(package)
    return name


def batch() -> Features:
    """Rows of several lengths, some of their tokens masked as with -mask_cls_sep."""
    lengths = np.array([5, 1, 17, 9, 2], np.int32)
    random = np.random.RandomState(3)
    count = int(lengths.sum())
    mask = np.ones(count, np.int32)
    mask[[0, 4, 6, 22]] = 0
    ids, types = random.randint(5, 25, count), random.randint(0, 2, count)
    return Features(np.array([ids, types, mask], np.int32), lengths)


class Workshop:
    """Loads engines with graphs that are made in this process, and counts those made on order."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loaded: List[Engine] = []
        self.made: List[Dict[str, Any]] = []
        self.problem: Optional[Exception] = None

    def make(self, order: Dict[str, Any]) -> Path:
        """In the place of the optimizer's process."""
        self.made.append(order)
        if self.problem is not None:
            raise self.problem
        return optimize._fitted(optimize._graph(order), order.get("fit"))

    def graph(self, model: Any, options: GraphOptions, form: Dict[str, Any]) -> Path:
        source = read_model(model)
        return cache.cached_graph(
            source, options, cache.Form(**form), directory=self._directory
        ).path

    def load(
        self, name: str, model: Path, options: GraphOptions, packed: bool = True, **spec: Any
    ) -> Engine:
        target = engines.ENGINES[installed(name)].target
        assert target is not None
        form = asdict(cache.Form(target, packed=packed))
        every_layer = GraphOptions(every_layer=True)
        order = {
            "model_dir": str(model),
            "config_name": "bert_config.json",
            "ckpt_name": "bert_model.ckpt",
            "tuned_model_dir": None,
            "options": asdict(every_layer),
            "form": form,
            "directory": str(self._directory),
        }
        per_token = options.pooling_strategy == "NONE"
        graph = str(self.graph(model, options, form))
        default = EngineSpec(name, graph, 0, per_token, 1, 0.5, layers_order=order)
        engine = engines.create(name)
        engine.load(replace(default, **spec), -1)
        self._loaded.append(engine)
        return engine

    def close(self) -> None:
        for engine in self._loaded:
            engine.close()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def workshop(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    made = Workshop(graphs)
    monkeypatch.setattr(base, "make_graph", made.make)
    yield made
    made.close()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pooled_here_or_in_the_graph(
    name: str, model: str, strategy: str, workshop: Workshop
) -> None:
    features, directory = batch(), MODELS[model]
    few = strategy in ("CLS_POOLED", "FIRST_TOKEN", "LAST_TOKEN")
    for layers in LAYERS[:1] if few else LAYERS:
        normalize = strategy != "NONE" and layers == LAYERS[1]
        engine = workshop.load(name, directory, GraphOptions(strategy, layers, normalize))
        expected = engine.encode(features)
        asked = Pooling(strategy, () if strategy == "CLS_POOLED" else layers, normalize)
        hidden = engine.hidden_states(features, sorted(set(asked.layers)), asked.needs_pooler)
        vectors = pool(asked, hidden, features.lengths, features.tokens[2])
        assert (vectors.shape, vectors.dtype) == (expected.shape, np.float32)
        np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_padded_graph_gives_the_tokens_alone(name: str, workshop: Workshop) -> None:
    features = batch()
    packed, padded = (
        workshop.load(name, MODELS["google"], GraphOptions(), is_packed).hidden_states(
            features, [0, 2], pooled=True
        )
        for is_packed in (True, False)
    )
    # Layers of a row that attends to nothing depend on how far it is padded.
    keep = np.repeat(np.add.reduceat(features.tokens[2], features.starts) > 0, features.lengths)
    for layer in (0, 2):
        assert padded.layers[layer].shape == (features.tokens.shape[1], 40)
        np.testing.assert_allclose(
            padded.layers[layer][keep], packed.layers[layer][keep], atol=1e-5
        )
    assert padded.pooled is not None
    assert padded.pooled.shape == (features.rows, 40)


@pytest.mark.parametrize("name", ENGINES)
def test_only_what_is_asked_for_is_given(name: str, workshop: Workshop) -> None:
    engine = workshop.load(name, MODELS["google"], GraphOptions())
    some = engine.hidden_states(batch(), [1], pooled=False)
    assert (sorted(some.layers), some.pooled) == ([1], None)
    none = engine.hidden_states(batch(), [], pooled=True)
    assert none.layers == {}
    assert none.pooled is not None


# ------------------------------------------------------------------------------ on demand


def test_the_graph_is_made_when_it_is_asked_for_and_once(workshop: Workshop, log: Any) -> None:
    engine = workshop.load("onnxruntime", MODELS["google"], GraphOptions())
    engine.encode(batch())
    assert workshop.made == []
    assert "other poolings" not in log.text
    for _ in range(2):
        engine.hidden_states(batch(), [0], pooled=False)
    (order,) = workshop.made
    assert order["options"]["every_layer"] is True
    assert log.text.count("info: graph for other poolings (") == 1


def test_threads_that_need_it_at_the_same_time_wait_for_the_first(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = workshop.load("onnxruntime", MODELS["google"], GraphOptions())
    begun, may_end = threading.Event(), threading.Event()

    def make(order: Dict[str, Any]) -> Path:
        begun.set()
        assert may_end.wait(PATIENCE)
        return workshop.make(order)

    monkeypatch.setattr(base, "make_graph", make)
    with ThreadPoolExecutor(4) as pool_of_threads:
        several = [
            pool_of_threads.submit(engine.hidden_states, batch(), [2], True) for _ in range(3)
        ]
        assert begun.wait(PATIENCE)
        own = pool_of_threads.submit(engine.encode, batch(), False)
        assert own.result(PATIENCE).shape == (5, 40), "the server's own pooling waits for nothing"
        assert not any(one.done() for one in several)
        may_end.set()
        results = [one.result(PATIENCE) for one in several]
    assert len(workshop.made) == 1
    for result in results:
        np.testing.assert_array_equal(result.layers[2], results[0].layers[2])


@pytest.mark.parametrize(
    "problem", [GraphOptError("no space is left"), StartupError("it ended with no space is left")]
)
def test_what_cannot_be_made_is_an_error_and_tried_again(
    problem: Exception, workshop: Workshop
) -> None:
    engine = workshop.load("onnxruntime", MODELS["google"], GraphOptions())
    workshop.problem = problem
    with pytest.raises(EngineError, match=r"graph for other poolings: .*no space is left"):
        engine.hidden_states(batch(), [0], pooled=False)
    assert engine.encode(batch()).shape == (5, 40)
    workshop.problem = None
    assert engine.hidden_states(batch(), [0], pooled=False).layers[0].shape == (34, 40)


def test_what_cannot_be_loaded_is_an_error(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = workshop.load("onnxruntime", MODELS["google"], GraphOptions())
    (tmp_path / "broken.onnx").write_bytes(b"nothing of the kind")
    monkeypatch.setattr(base, "make_graph", lambda order: tmp_path / "broken.onnx")
    with pytest.raises(EngineError, match=r"can't load .*broken\.onnx"):
        engine.hidden_states(batch(), [0], pooled=False)
    assert engine.encode(batch()).shape == (5, 40)


def test_it_is_in_the_form_of_the_other(workshop: Workshop) -> None:
    """With streams, which share the weights in that form."""
    installed("onnxruntime")
    pytest.importorskip("onnxruntime", minversion="1.21")
    options, form = GraphOptions(), asdict(cache.Form("onnx", packed=True))
    plain = workshop.load("onnxruntime", MODELS["huggingface"], options)
    expected = plain.hidden_states(batch(), [3], pooled=True)
    graph = workshop.graph(MODELS["huggingface"], options, form)
    own = EngineSpec("onnxruntime", str(graph), 64, False, 2, 0.5)
    fitted = str(engines.create("onnxruntime").fitted(own, -1))
    engine = workshop.load(
        "onnxruntime", MODELS["huggingface"], options, graph=fitted, threads=2, streams=2
    )
    made = workshop.graph(MODELS["huggingface"], GraphOptions(every_layer=True), form)
    assert not list(made.parent.glob("prepacked-*"))
    with ThreadPoolExecutor(3) as threads:
        several = list(
            threads.map(lambda _: engine.hidden_states(batch(), [3], True, False), range(6))
        )
    assert list(made.parent.glob("prepacked-*/model.onnx"))
    for one in several:
        np.testing.assert_allclose(one.layers[3], expected.layers[3], atol=1e-5)
        np.testing.assert_allclose(one.pooled, expected.pooled, atol=1e-5)


# ----------------------------------------------------------------------------------- echo


def test_echo_s_layers_tell_token_position_and_layer() -> None:
    engine = EchoEngine()
    engine.load(EngineSpec("echo", None, 6, False, 1, 0.5), -1)
    tokens = np.array([[4, 9, 4], [0, 0, 0], [1, 1, 1]], np.int32)
    hidden = engine.hidden_states(Features(tokens, np.array([2, 1], np.int32)), [0, 11], False)
    assert hidden.pooled is None
    prime = 65521
    marks = np.array([5 * 38, 10 * 69, 5 * 38])
    for layer, states in hidden.layers.items():
        expected = (marks[:, None] + layer + 1) * np.arange(1, 7) % prime
        np.testing.assert_array_equal(states, (expected / np.float32(prime)).astype(np.float32))
    assert not (hidden.layers[0][2] == echo_vector([4], 6)).any()
