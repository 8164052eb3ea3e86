"""What the tests of the algebra passes share: graphs as these passes get them, and comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
from unit.graph_opt.draft import Draft
from unit.graph_opt.engines import run_onnx
from unit.graph_opt.support import GOLDEN, SMALL, random_source, snapshot

from bert_serving.graph_opt.config import BertConfig
from bert_serving.graph_opt.graph import Graph
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.conditionals import resolve_conditionals
from bert_serving.graph_opt.passes.dropout import remove_dropout
from bert_serving.graph_opt.passes.freeze import freeze
from bert_serving.graph_opt.passes.identities import remove_identities
from bert_serving.graph_opt.passes.prune import prune
from bert_serving.graph_opt.passes.result import Pass, Rewritten
from bert_serving.graph_opt.pipeline import GraphOptions, build
from bert_serving.graph_opt.sources.tf_graph import read_tf_graph

CLASSIFIER = GOLDEN / "tf1-tiny" / "classifier"
_CLEANUP = (resolve_conditionals, remove_dropout, remove_identities, prune, freeze)


def cleaned(graph: Graph, *passes: Pass) -> Graph:
    """A training graph after the passes that come before the algebra, and some more."""
    for one in _CLEANUP + passes:
        graph = one(graph).graph
    return graph


def encoder(
    strategy: str, layers: Sequence[int], *passes: Pass, config: BertConfig = SMALL
) -> Graph:
    """A small BERT of our own with pooling, frozen."""
    graph = build(random_source(config), GraphOptions(strategy, tuple(layers)))
    return cleaned(graph, *passes)


def classifier(*passes: Pass) -> Graph:
    """The reference classifier, saved by TensorFlow 1.15 in training, frozen."""
    graph = read_tf_graph(
        CLASSIFIER / "model.ckpt-7.meta",
        inputs=["input_ids", "input_mask", "segment_ids"],
        outputs=["loss/probabilities"],
    )
    return cleaned(graph, *passes)


def classifier_case() -> Tuple[Dict[str, np.ndarray], np.ndarray]:
    """Feeds of the classifier and the probabilities that TensorFlow 1.15 gives."""
    with np.load(str(CLASSIFIER / "probs.npz")) as data:
        feeds = {
            "input_ids": data["ids"],
            "input_mask": data["mask"],
            "segment_ids": data["types"],
        }
        return feeds, data["probabilities"]


def rewritten(run_pass: Pass, graph: Graph) -> Rewritten:
    """What a pass gives, once it is sure that it left its input and all names as they were."""
    before = snapshot(graph)
    result = run_pass(graph)
    assert snapshot(graph) == before
    result.graph.validate()
    assert result.graph.outputs == graph.outputs
    assert result.graph.inputs == graph.inputs
    return result


def assert_same_results(
    before: Graph,
    after: Graph,
    feeds: Mapping[str, np.ndarray],
    path: Optional[Path] = None,
    tolerance: float = 1e-5,
) -> None:
    """Both graphs give the same in the interpreter, and in onnxruntime if there is a path."""
    expected = run(before, feeds)
    results = [run(after, feeds)]
    if path is not None:
        typed = {name: value.astype(after[name].attrs["dtype"]) for name, value in feeds.items()}
        results.append(run_onnx(after, path, typed))
    for result in results:
        for name, value in expected.items():
            assert result[name].dtype == value.dtype
            assert result[name].shape == value.shape
            np.testing.assert_allclose(result[name], value, rtol=tolerance, atol=tolerance)


def assert_untouched(run_pass: Pass, graph: Graph) -> Tuple[str, ...]:
    """The pass leaves a graph alone; returns its notes."""
    result = rewritten(run_pass, graph)
    assert snapshot(result.graph) == snapshot(graph)
    return result.notes


class Terms:
    """Adds sums and products to a draft, with operands swapped or regrouped as ``choose`` says."""

    def __init__(self, draft: Draft, choose: Callable[[int], int]) -> None:
        self._draft = draft
        self._choose = choose

    def add(self, *operands: Any) -> str:
        return self._fold(("AddV2", "Add")[self._choose(2)], operands)

    def mul(self, *operands: Any) -> str:
        return self._fold("Mul", operands)

    def _fold(self, op: str, operands: Sequence[Any]) -> str:
        waiting = [self._tensor(one) for one in operands]
        while len(waiting) > 1:
            pair = [waiting.pop(self._choose(len(waiting))) for _ in range(2)]
            waiting.append(self._draft.op(op, pair))
        return waiting[0]

    def _tensor(self, operand: Any) -> str:
        return operand if isinstance(operand, str) else self._draft.const(operand)
