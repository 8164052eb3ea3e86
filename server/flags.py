"""What values the server's flags take, beside those of :mod:`bert_serving.graph_opt.flags`."""

from __future__ import annotations

import argparse
from typing import Optional

__all__ = ["count", "fraction", "max_seq_len", "port"]


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
