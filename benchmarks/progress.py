"""A progress bar on standard error, if that is a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import Any, Callable, Iterator

__all__ = ["Progress", "bars_wanted"]


def bars_wanted() -> bool:
    """Whether somebody can see them."""
    return sys.stderr.isatty()


class Progress:
    """Makes a bar for each part of a benchmark, or nothing at all if not ``enabled``."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    @contextmanager
    def steps(self, total: int, label: str) -> Iterator[Callable[[str], None]]:
        """Call what this yields once before each of ``total`` steps, with what it is about."""
        if not self.enabled:
            yield lambda step: None
            return
        from tqdm import tqdm

        with tqdm(total=total, desc=label, file=sys.stderr) as bar:
            begun = False

            def begin(step: str) -> None:
                nonlocal begun
                bar.update(1 if begun else 0)
                begun = True
                bar.set_postfix_str(step)

            yield begin
            bar.update(1 if begun else 0)

    @contextmanager
    def share(self, label: str) -> Iterator[Callable[[float], None]]:
        """Call what this yields with the share of the work that is done, from 0 to 1."""
        if not self.enabled:
            yield lambda share: None
            return
        from tqdm import tqdm

        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
        with tqdm(total=1.0, desc=label, file=sys.stderr, bar_format=form, leave=False) as bar:
            yield lambda share: _advance(bar, share)


def _advance(bar: Any, share: float) -> None:
    bar.n = max(share, bar.n)
    bar.refresh()
