"""Sizes of dimensions that are known only by name.

A size is a whole number times symbols, e.g. ``12 * batch * sequence``. Two sizes that are equal as
terms are equal at run time; sizes that differ may still turn out equal.
"""

from __future__ import annotations

import math
from typing import Iterable, NamedTuple, Optional, Tuple

__all__ = ["Dim", "Shape", "ONE", "broadcast", "cancelled", "own_symbol", "product", "quotient"]


class Dim(NamedTuple):
    """``factor`` times the product of ``symbols``, which are sorted."""

    factor: int
    symbols: Tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether it is a plain number."""
        return not self.symbols


Shape = Tuple[Dim, ...]
ONE = Dim(1)


def own_symbol(name: str, axis: int) -> Dim:
    """The size of one dimension of a node's first output, where nothing more is known of it."""
    return Dim(1, ("%s:%d" % (name, axis),))


def product(dims: Iterable[Dim]) -> Dim:
    """The product; 1 of none."""
    factor = 1
    symbols: Tuple[str, ...] = ()
    for dim in dims:
        factor *= dim.factor
        symbols += dim.symbols
    return Dim(factor, tuple(sorted(symbols)) if factor else ())


def quotient(dividend: Dim, divisor: Dim) -> Optional[Dim]:
    """The exact quotient, or None if there is none for every value of the symbols."""
    if divisor.factor == 0 or dividend.factor % divisor.factor:
        return None
    left = list(dividend.symbols)
    for symbol in divisor.symbols:
        if symbol not in left:
            return None
        left.remove(symbol)
    return Dim(dividend.factor // divisor.factor, tuple(left))


def cancelled(one: Dim, other: Dim) -> Tuple[Dim, Dim]:
    """Two sizes without the factors and symbols that they share."""
    left, right = list(one.symbols), list(other.symbols)
    for symbol in one.symbols:
        if symbol in right:
            left.remove(symbol)
            right.remove(symbol)
    shared = math.gcd(one.factor, other.factor) or 1
    return Dim(one.factor // shared, tuple(left)), Dim(other.factor // shared, tuple(right))


def broadcast(one: Dim, other: Dim) -> Optional[Dim]:
    """The size of an elementwise result along an axis; None where it depends on the symbols."""
    if one == other or other == ONE:
        return one
    if one == ONE:
        return other
    # A number other than 1 wins: whatever meets it is equal to it, or 1.
    if one.known:
        return one
    return other if other.known else None
