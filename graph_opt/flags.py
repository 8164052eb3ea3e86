"""How the flags of the commands are spelled, and what values they take."""

from __future__ import annotations

import argparse
from typing import Any, Tuple

__all__ = ["add_flag", "fraction_from_zero", "names", "positive", "yes_or_no"]


def add_flag(group: Any, *names: str, **options: Any) -> None:
    """Add a flag in both spellings; the first name is also that of the attribute."""
    options.setdefault("dest", names[0])
    spellings = []
    for name in names:
        spellings += ["-" + name, "--" + name.replace("_", "-")]
        if "_" in name:
            spellings.append("--" + name)
    group.add_argument(*spellings, **options)


def positive(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on, but is %r" % value)
    return int(value)


def yes_or_no(value: str) -> bool:
    if value.lower() not in ("true", "yes", "1", "false", "no", "0"):
        raise argparse.ArgumentTypeError("must be true or false, but is %r" % value)
    return value.lower() in ("true", "yes", "1")


def fraction_from_zero(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise argparse.ArgumentTypeError("must be from 0 to 1, but is %r" % value)
    return number


def names(value: str) -> Tuple[str, ...]:
    """Names of tensors or nodes, separated by commas."""
    found = tuple(part.strip() for part in value.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(
            "must be names separated by commas, e.g. input_ids,input_mask, but is %r" % value
        )
    return found
