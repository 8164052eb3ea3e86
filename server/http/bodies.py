"""Bodies of requests: read within a limit, and decompressed within the same one.

A body is never held beyond the limit, whatever its headers say of its length, and however little of
it is compressed.
"""

from __future__ import annotations

import asyncio
import zlib
from reprlib import repr as shorten
from typing import AsyncIterator, List, Optional

from starlette.requests import ClientDisconnect

from bert_serving.server.http.errors import HttpError

__all__ = ["read_body"]

#: zlib's window bits for gzip's format.
GZIP = 16 + zlib.MAX_WBITS


async def read_body(
    chunks: AsyncIterator[bytes], encoding: str, length: Optional[str], limit: int, seconds: float
) -> bytes:
    """The whole body, decompressed.

    ``encoding`` and ``length`` are the headers Content-Encoding and Content-Length. Raises
    HttpError if it has more than ``limit`` bytes, doesn't come within ``seconds``, can't be
    decompressed, or if the client hangs up before its end.
    """
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise HttpError(
            "bad_encoding",
            "Content-Encoding must be gzip or identity, but is %s" % shorten(encoding),
        )
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    try:
        if encoding in ("gzip", "x-gzip"):
            return await asyncio.wait_for(_decompress(chunks, limit), seconds)
        return await asyncio.wait_for(_collect(chunks, limit), seconds)
    except asyncio.TimeoutError:
        raise HttpError(
            "slow_body", "the request's body didn't come within %g s" % seconds
        ) from None
    except ClientDisconnect:
        raise HttpError("gone", "the client disconnected before the end of its body") from None


async def _collect(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    parts: List[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        parts.append(chunk)
    return b"".join(parts)


async def _decompress(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    inflate = zlib.decompressobj(GZIP)
    parts: List[bytes] = []
    size = 0
    async for chunk in chunks:
        try:
            part = inflate.decompress(chunk, limit + 1 - size)
        except zlib.error as error:
            raise HttpError("bad_request", "the body is not gzip: %s" % error) from error
        size += len(part)
        if size > limit or inflate.unconsumed_tail:
            raise _too_large(limit)
        if inflate.unused_data:
            raise HttpError("bad_request", "the body has more behind the end of its gzip data")
        parts.append(part)
    if not inflate.eof:
        raise HttpError("bad_request", "the body's gzip data has no end")
    return b"".join(parts)


def _too_large(limit: int) -> HttpError:
    return HttpError(
        "too_large",
        "the body has more than %d bytes; send less at a time, or start the server with a larger "
        "-http_max_body" % limit,
    )
