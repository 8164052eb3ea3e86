from __future__ import annotations

import argparse
from typing import Any, Callable

import pytest

from bert_serving.benchmarks.flags import address, number, size, workload
from bert_serving.benchmarks.wire import Target


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("localhost:5555", Target("localhost", 5555, 5556)),
        ("10.0.0.1:7000:8000", Target("10.0.0.1", 7000, 8000)),
        ("[::1]:5555:6000", Target("::1", 5555, 6000)),
    ],
)
def test_addresses(value: str, target: Target) -> None:
    assert address(value) == target


@pytest.mark.parametrize(
    ("value", "count"),
    [("1024", 1024), ("6G", 6 * 2**30), ("6GiB", 6 * 2**30), ("1.5k", 1536), ("512MB", 2**29)],
)
def test_sizes(value: str, count: int) -> None:
    assert size(value) == count


def test_other_values_are_taken_as_they_are() -> None:
    assert number("0.5") == 0.5
    assert workload("uniform:6-30") == "uniform:6-30"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (address, "localhost", "must be HOST:PORT"),
        (address, "localhost:0", "must be a port"),
        (address, "::1:5555", "must be HOST:PORT"),
        (address, "a:1:2:3", "must be HOST:PORT"),
        (size, "6X", "must be a number of bytes"),
        (number, "0", "must be a number above 0"),
        (number, "inf", "must be a number above 0"),
        (number, "x", "must be a number above 0"),
        (workload, "zipf:3", "zipf"),
    ],
)
def test_what_is_refused(kind: Callable[[str], Any], value: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        kind(value)
