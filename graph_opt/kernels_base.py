"""What a kernel is, and the commonest shapes of one."""

from __future__ import annotations

from typing import Any, Callable, Sequence, Tuple

import numpy as np

from bert_serving.graph_opt.graph import Node

__all__ = ["Arrays", "Kernel", "binary", "is_half", "unary", "widened"]

Arrays = Sequence[np.ndarray]
Kernel = Callable[[Node, Arrays], Tuple[Any, ...]]


def unary(function: Callable[[np.ndarray], Any]) -> Kernel:
    """A kernel of one array."""
    return lambda node, arrays: (function(arrays[0]),)


def binary(function: Callable[[np.ndarray, np.ndarray], Any]) -> Kernel:
    """A kernel of two arrays."""
    return lambda node, arrays: (function(arrays[0], arrays[1]),)


def is_half(dtype: np.dtype) -> bool:
    """Whether a dtype is float16 or bfloat16."""
    return dtype == np.float16 or dtype.name == "bfloat16"


def widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its intermediate results in float32 where the arrays are in half precision.

    As in engines: they add up products in float32, and round once at the end.
    """

    def run(*arrays: np.ndarray, **options: Any) -> Any:
        dtype = arrays[0].dtype
        if not is_half(dtype):
            return function(*arrays, **options)
        wide = [array.astype(np.float32) for array in arrays]
        return np.asarray(function(*wide, **options)).astype(dtype)

    return run
