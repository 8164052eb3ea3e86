"""Whether an engine failed because there was too little memory. Pure.

Each library says it in its own words, and most in an exception that says nothing by its type.
"""

from __future__ import annotations

import re
from typing import Optional

__all__ = ["is_out_of_memory"]

_WORDS = re.compile(
    "|".join(
        (
            r"out of memory",  # CUDA, XLA, and drivers
            r"\bOOM\b",  # TensorFlow
            r"\bfailed to allocate\b",  # ONNX Runtime's arena, TensorFlow's eager mode
            r"\bunable to allocate\b",  # numpy
            r"\bcannot allocate memory\b",  # ENOMEM
            r"\bis smaller than requested bytes\b",  # ONNX Runtime's arena that has a limit
            r"\bbad[_ ]alloc",  # C++
            r"RESOURCE.EXHAUSTED",  # XLA, TensorFlow
            r"cudaErrorMemoryAllocation",
            r"\bALLOC_FAILED\b|_ALLOC_FAILED\b",  # cuBLAS, cuDNN
        )
    ),
    re.IGNORECASE,
)


def is_out_of_memory(error: Optional[BaseException]) -> bool:
    """Whether ``error``, or one that it came from, says so."""
    while error is not None:
        if isinstance(error, MemoryError) or _WORDS.search(str(error)):
            return True
        error = error.__cause__
    return False
