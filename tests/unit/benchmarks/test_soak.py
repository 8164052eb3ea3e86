from __future__ import annotations

from typing import List

import pytest

from bert_serving.benchmarks.soak import Curve, growth


def curve(resident: List[int], descriptors: List[int]) -> Curve:
    made = Curve()
    for number, (size, files) in enumerate(zip(resident, descriptors)):
        made.add(10.0 * number, {"sink": size}, {"sink": files})
    return made


def test_what_stays_is_fine() -> None:
    ratios, problems = growth(curve([50, 100, 101, 104], [5, 9, 9, 12]), 10.0)
    assert ratios == {"sink": 1.04}
    assert problems == []


@pytest.mark.parametrize(
    ("resident", "descriptors", "message"),
    [
        ([50, 100, 103, 106], [9, 9, 9, 9], "the memory of sink grew by 6.0 %"),
        ([100, 100, 100, 100], [9, 9, 20, 40], "sink had 9 open files and has 40"),
    ],
)
def test_growth_is_found(resident: List[int], descriptors: List[int], message: str) -> None:
    _, problems = growth(curve(resident, descriptors), 10.0)
    assert problems == [message]


def test_a_process_that_was_replaced_is_a_problem() -> None:
    made = curve([100, 100], [9, 9])
    made.add(20.0, {"sink": 100, "worker-0": 100}, {"sink": 9, "worker-0": 9})
    assert growth(made, 0.0)[1] == ["worker-0 was not there all the time"]
