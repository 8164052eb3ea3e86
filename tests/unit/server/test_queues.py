from __future__ import annotations

from typing import Dict, List, Type, Union

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.batching import Row
from bert_serving.server.queues import ByLength, InOrder


def make_rows(lengths: List[int]) -> List[Row]:
    return [Row(1, i, np.zeros((3, length), np.int32)) for i, length in enumerate(lengths)]


@pytest.mark.parametrize("kind", [InOrder, ByLength])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    wanted=st.dictionaries(st.integers(1, 9), st.integers(0, 5)),
)
def test_rows_of_wanted_lengths_leave_in_order_and_the_others_stay(
    kind: Type[Union[InOrder, ByLength]], lengths: List[int], wanted: Dict[int, int]
) -> None:
    queue = kind()
    queue.extend(make_rows(lengths[:10]))
    queue.extend([row._replace(index=row.index + 10) for row in make_rows(lengths[10:])])
    expected = {
        length: [i for i, one in enumerate(lengths) if one == length][:count]
        for length, count in wanted.items()
    }
    missing = {length: count - len(expected[length]) for length, count in wanted.items()}
    counted = dict(wanted)
    taken = queue.take(counted)
    found: Dict[int, List[int]] = {length: [] for length in wanted}
    for row in taken:
        found[row.length].append(row.index)
    assert found == expected
    assert counted == missing
    assert len(queue) == len(queue.all()) == len(lengths) - len(taken)
    assert queue.tokens == sum(row.length for row in queue.all())
    available: Dict[int, int] = {}
    queue.count(available)
    assert sum(available.values()) == len(queue)


def test_a_few_rows_begin_with_the_first_and_many_with_the_longest() -> None:
    few, many = InOrder(), ByLength()
    few.extend(make_rows([5, 9, 2]))
    many.extend(make_rows([5, 9, 2]))
    assert (few.first_length(), many.first_length()) == (5, 9)
