"""Which requests have ended: exactly, for ever, and in little memory. Pure.

Of a request that has ended something may still come, such as vectors that a worker was computing
when it was cancelled. How much later, and after how many others, nothing bounds; so to remember
the last ones wouldn't do. But handles are the numbers from 1 on, given out in this order, and each
request ends. So it is enough to know the highest that has ended, and which below it haven't: no
more than there are open requests.
"""

from __future__ import annotations

from typing import Set

__all__ = ["Ended"]


class Ended:
    """A set of handles, from which none is ever taken."""

    def __init__(self) -> None:
        self._highest = 0
        self._gaps: Set[int] = set()  # what isn't here below that

    def __len__(self) -> int:
        return self._highest - len(self._gaps)

    def __contains__(self, handle: int) -> bool:
        return handle <= self._highest and handle not in self._gaps

    @property
    def gaps(self) -> int:
        """What takes memory: how many handles aren't here that are lower than one that is."""
        return len(self._gaps)

    def add(self, handle: int) -> None:
        """This one has ended, perhaps not for the first time."""
        if handle <= self._highest:
            self._gaps.discard(handle)
            return
        self._gaps.update(range(self._highest + 1, handle))
        self._highest = handle
