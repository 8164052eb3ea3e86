"""What may be the inputs and outputs of a training graph, for whoever hasn't named them."""

from __future__ import annotations

import re
from typing import List, Set, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node, node_of
from bert_serving.graph_opt.sources.tf_files import TfFile

__all__ = ["likely_inputs", "likely_outputs"]

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_ITERATORS = ("IteratorGetNext", "OneShotIterator", "QueueDequeueManyV2", "QueueDequeueV2")
# Scopes of what only training needs, or lies deep within the model.
_TRAINING = re.compile(
    r"(^|/)(gradients|save(_\d+)?|init(ializer)?(_\w+)?|report_uninitialized\w*|global_step"
    r"|clip_by_global_norm|global_norm|train(_op|ing_op)?|Initializer|Adam|AdamWeightDecay\w*"
    r"|Momentum|GradientDescent|checkpoint_initializer\w*|metrics|dropout(_\d+)?"
    r"|layer_\d+/attention|embeddings)(/|$)"
)
_NOT_RESULTS = re.compile(
    r"Assign|^Apply|^Resource|^Scatter|Save|Restore|Summary|Variable|^VarHandle|^VarIsInit"
    r"|Iterator|Dataset|Queue|^Const$|^Placeholder|^NoOp$|^Switch$|^Shape$|^Assert$|Random"
    r"|^Truncated|Gradient|Grad$"
)
_GOOD_OPS = ("Softmax", "Sigmoid", "LogSoftmax", "Identity")
_GOOD_NAMES = ("probabilit", "softmax", "logits", "predict", "output", "pool", "embedding")
_BAD_NAMES = ("loss", "accuracy", "cross_entropy", "learning_rate", "l2")
_MANY = 12


def likely_inputs(file: TfFile) -> List[Tuple[str, Node]]:
    """(tensor, node) of each placeholder and of what iterators and queues give."""
    found = [(node.name, node) for node in file.nodes if _is_readable(file, node, _PLACEHOLDERS)]
    return found + [
        ("%s:%d" % (node.name, index), node)
        for node in file.nodes
        if _is_readable(file, node, _ITERATORS)
        for index in range(len(file.op_defs.dtypes(node) or ()))
    ]


def likely_outputs(file: TfFile) -> List[str]:
    """Nodes that may be the results, the likeliest first: floats outside of what trains the model.

    They come last in the graph, or are named like results, or are a softmax or the like.
    """
    read: Set[str] = {node_of(tensor) for node in file.nodes for tensor in node.data_inputs}
    ranked = []
    for position, node in enumerate(file.nodes):
        if _TRAINING.search(node.name) or _NOT_RESULTS.search(node.op):
            continue
        dtypes = file.op_defs.dtypes(node) or []
        if len(dtypes) != 1 or not isinstance(dtypes[0], np.dtype) or dtypes[0].kind != "f":
            continue
        score = _score(node, node.name in read)
        if score > 0:
            ranked.append((-score, -position, node.name))
    return [name for _, _, name in sorted(ranked)[:_MANY]]


def _score(node: Node, is_read: bool) -> int:
    last = node.name.rpartition("/")[2].lower()
    score = 0 if is_read else 2
    if any(word in last for word in _GOOD_NAMES):
        score += 3
    if node.op in _GOOD_OPS[:3]:
        score += 2
    elif node.op in _GOOD_OPS and not is_read:
        score += 1
    if any(word in last for word in _BAD_NAMES):
        score -= 3
    if last == "read":
        score -= 4
    return score


def _is_readable(file: TfFile, node: Node, ops: Tuple[str, ...]) -> bool:
    if node.op not in ops or _TRAINING.search(node.name):
        return False
    dtypes = file.op_defs.dtypes(node)
    return bool(dtypes) and all(isinstance(one, np.dtype) for one in dtypes or ())
