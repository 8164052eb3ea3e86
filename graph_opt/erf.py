"""The error function in numpy, which has none."""

from __future__ import annotations

from typing import Sequence

import numpy as np

__all__ = ["erf"]

# Rational approximations by W. J. Cody, "Rational Chebyshev approximations for the error function",
# Mathematics of Computation 23 (1969), pp. 631-637; highest power first.
# erf(x) = x * P(x**2) / Q(x**2) for |x| <= 0.46875:
_SMALL_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_SMALL_Q = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
# erfc(x) = exp(-x**2) * P(x) / Q(x) for 0.46875 <= x <= 4. Above, erfc is below 2e-8 and the
# approximation good enough for what is left of it in erf; at 6 erf is 1 in float64.
_LARGE_P = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_LARGE_Q = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_BORDER = 0.46875
_ONE_FROM = 6.0
# Elements worked on at a time: the temporary arrays stay in the processor's cache.
_CHUNK = 1 << 14


def erf(array: np.ndarray) -> np.ndarray:
    """The error function of each element, same shape and dtype; NaN stays NaN.

    Computed in float64, to some 1e-15.
    """
    flat = np.ravel(array)
    result = np.empty(flat.shape, array.dtype)
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK].astype(np.float64)
        result[start : start + _CHUNK] = _erf(chunk)
    return result.reshape(array.shape)


def _erf(x: np.ndarray) -> np.ndarray:
    magnitude = np.minimum(np.abs(x), _ONE_FROM)
    squares = magnitude * magnitude
    large = 1.0 - np.exp(-squares) * (_horner(_LARGE_P, magnitude) / _horner(_LARGE_Q, magnitude))
    small = magnitude * (_horner(_SMALL_P, squares) / _horner(_SMALL_Q, squares))
    return np.copysign(np.where(magnitude <= _BORDER, small, large), x)


def _horner(coefficients: Sequence[float], x: np.ndarray) -> np.ndarray:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total
