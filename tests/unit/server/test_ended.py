from __future__ import annotations

from typing import List

from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.ended import Ended


@given(st.permutations(range(1, 30)), st.lists(st.integers(1, 29)))
def test_it_is_exact_and_keeps_only_what_has_not_ended(order: List[int], again: List[int]) -> None:
    ended = Ended()
    seen = set()
    for handle in order + again:
        ended.add(handle)
        seen.add(handle)
        assert {one for one in range(1, 35) if one in ended} == seen
        assert len(ended) == len(seen)
        assert ended.gaps == max(seen) - len(seen)
    assert ended.gaps == 0


def test_a_request_that_is_open_for_very_long_costs_nothing() -> None:
    ended = Ended()
    for handle in range(2, 100_000):
        ended.add(handle)
    assert ended.gaps == 1
    assert 1 not in ended
