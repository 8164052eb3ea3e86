"""Turn placeholders that say whether the model is being trained into a constant that says no.

Before: ``Placeholder "is_training"`` bool

After: ``Const "is_training"`` False

Such a placeholder is one bool or integer, with or without a default, that isn't among the declared
inputs, and the last part of its name is ``keras_learning_phase``, ``is_training``, ``training``,
``phase_train`` or the like. This goes for a graph that declares no inputs, too: nobody feeds such a
flag at inference. A name that could mean anything else never counts.
"""

from __future__ import annotations

import re

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.known_values import KnownValues
from bert_serving.graph_opt.passes.navigation import constant, declared_inputs
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["without_learning_phase"]

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
# In lower case, without underscores and without a number at the end.
_NAMES = re.compile(r"(keras)?learningphase|(is|in)?train(ing)?(flag|mode|phase)?|phasetrain")


def without_learning_phase(graph: Graph) -> Rewritten:
    """The graph with each learning phase replaced by a Const False (or 0) of the same name."""
    inputs = frozenset(declared_inputs(graph))
    phases = [node for node in graph if node.name not in inputs and _is_learning_phase(node)]
    if not phases:
        return Rewritten(graph)
    known = KnownValues(graph)
    notes = tuple(
        "%s: taken as not training, unlike its default" % node.name
        for node in phases
        if known.scalar(node.name)
    )
    constants = {
        node.name: constant(node.name, np.zeros((), node.attrs["dtype"])) for node in phases
    }
    return Rewritten(
        graph.replaced(nodes=[constants.get(node.name, node) for node in graph]), notes
    )


def _is_learning_phase(node: Node) -> bool:
    if node.op not in _PLACEHOLDERS:
        return False
    name = re.sub(r"_\d+$", "", node.name.rsplit("/", 1)[-1]).lower().replace("_", "")
    kind = getattr(node.attrs.get("dtype"), "kind", "")
    # Whoever gives a flag no shape means a scalar; integers without a shape may be data.
    shapes = {"b": ((), None), "i": ((),), "u": ((),)}.get(kind, ())
    return node.attrs.get("shape") in shapes and _NAMES.fullmatch(name) is not None
