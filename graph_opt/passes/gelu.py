"""Write gelu in the two forms that inference engines recognize.

Before, by the error function or by tanh, in any order and association, e.g.::

    y = x * (0.5 * (1 + Erf(x / Sqrt(2))))
    y = 0.5 * x * Erfc(-x * 0.70710678)
    y = 0.5 * x * (1 + Tanh(0.79788456 * x * (1 + 0.044715 * x * x)))

After (:func:`bert_serving.graph_opt.layers.activation`)::

    y = x * 0.5 * (Erf(x / 1.41421356) + 1)
    y = x * 0.5 * (Tanh((x + Pow(x, 3) * 0.044715) * 0.79788456) + 1)

Hendrycks and Gimpel 2016. Constants count as equal within the precision of float32.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.matching import Edit, Readers, plain, scalar_of
from bert_serving.graph_opt.passes.polynomials import (
    ARITHMETIC,
    Expansion,
    Polynomial,
    same,
    upwards,
)
from bert_serving.graph_opt.passes.result import Rewritten

__all__ = ["gelu"]

_SQRT_2 = math.sqrt(2.0)
_FACTOR = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715

# A tensor, a number, or an operation with its operands.
Form = Any


class _Gelu(NamedTuple):
    root: str
    x: str
    core: Node  # the Erf, Erfc or Tanh
    inside: Tuple[str, ...]


def gelu(graph: Graph) -> Rewritten:
    """The graph with every gelu, of the erf or the tanh kind, in its canonical form."""
    readers, edit = Readers(graph), Edit(graph)
    notes: List[str] = []
    for node in graph:
        if node.op not in ("Erf", "Erfc", "Tanh"):
            continue
        found = _match(graph, readers, node)
        if found is None:
            if node.op != "Tanh":
                notes.append("%s: an error function, but no gelu" % node.name)
            continue
        leaks = readers.leaks(found.inside, found.root)
        if leaks:
            notes.append("%s: %s is read elsewhere" % (found.root, leaks[0]))
        elif not _has_form(graph, found.root, _form(node.op, found.x)):
            _write(edit, found)
    return Rewritten(edit.graph() if edit.touched else graph, tuple(notes))


def _match(graph: Graph, readers: Readers, core: Node) -> Optional[_Gelu]:
    for x in _below(graph, core.data_inputs[0]):
        inner = Expansion(graph, (x,))
        argument = inner.of(core.data_inputs[0])
        if argument is None or not same(argument, _argument(core.op, x)):
            continue
        for name in upwards(readers, core.name):
            outer = Expansion(graph, (x, core.name))
            whole = outer.of(name)
            if whole is not None and same(whole, _whole(x, core)):
                inside = (inner.visited | outer.visited | {core.name}) - {x}
                inside -= {one for one in inside if graph[one].op == "Const"}
                return _Gelu(name, x, core, tuple(sorted(inside)))
    return None


def _argument(op: str, x: str) -> Polynomial:
    """What the error function or tanh is taken of."""
    if op == "Erf":
        return {(x,): 1 / _SQRT_2}
    if op == "Erfc":  # 1 + erf(x) is erfc(-x)
        return {(x,): -1 / _SQRT_2}
    return {(x,): _FACTOR, (x, x, x): _FACTOR * _CUBIC}


def _whole(x: str, core: Node) -> Polynomial:
    product = tuple(sorted((x, core.name)))
    return {product: 0.5} if core.op == "Erfc" else {(x,): 0.5, product: 0.5}


def _below(graph: Graph, tensor: str, depth: int = 6) -> List[str]:
    """The tensors that an expression is made of, nearest first."""
    found: Dict[str, None] = {}
    level = [plain(tensor)]
    for _ in range(depth):
        found.update(dict.fromkeys(one for one in level if graph[one].op != "Const"))
        level = [
            plain(operand)
            for one in level
            if graph[one].op in ARITHMETIC
            for operand in graph[one].data_inputs
        ]
    return list(found)


def _form(op: str, x: str) -> Form:
    """The canonical form: (operation, operands), where a number is a constant."""
    if op != "Tanh":
        core: Form = ("Erf", ("RealDiv", x, _SQRT_2))
    else:
        cubic = ("Mul", ("Pow", x, 3.0), _CUBIC)
        core = ("Tanh", ("Mul", ("AddV2", x, cubic), _FACTOR))
    return ("Mul", ("Mul", x, 0.5), ("AddV2", core, 1.0))


def _has_form(graph: Graph, tensor: str, form: Form) -> bool:
    if isinstance(form, str):
        return plain(tensor) == form
    if isinstance(form, float):
        number = scalar_of(graph, tensor)
        return number is not None and same({(): number}, {(): form})
    node = graph[tensor]
    return node.op == form[0] and all(
        _has_form(graph, operand, part) for operand, part in zip(node.data_inputs, form[1:])
    )


def _write(edit: Edit, found: _Gelu) -> None:
    attrs = {"T": np.dtype(found.core.attrs["T"])}

    def operand(form: Form) -> str:
        if isinstance(form, str):
            return form
        if isinstance(form, float):
            return edit.constant(found.root, form, attrs["T"], found.root + "/constant")
        inputs = [operand(part) for part in form[1:]]
        return edit.add(found.root, form[0], inputs, attrs, "%s/%s" % (found.root, form[0].lower()))

    form = _form(found.core.op, found.x)
    inputs = [operand(part) for part in form[1:]]
    edit.replace(Node(found.root, form[0], tuple(inputs), attrs))
