"""Answers: JSON with vectors straight from arrays, compressed for those who like it."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, Dict, Mapping, Optional

import numpy as np
import orjson
from starlette.responses import Response

__all__ = ["accepts_gzip", "answer_json", "shortened", "unit_length"]

#: Bytes from which on an answer is compressed: below, it takes longer than it saves.
COMPRESSED = 2048
#: Digits of floating-point numbers compress little better at higher levels, and those cost more.
LEVEL = 1
#: Bytes that are compressed on the spot; more would keep other requests waiting.
AT_ONCE = 64 * 1024


async def answer_json(
    value: Any,
    accept_encoding: str = "",
    status: int = 200,
    headers: Optional[Dict[str, str]] = None,
) -> Response:
    """``value`` as JSON; arrays in it are numbers of the fewest digits that tell them apart."""
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = dict(headers or {}, Vary="Accept-Encoding")
    if len(content) >= COMPRESSED and accepts_gzip(accept_encoding):
        headers["Content-Encoding"] = "gzip"
        if len(content) <= AT_ONCE:
            content = _compress(content)
        else:
            loop = asyncio.get_event_loop()
            content = await loop.run_in_executor(None, _compress, content)
    return Response(content, status, headers, "application/json")


def _compress(content: bytes) -> bytes:
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return deflate.compress(content) + deflate.flush()


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the header Accept-Encoding allows gzip (RFC 9110, 12.5.3)."""
    weights: Dict[str, float] = {}
    for entry in accept_encoding.lower().split(","):
        name, _, parameters = entry.partition(";")
        key, _, value = parameters.strip().partition("=")
        try:
            weights[name.strip()] = float(value) if key.strip() == "q" else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    return _weight(weights) > 0.0


def _weight(weights: Mapping[str, float]) -> float:
    for name in ("gzip", "x-gzip", "*"):
        if name in weights:
            return weights[name]
    return 0.0


def shortened(vectors: np.ndarray, dimensions: Optional[int]) -> np.ndarray:
    """Float32 [rows, dimensions]: the first numbers of each vector, scaled to unit length again, as
    OpenAI does it (for models whose vectors can be cut).
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    return unit_length(vectors[:, :dimensions])


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Float32 [rows, dimension]: the vectors scaled to unit length; a zero vector stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled
