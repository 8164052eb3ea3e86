"""Arithmetic of a graph as polynomials, in which the order and association of operands is gone.

``x * (0.5 * (1 + e))`` and ``0.5 * x + e * x * 0.5`` are the same ``{(x,): 0.5, (e, x): 0.5}``.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional, Set, Tuple

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.passes.matching import Readers, plain, scalar_of, source
from bert_serving.graph_opt.signatures import PASS_THROUGH

__all__ = ["ARITHMETIC", "Expansion", "Polynomial", "inverse", "same", "upwards"]

# Sorted names of tensors -> coefficient. "1/name" is the inverse of a tensor.
Polynomial = Dict[Tuple[str, ...], float]

_SUMS = ("Add", "AddV2", "BiasAdd")
_INVERSES = ("Inv", "Reciprocal")
# Of numbers only; of a tensor, these are tensors of their own.
_ROOTS = {"Sqrt": 0.5, "Rsqrt": -0.5}
ARITHMETIC = (
    _SUMS
    + ("Sub", "Mul", "RealDiv", "Neg", "Square", "Pow")
    + _INVERSES
    + tuple(_ROOTS)
    + PASS_THROUGH
)

# Larger expressions are no pattern that anyone looks for.
_MAX_TERMS, _MAX_DEGREE, _MAX_DEPTH = 8, 6, 12
# Coefficients are float32, and products of a few.
_TOLERANCE = 1e-6


def inverse(tensor: str) -> str:
    """How the inverse of a tensor is called in a polynomial."""
    return "1/" + tensor


class Expansion:
    """Expands tensors down to the given atoms, constants, and whatever isn't arithmetic."""

    def __init__(self, graph: Graph, atoms: Iterable[str]) -> None:
        self._graph = graph
        self._atoms = {source(graph, tensor) for tensor in atoms}
        self.visited: Set[str] = set()
        """Names of the nodes that were multiplied out, constants included."""

    def of(self, tensor: str, depth: int = 0) -> Optional[Polynomial]:
        """The polynomial of a tensor; None where it grows beyond all patterns."""
        tensor = self._enter(plain(tensor))
        if tensor in self._atoms:
            return {(tensor,): 1.0}
        number = scalar_of(self._graph, tensor)
        if number is not None:
            self.visited.add(tensor)
            return {(): number}
        node = self._graph[tensor]
        if node.op not in ARITHMETIC or depth > _MAX_DEPTH:
            return {(tensor,): 1.0}
        result = self._combined(node, depth + 1)
        if result is None or len(result) > _MAX_TERMS:
            return None
        return result if max(map(len, result), default=0) <= _MAX_DEGREE else None

    def _enter(self, tensor: str) -> str:
        """Through identities, which become part of the expression."""
        end = source(self._graph, tensor)
        while tensor != end and tensor not in self._atoms:
            self.visited.add(tensor)
            tensor = plain(self._graph[tensor].data_inputs[0])
        return tensor

    def _combined(self, node: Node, depth: int) -> Optional[Polynomial]:
        operands: List[Polynomial] = []
        visited = set(self.visited)
        for tensor in node.data_inputs:
            operand = self.of(tensor, depth)
            if operand is None:
                return None
            operands.append(operand)
        result = _apply(node.op, operands)
        if result is None:  # e.g. a square root: a tensor of its own
            self.visited = visited
            return {(node.name,): 1.0}
        self.visited.add(node.name)
        return result


def _apply(op: str, operands: List[Polynomial]) -> Optional[Polynomial]:
    first = operands[0]
    if op in _SUMS:
        return _sum(first, operands[1], 1.0)
    if op == "Sub":
        return _sum(first, operands[1], -1.0)
    if op == "Neg":
        return _sum({}, first, -1.0)
    if op == "Mul":
        return _product(first, operands[1])
    if op == "Square":
        return _product(first, first)
    if op == "RealDiv":
        divisor = _inverted(operands[1])
        return None if divisor is None else _product(first, divisor)
    if op == "Pow":
        return _power(first, operands[1])
    if op in _INVERSES:
        return _inverted(first)
    if op in _ROOTS:
        return _power(first, {(): _ROOTS[op]})
    return first


def _sum(one: Polynomial, other: Polynomial, sign: float) -> Polynomial:
    result = dict(one)
    for term, coefficient in other.items():
        result[term] = result.get(term, 0.0) + sign * coefficient
    return {term: coefficient for term, coefficient in result.items() if coefficient}


def _product(one: Polynomial, other: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for left, a in one.items():
        for right, b in other.items():
            term = tuple(sorted(left + right))
            result[term] = result.get(term, 0.0) + a * b
    return result


def _inverted(divisor: Polynomial) -> Optional[Polynomial]:
    """``1 / divisor`` for a number or for a single tensor."""
    if len(divisor) != 1:
        return None
    ((term, coefficient),) = divisor.items()
    if not coefficient or len(term) > 1 or any(name.startswith("1/") for name in term):
        return None
    return {tuple(inverse(name) for name in term): 1.0 / coefficient}


def _power(base: Polynomial, exponent: Polynomial) -> Optional[Polynomial]:
    if list(exponent) != [()]:
        return None
    power = exponent[()]
    if list(base) == [()]:
        number = base[()]
        return {(): number**power} if number > 0 else None
    if power not in (1.0, 2.0, 3.0):
        return None
    result = base
    for _ in range(int(power) - 1):
        result = _product(result, base)
    return result


def same(one: Mapping[Tuple[str, ...], float], other: Mapping[Tuple[str, ...], float]) -> bool:
    """Whether two polynomials are equal to within the precision of float32."""
    return set(one) == set(other) and all(
        abs(one[term] - other[term]) <= _TOLERANCE * abs(other[term]) for term in one
    )


def upwards(readers: Readers, start: str, depth: int = 6) -> List[str]:
    """The arithmetic nodes that a node leads to, nearest first."""
    found: Dict[str, None] = {}
    level = [start]
    for _ in range(depth):
        level = [node.name for name in level for node in readers.of(name) if node.op in ARITHMETIC]
        level = [name for name in dict.fromkeys(level) if name not in found]
        found.update(dict.fromkeys(level))
    return list(found)
