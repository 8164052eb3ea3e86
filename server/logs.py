"""What a person sees of the server: one line an event, coloured by who says it.

Every process of the server writes to the standard error stream that it inherits. Colours are
off when that is no terminal or NO_COLOR is set (https://no-color.org).
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from contextlib import contextmanager
from typing import Iterator, List, Optional

from termcolor import colored

__all__ = ["Complaints", "Stage", "colors_wanted", "log_bug", "set_up_logging", "stage"]

ROLE_COLORS = {
    "SERVER": "cyan",
    "GRAPHOPT": "cyan",
    "VENTILATOR": "magenta",
    "SINK": "green",
    "WORKER": "yellow",
    "HTTP": "blue",
}


class _RoleFormatter(logging.Formatter):
    def __init__(self, role: str, use_color: bool) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt="%H:%M:%S")
        self._label = role.ljust(10)
        if use_color:
            color = ROLE_COLORS.get(role.split("-")[0], "white")
            self._label = colored(self._label, color, force_color=True)
        self._use_color = use_color

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        clock, rest = message[:8], message[9:]
        if record.levelno >= logging.WARNING:
            label = "error" if record.levelno >= logging.ERROR else "warning"
            if self._use_color:
                label = colored(label, "red" if label == "error" else "yellow", force_color=True)
            rest = "%s: %s" % (label, rest)
        return "%s %s %s" % (clock, self._label, rest)


def colors_wanted() -> bool:
    """Whether the standard error stream is a terminal whose user didn't switch colours off."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def set_up_logging(role: str, verbose: bool = False, use_color: Optional[bool] = None) -> None:
    """Let loggers below "bert_serving" write to standard error as ``role``."""
    logger = logging.getLogger("bert_serving")
    handler = logging.StreamHandler(sys.stderr)
    color = colors_wanted() if use_color is None else use_color
    handler.setFormatter(_RoleFormatter(role, color))
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


def log_bug(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Log an error with where it was raised. What it says is for -verbose: it may quote a text."""
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", what, type(error).__name__, places.rstrip())
    logger.debug("it says: %s", error)


class Complaints:
    """Warnings that strangers can cause at will: one in ``EVERY`` seconds, so that they can't fill
    a disk with it, and the next one tells how many there were.
    """

    EVERY = 10.0

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._silent_until = float("-inf")
        self._untold = 0

    def warn(self, message: str) -> None:
        now = time.monotonic()
        if now < self._silent_until:
            self._untold += 1
            return
        more = "; and %d like it since the last one" % self._untold if self._untold else ""
        self._logger.warning("%s%s", message, more)
        self._silent_until, self._untold = now + self.EVERY, 0


class Stage:
    """Remarks made during a stage, put behind it when it ends."""

    def __init__(self) -> None:
        self.remarks: List[str] = []

    def remark(self, text: str) -> None:
        self.remarks.append(text)


@contextmanager
def stage(logger: logging.Logger, name: str) -> Iterator[Stage]:
    """Log ``name`` with the time it took, and what was remarked, once it succeeded."""
    started = time.monotonic()
    current = Stage()
    yield current
    remarks = ": " + ", ".join(current.remarks) if current.remarks else ""
    logger.info("%s%s (%.2f s)", name, remarks, time.monotonic() - started)
