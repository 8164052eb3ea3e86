from __future__ import annotations

from typing import Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.benchmarks.packing import ROUNDS, WAYS, by_length, in_parts, main, speeds
from bert_serving.server.engines import Engine, Features
from bert_serving.server.engines.echo import EchoEngine
from bert_serving.server.spec import EngineSpec

LENGTHS = st.lists(st.integers(1, 40), min_size=4, max_size=64).map(np.array)


@pytest.mark.parametrize("way", sorted(WAYS))
@given(lengths=LENGTHS)
def test_every_way_computes_every_row(way: str, lengths: np.ndarray) -> None:
    batches = WAYS[way][1](lengths)
    assert sorted(np.concatenate(batches)) == sorted(lengths)
    assert all(len(batch) for batch in batches)


def test_rows_of_like_length_are_together() -> None:
    lengths = np.array([3, 9, 3, 8, 1, 1])
    assert [batch.tolist() for batch in by_length(lengths)] == [[1, 1], [3, 3], [8], [9]]
    assert [batch.tolist() for batch in in_parts(3)(lengths)] == [[1, 1], [3, 3], [8, 9]]


class Counter(EchoEngine):
    def __init__(self) -> None:
        self.tokens: List[int] = []

    def encode(self, features: Features, is_alone: bool = True) -> np.ndarray:
        self.tokens.append(features.tokens.shape[1])
        return super().encode(features, is_alone)


def test_ways_take_turns() -> None:
    engines: Dict[bool, Engine] = {False: Counter(), True: Counter()}
    for engine in engines.values():
        engine.load(EngineSpec("echo", None, 4, False, 1, 0.5), -1)
    lengths = np.array([5, 5, 7, 9])
    found = speeds(engines, lengths)
    assert len(found) == len(WAYS)
    assert all(one > 0 for one in found)
    for is_packed, engine in engines.items():
        assert isinstance(engine, Counter)
        ways = sum(packed == is_packed for packed, _ in WAYS.values())
        assert sum(engine.tokens) == (1 + ROUNDS) * ways * lengths.sum()


def test_it_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-engine", "echo", "-cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("### Tokens per second")
    assert [line.split("|")[1].strip() for line in lines[4:]] == [
        "lognormal:21",
        "uniform:6-32",
        "fixed:32",
    ]


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-model_dir", "/nowhere", "-cpu"]) == 2
    assert "/nowhere" in capsys.readouterr().err
