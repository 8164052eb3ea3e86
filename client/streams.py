"""Iterators that have something to give back when they end, early or not."""

from __future__ import annotations

from typing import Any, AsyncIterator, Awaitable, Callable, Iterator

__all__ = ["AsyncPartIterator", "PartIterator"]


class PartIterator(Iterator[Any]):
    """Iterates over what ``take`` returns until it raises, StopIteration at the end.

    ``end`` is called once: at the end, after an error, by :meth:`close` or leaving a ``with``
    block, or when nobody has the iterator any more. Unlike with a generator, also when no part was
    ever taken. It has to let ``take`` come back if another thread is in it.
    """

    def __init__(self, take: Callable[[], Any], end: Callable[[], None]) -> None:
        self._take = take
        self._end = end
        self._is_over = False

    def __next__(self) -> Any:
        if self._is_over:
            raise StopIteration
        try:
            return self._take()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take no more parts; the server drops what it hasn't computed yet. Safe to call twice.

        For threads that wait for the next part the stream is at its end.
        """
        if not self._is_over:
            self._is_over = True
            self._end()

    def __enter__(self) -> PartIterator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AsyncPartIterator(AsyncIterator[Any]):
    """As :class:`PartIterator`, for ``async for`` and ``async with``.

    ``end`` has to let ``take`` come back if a task is in it. One task at a time can be: another one
    gets a RuntimeError, which doesn't disturb the first.
    """

    def __init__(self, take: Callable[[], Awaitable[Any]], end: Callable[[], None]) -> None:
        self._take = take
        self._end = end
        self._is_over = False
        self._is_taking = False

    async def __anext__(self) -> Any:
        if self._is_over:
            raise StopAsyncIteration
        if self._is_taking:
            raise RuntimeError("two tasks can't take the parts of one stream at the same time")
        self._is_taking = True
        try:
            return await self._take()
        except BaseException:
            self._close()
            raise
        finally:
            self._is_taking = False

    def _close(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._end()

    async def aclose(self) -> None:
        """Take no more parts; the server drops what it hasn't computed yet. Safe to call twice.

        For a task that waits for the next part the stream is at its end.
        """
        self._close()

    async def __aenter__(self) -> AsyncPartIterator:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._close()

    def __del__(self) -> None:
        self._close()
