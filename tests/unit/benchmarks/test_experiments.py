"""Which experiments the flags choose."""

from __future__ import annotations

import argparse
from typing import List

import pytest

from bert_serving.benchmarks.arguments import EXPERIMENTS, get_benchmark_parser
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.experiments import plan, run
from bert_serving.benchmarks.progress import Progress
from bert_serving.benchmarks.service import ModelLimits


def parse(*words: str) -> argparse.Namespace:
    return get_benchmark_parser().parse_args(list(words))


def test_by_default_all_of_1_10() -> None:
    assert plan(parse(), None, False) == {
        "client_batch_size": [1, 16, 256, 4096],
        "max_batch_size": [8, 32, 128, 512],
        "max_seq_len": [32, 64, 128, 256],
        "num_client": [1, 4, 16, 64],
        "pooling_layer": [-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12],
    }


def test_defaults_end_where_the_model_does() -> None:
    found = plan(parse(), ModelLimits(layers=3, positions=80), False)
    assert found["max_seq_len"] == [32, 64]
    assert found["pooling_layer"] == [-1, -2, -3]


def test_named_values_are_taken_as_they_are() -> None:
    args = parse("-test_max_seq_len", "16", "500", "--test-pooling-layer", "-1", "0")
    found = plan(args, ModelLimits(layers=3, positions=80), False)
    assert found == {"max_seq_len": [16, 500], "pooling_layer": [-1, 0]}


def test_no_value_leaves_an_experiment_out() -> None:
    found = plan(parse("-test_pooling_layer", "-test_num_client"), None, False)
    assert set(found) == set(EXPERIMENTS) - {"pooling_layer", "num_client"}


def test_a_running_server_keeps_its_flags() -> None:
    assert set(plan(parse(), None, True)) == {"client_batch_size", "num_client"}
    with pytest.raises(BenchmarkError, match="different flags"):
        plan(parse("-test_max_seq_len", "16"), None, True)


@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - {"pooling_layer"}))
def test_values_start_at_1(name: str) -> None:
    with pytest.raises(BenchmarkError, match="from 1 on"):
        plan(parse("-test_" + name, "4", "0"), None, False)


@pytest.mark.parametrize("repeat", ["2", "0", "-3"])
def test_more_requests_than_the_warm_up(repeat: str) -> None:
    words: List[str] = ["-engine", "echo", "-num_repeat", repeat]
    with pytest.raises(BenchmarkError, match="more than 2"):
        run(parse(*words), Progress(False))
