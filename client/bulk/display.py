"""Shows on standard error how far a run is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
from typing import Any, Callable

from bert_serving.client.bulk.state import State

__all__ = ["Display"]

#: Seconds between two lines.
LINE_SECONDS = 30.0
BAR_FORMAT = "{percentage:3.0f}%|{bar}| {postfix} [{elapsed}<{remaining}]"


class Display:
    """``total`` is how large ``State.consumed`` gets; ``begin`` is the state to go on from.

    ``clock`` is in seconds, ``say`` shows a line. Without tqdm there are lines instead of a bar.
    """

    def __init__(
        self,
        total: int,
        begin: State,
        clock: Callable[[], float],
        say: Callable[[str], None],
        bar: bool,
    ) -> None:
        self._total = total
        self._begin = begin
        self._clock = clock
        self._say = say
        self._started = self._shown = clock()
        self._bar = _make_bar(total, begin.consumed) if bar and total else None

    def show(self, state: State) -> None:
        """Tell of a new state, if it is time to."""
        if self._bar is not None:
            self._bar.set_postfix_str(self._counts(state), refresh=False)
            self._bar.update(state.consumed - self._bar.n)
        elif self._clock() - self._shown >= LINE_SECONDS:
            self._shown = self._clock()
            share = 100 * state.consumed / self._total if self._total else 100
            self._say("%s (%.0f%%)" % (self._counts(state), share))

    def _counts(self, state: State) -> str:
        seconds = max(self._clock() - self._started, 1e-3)
        rate = (state.rows - self._begin.rows) / seconds
        return f"{state.rows:,d} rows, {rate:,.0f} rows/s"

    def summary(self, state: State) -> str:
        """What was done, for the last line."""
        text = self._counts(state)
        if self._begin.rows:
            text += f" since it went on at {self._begin.rows:,d}"
        return text

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _make_bar(total: int, initial: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=initial, file=sys.stderr, bar_format=BAR_FORMAT)
