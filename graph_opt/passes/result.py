"""What a pass returns."""

from __future__ import annotations

from typing import Callable, NamedTuple, Tuple

from bert_serving.graph_opt.graph import Graph

__all__ = ["Pass", "Rewritten"]


class Rewritten(NamedTuple):
    """The new graph, and sentences for the report: what was left alone and why."""

    graph: Graph
    notes: Tuple[str, ...] = ()


Pass = Callable[[Graph], Rewritten]
