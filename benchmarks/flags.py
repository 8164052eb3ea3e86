"""What values the benchmark's flags take, beside those of the server's and the optimizer's."""

from __future__ import annotations

import argparse
import re

from bert_serving.benchmarks.wire import Target
from bert_serving.benchmarks.workloads import parse_lengths
from bert_serving.server.flags import port

__all__ = ["address", "number", "size", "workload"]

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def number(value: str) -> float:
    """A positive number."""
    try:
        parsed = float(value)
    except ValueError:
        parsed = 0.0
    if not 0.0 < parsed < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0, but is %r" % value)
    return parsed


def size(value: str) -> int:
    """Bytes: "6G" is 6 GiB, as are "6GB" and "6GiB"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", value, re.IGNORECASE)
    if not found:
        raise argparse.ArgumentTypeError(
            "must be a number of bytes with or without K, M, G or T, but is %r" % value
        )
    return int(float(found.group(1)) * UNITS[found.group(2).upper()])


def address(value: str) -> Target:
    """HOST:PORT or HOST:PORT:PORT_OUT; an IPv6 address stands in brackets."""
    found = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+):(\d+)(?::(\d+))?", value)
    if not found:
        raise argparse.ArgumentTypeError(
            "must be HOST:PORT or HOST:PORT:PORT_OUT, but is %r" % value
        )
    first = port(found.group(2))
    return Target(
        found.group(1).strip("[]"), first, port(found.group(3) or str(min(first + 1, 65535)))
    )


def workload(value: str) -> str:
    """See :func:`parse_lengths`."""
    try:
        parse_lengths(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value
