"""Bounds on latency, and the search for a rate that keeps one."""

from __future__ import annotations

import argparse
from typing import Any, List

import pytest

from bert_serving.benchmarks.arguments import get_benchmark_parser
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.latency import summarize
from bert_serving.benchmarks.load import LoadResult, OpenLoad, Record, Sent, sum_up
from bert_serving.benchmarks.progress import Progress
from bert_serving.benchmarks.stress import Bound, bound_of, run, search_rate
from bert_serving.benchmarks.workloads import Batch


def parse(*words: str) -> argparse.Namespace:
    return get_benchmark_parser().parse_args(["-engine", "echo", *words])


def test_a_bound_is_kept_up_to_its_value() -> None:
    latency = summarize([0.1, 0.2, 0.3])
    assert Bound("p99", 0.3).holds(latency)
    assert not Bound("p99", 0.29).holds(latency)
    assert Bound("mean", 0.21).holds(latency)
    assert not Bound("mean", 0.19).holds(latency)


def test_a_failed_request_breaks_a_bound() -> None:
    latency = summarize([0.1] * 9, failed=1)
    assert not Bound("p99", 1.0).holds(latency)
    assert not Bound("mean", 1.0).holds(latency)


def test_no_request_keeps_no_bound() -> None:
    assert not Bound("p99", 1.0).holds(summarize([]))
    assert not Bound("mean", 1.0).holds(summarize([]))


def test_what_the_flags_bound() -> None:
    assert bound_of(parse("-p99", "50")) == Bound("p99", 0.05)
    assert bound_of(parse("-mean", "400")) == Bound("mean", 0.4)
    assert bound_of(parse("-preset", "article")) == Bound("mean", 0.4)
    assert bound_of(parse("-preset", "article", "-p99", "50")) == Bound("p99", 0.05)
    assert bound_of(parse("-rate", "5")) is None


@pytest.mark.parametrize("words", [["-p99", "5", "-mean", "5"], ["-rate", "5", "-p99", "5"]])
def test_flags_that_exclude_each_other(words: List[str]) -> None:
    with pytest.raises(BenchmarkError, match="exclude"):
        bound_of(parse(*words))


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "needs -rate"),
        (["-rate", "5", "-seconds", "2", "-warm_up", "2"], "leaves nothing"),
    ],
)
def test_a_load_that_says_too_little(words: List[str], match: str) -> None:
    with pytest.raises(BenchmarkError, match=match):
        run(parse("-load", *words), Progress(False))


def test_the_search_finds_what_a_server_can_do() -> None:
    """A server whose latency is 10 ms / (1 - rate / 100), and that loses requests from 100 on."""

    def measure(rate: float) -> LoadResult:
        load = OpenLoad(rate, 10.0, 0.0, 1, 1.0, 0)
        taken: Any = None if rate >= 100 else 1 + 0.01 / (1 - rate / 100)
        return sum_up(Record(load, [Sent(1.0, Batch(["a"], 3), 1.0, taken)], busy=0.0))

    search = search_rate(measure, Bound("mean", 0.1), 3.0, 0.01)
    assert search.held is not None
    assert search.failed is not None
    assert search.held <= 90 < search.failed < 1.01 * search.held
