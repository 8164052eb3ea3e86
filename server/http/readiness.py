"""Whether the service answers: found out by a request that goes all the way, now and then."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Awaitable, Callable, Optional

__all__ = ["Readiness"]

#: Seconds for which what was found is believed.
BELIEVED = 1.0


class Readiness:
    """Asks at most once at a time, however many want to know.

    ``check`` returns if the service answers, and raises otherwise.
    """

    def __init__(
        self, check: Callable[[], Awaitable[Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._check = check
        self._clock = clock
        self._asking: "Optional[asyncio.Future[None]]" = None
        self._reason: Optional[str] = None
        self._until = float("-inf")
        self._is_stopping = False
        self._is_paused = False

    def pause(self, is_paused: bool) -> None:
        """The pipeline is being started again, or it has been."""
        self._is_paused = is_paused
        self._until = float("-inf")  # what was found before isn't believed any more

    def stop(self) -> None:
        """From now on the service isn't ready."""
        self._is_stopping = True

    async def reason(self) -> Optional[str]:
        """Why the service isn't ready; None: it is."""
        if self._is_paused:
            return "the service recovers"
        if not self._is_stopping and self._clock() >= self._until:
            if self._asking is None:
                self._asking = asyncio.ensure_future(self._ask())
            # Who asked first may go away before the others.
            await asyncio.shield(self._asking)
        return "the service stops" if self._is_stopping else self._reason

    async def _ask(self) -> None:
        try:
            await self._check()
            self._reason = None
        except asyncio.CancelledError:  # on Python 3.7 it is an Exception
            raise
        except Exception as error:
            self._reason = "%s: %s" % (type(error).__name__, error)
        finally:
            self._until = self._clock() + BELIEVED
            self._asking = None
