from __future__ import annotations

import threading
from random import Random
from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.benchmarks.chaos.faults import KINDS, PROCESSES, plan
from bert_serving.benchmarks.chaos.tally import Tally
from bert_serving.benchmarks.chaos.texts import Texts


@given(
    st.integers(0, 2**32),
    st.integers(0, 50),
    st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True),
)
def test_a_seed_decides_the_plan(seed: int, count: int, kinds: List[str]) -> None:
    faults = plan(Random(seed), count, 1.5, kinds)
    assert faults == plan(Random(seed), count, 1.5, kinds)
    assert len(faults) == count
    for fault in faults:
        assert fault.wait >= 0
        assert fault.kind in kinds
        assert fault.target in KINDS[fault.kind][1]


def test_all_kinds_and_all_processes_are_hit() -> None:
    faults = plan(Random(1), 1000, 2.0, list(KINDS))
    assert {fault.kind for fault in faults} == set(KINDS)
    for kind in ("kill", "freeze", "pause"):
        assert {fault.target for fault in faults if fault.kind == kind} == set(PROCESSES)
    assert sum(fault.wait for fault in faults) == pytest.approx(2000, rel=0.2)


def test_what_becomes_of_requests_is_counted() -> None:
    tally = Tally()
    with tally.request() as tell:
        assert tally.overdue(-1) == 1
        assert tally.answered == 0
        tell("right")
    with pytest.raises(KeyError), tally.request():
        raise KeyError
    assert tally.overdue(-1) == 0
    report = tally.report()
    assert (report["sent"], report["answered"]) == (2, 2)
    assert report["outcomes"] == {"right": 1, "nothing said": 1}


def test_many_threads_may_count() -> None:
    tally = Tally()

    def ask() -> None:
        for _ in range(200):
            with tally.request() as tell:
                tell("right")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.report()["outcomes"] == {"right": 1600}


def test_vectors_tell_their_texts() -> None:
    texts = Texts(1)
    one, other = texts.draw(), texts.draw()
    vectors = texts.expected(one)
    assert texts.is_right(one, vectors)
    assert not texts.is_right(one, vectors[::-1] if len(one) > 1 else vectors + 1)
    assert not texts.is_right(other, vectors)
    assert not texts.is_right(one, np.zeros_like(vectors))
