"""Weights as 8-bit integers, and the product of floats with such weights.

A weight is ``integer * scale``, symmetric around 0, with a scale for each output channel of a
product or for each row of a table.

In :func:`dynamic_quant_mat_mul` the activations are quantized too, as they come, to 0..255. Each
row has its own range: one token with an outlier (in a trained BERT the first one has a component
tens of times as large as all others) would otherwise cost all tokens of a batch their precision,
and a vector would depend on which texts it is computed with.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node
from bert_serving.graph_opt.kernels_base import Arrays

__all__ = [
    "DYNAMIC_QUANT_MAT_MUL",
    "LARGEST",
    "SMALLEST_SPAN",
    "Quantized",
    "balance",
    "column_sums",
    "dynamic_quant_mat_mul",
    "quantize_columns",
    "quantize_rows",
    "quantize_weights",
]

#: The operation of our own: (x float32 [..., k], weights int8 [k, n], scales float32 [n]) ->
#: float32 [..., n].
DYNAMIC_QUANT_MAT_MUL = "DynamicQuantMatMul"

LARGEST = 127
# x86 processors without VNNI multiply pairs of uint8 and int8 and add the two in 16 bits, where
# they saturate: 255 * 128 is the largest multiple of 255 that these hold.
_LARGEST_PAIR = 128
# What a row is divided by when all its elements are equal.
SMALLEST_SPAN = np.float32(1e-30)
_LEVELS = np.float32(255)
_STRONGEST_BALANCE = 10.0
# Rows of a table that are converted at once: a word embedding has tens of thousands.
_CHUNK = 4096


class Quantized(NamedTuple):
    """``values * scales`` is about what was quantized. The scales broadcast against the values."""

    values: np.ndarray  # int8
    scales: np.ndarray  # float32


def balance(weights: np.ndarray) -> np.ndarray:
    """What to divide the input's channels by, and to multiply the rows of [k, n] weights with: [k].

    Training makes weights small that a channel with outliers meets. Halving such a channel's part
    of the range, and doubling its weights, gives precision to the other channels and takes none
    from the weights: the geometric mean of doing nothing and of making all rows equally large.
    (SmoothQuant, Xiao et al. 2022, does so by measured activations; this needs none.)

    Only the last k columns are looked at. In a product fused for attention these give the value,
    whose errors nothing makes good; those of query and key shrink in the softmax.
    """
    norms = np.sqrt(np.square(weights[:, -len(weights) :], dtype=np.float64).sum(axis=1))
    middle = np.median(norms)
    if not middle:
        return np.ones(len(weights), np.float32)
    lowest, highest = middle / _STRONGEST_BALANCE**2, middle * _STRONGEST_BALANCE**2
    factors: np.ndarray = np.sqrt(middle / np.clip(norms, lowest, highest))
    return factors.astype(np.float32)


def quantize_columns(weights: np.ndarray) -> Quantized:
    """Weights of a product on CPUs, float32 [k, n], with a scale for each column: [n].

    No two neighbours in a column that some processor may add in 16 bits (rows 0 and 1, 2 and 3,
    ...) exceed what doesn't saturate there together. That costs trained weights some 0.4 bits of
    precision; halving the range of all, as is common, costs a whole one.
    """
    pairs = weights[: len(weights) // 2 * 2].reshape(-1, 2, weights.shape[1]).sum(axis=1)
    largest = np.maximum(
        np.abs(weights).max(axis=0) / LARGEST,
        # Each of the two may be rounded up by half a step.
        np.abs(pairs).max(axis=0, initial=0) / (_LARGEST_PAIR - 1),
    )
    scales = _positive(largest)
    return Quantized(_rounded(weights, scales), scales)


def quantize_rows(table: np.ndarray) -> Quantized:
    """A table that is read by rows, float32 [v, w], with a scale for each row: [v, 1]."""
    scales = np.concatenate(
        [
            _positive(np.abs(table[start : start + _CHUNK]).max(axis=1, keepdims=True) / LARGEST)
            for start in range(0, len(table), _CHUNK)
        ]
    )
    return Quantized(_rounded(table, scales), scales)


def quantize_weights(weights: np.ndarray) -> Quantized:
    """Weights that are only stored, float32 of any rank, with a scale for each last index."""
    axes = tuple(range(weights.ndim - 1))
    scales = _positive(np.abs(weights).max(axis=axes) / LARGEST)
    return Quantized(_rounded(weights, scales), scales)


def column_sums(weights: Quantized) -> np.ndarray:
    """The sum of each column, float32 [n]."""
    sums: np.ndarray = weights.values.sum(axis=0, dtype=np.int64).astype(np.float32)
    return sums * weights.scales


def dynamic_quant_mat_mul(node: Node, arrays: Arrays) -> Tuple[Any, ...]:
    """The kernel of DYNAMIC_QUANT_MAT_MUL, as the ONNX target says it.

    A row x is ``low + span * u``, with u from 0 to 1. u is quantized by DynamicQuantizeLinear of
    the ONNX standard: q = round_half_even(u / scale), scale = max(u) / 255. The product of integers
    is exact. In the end, low and span are multiplied back in::

        x @ weights = span * (u @ weights) + low * column_sums(weights)
    """
    x, weights = arrays[0], Quantized(arrays[1], arrays[2])
    low = x.min(axis=-1, keepdims=True)
    span = np.maximum(x.max(axis=-1, keepdims=True) - low, SMALLEST_SPAN)
    unit = (x - low) / span
    # Of rows that are all constant nothing is left; DynamicQuantizeLinear's scale is 1 then.
    scale = unit.max(initial=0) / _LEVELS or np.float32(1)
    levels = np.rint(unit / scale)
    # float64 holds these integers exactly, and BLAS is faster than numpy's integer product.
    product = np.matmul(levels.astype(np.float64), weights.values.astype(np.float64))
    scaled = product.astype(np.float32) * (scale * weights.scales)
    return (scaled * span + low * column_sums(weights),)


def _positive(scales: np.ndarray) -> np.ndarray:
    """float32; 1 for what is all zeros."""
    return np.where(scales > 0, scales, 1).astype(np.float32)


def _rounded(array: np.ndarray, scales: np.ndarray) -> np.ndarray:
    values = np.empty(array.shape, np.int8)
    per_row = scales.ndim == array.ndim
    for start in range(0, len(array), _CHUNK):
        part = slice(start, start + _CHUNK)
        steps = np.rint(array[part] / (scales[part] if per_row else scales))
        values[part] = np.clip(steps, -LARGEST, LARGEST)
    return values
