"""How a flag is spelled, and what values it takes."""

from __future__ import annotations

import argparse
from typing import Any, Optional

__all__ = ["add_flag", "count", "fraction", "max_seq_len", "port", "positive", "yes_or_no"]


def add_flag(group: Any, *names: str, **options: Any) -> None:
    """Add a flag in both spellings; the first name is also that of the attribute."""
    options.setdefault("dest", names[0])
    spellings = []
    for name in names:
        spellings += ["-" + name, "--" + name.replace("_", "-")]
        if "_" in name:
            spellings.append("--" + name)
    group.add_argument(*spellings, **options)


def max_seq_len(value: str) -> Optional[int]:
    """A number above 3, for up to three tokens of a sequence are special; or NONE."""
    if value.lower() == "none":
        return None
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number <= 3:
        raise argparse.ArgumentTypeError(
            "must be NONE or a whole number above 3, since up to three tokens of a sequence are "
            "special ones, but is %r" % value
        )
    return number


def port(value: str) -> int:
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise argparse.ArgumentTypeError("must be a port from 1 to 65535, but is %r" % value)
    return int(value)


def positive(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on, but is %r" % value)
    return int(value)


def count(value: str) -> int:
    if not value.isdigit():
        raise argparse.ArgumentTypeError("must be a whole number from 0 on, but is %r" % value)
    return int(value)


def fraction(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0.0 < number <= 1.0:
        raise argparse.ArgumentTypeError("must be above 0.0 and at most 1.0, but is %r" % value)
    return number


def yes_or_no(value: str) -> bool:
    if value.lower() not in ("true", "yes", "1", "false", "no", "0"):
        raise argparse.ArgumentTypeError("must be true or false, but is %r" % value)
    return value.lower() in ("true", "yes", "1")
