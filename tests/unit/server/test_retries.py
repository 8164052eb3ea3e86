from __future__ import annotations

import math
from typing import List, Sequence, Tuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bert_serving.server.batching import Row
from bert_serving.server.retries import MAX_ALONE, PARTS, Group, Retries, divide, halve
from bert_serving.server.work import Batch

Place = Tuple[int, int]


def rows_of(*places: Place) -> Tuple[Row, ...]:
    return tuple(Row(handle, index, np.ones((3, 2), np.int32)) for handle, index in places)


def places_in(rows: Sequence[Row]) -> List[Place]:
    return [(row.request, row.index) for row in rows]


def request(handle: int, count: int) -> Tuple[Row, ...]:
    return rows_of(*((handle, index) for index in range(count)))


def batch_of(group: Group) -> Batch:
    return Batch(1, group.rows, group.attempt, True, group.failed_alone)


def test_requests_run_apart_first() -> None:
    rows = request(1, 2) + request(2, 1)
    groups, poisonous = divide(Batch(1, rows), rows)
    assert groups == [Group(rows[:2], 2), Group(rows[2:], 2)]
    assert poisonous == []


def test_a_request_of_its_own_runs_whole_once_more_and_then_in_parts() -> None:
    rows = request(1, 40)
    (again,), _ = divide(Batch(1, rows), rows)
    assert again == Group(rows, 2)
    parts, poisonous = divide(batch_of(again), rows)
    assert [len(part.rows) for part in parts] == [3] * 13 + [1]
    assert {part.attempt for part in parts} == {3}
    assert poisonous == []


def test_a_row_by_itself_has_two_tries() -> None:
    rows = request(1, 1)
    (again,), _ = divide(Batch(1, rows), rows)
    assert again == Group(rows, 2, 1)
    assert divide(batch_of(again), rows) == ([], list(rows))


def test_rows_that_are_not_wanted_any_more_do_not_run_again() -> None:
    rows = request(1, 2) + request(2, 2)
    groups, _ = divide(Batch(1, rows), rows[2:])
    assert groups == [Group(rows[2:], 2)]


@given(count=st.integers(1, 300), data=st.data())
def test_each_poisonous_row_is_found_and_no_other(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
    runs = dict.fromkeys(range(count), 0)
    waiting, found = [Group(request(1, count))], []
    while waiting:
        group = waiting.pop()
        for row in group.rows:
            runs[row.index] += 1
        if any(row.index in bad for row in group.rows):
            groups, poisonous = divide(batch_of(group), group.rows)
            waiting += groups
            found += [row.index for row in poisonous]
    assert sorted(found) == sorted(bad)
    levels = math.ceil(math.log(count, PARTS) - 1e-9)
    assert max(runs.values()) <= 1 + 1 + levels + MAX_ALONE - 1


def test_halves() -> None:
    rows = request(1, 2) + request(2, 3)
    assert halve(Batch(1, rows), rows) == [Group(rows[:3]), Group(rows[3:])]
    assert halve(Batch(1, rows), rows[:1]) == [Group(rows[:1])]


def test_the_parts_of_what_failed_go_first() -> None:
    retries = Retries()
    early, late = request(1, 2), request(2, 2)
    assert not retries
    retries.add_failed(Batch(1, early, attempt=2), early)
    retries.add_failed(Batch(2, late, attempt=2), late)
    assert retries.suspects == 4
    taken = [places_in(retries.take_suspect().rows) for _ in range(4)]
    assert taken == [[(2, 0)], [(2, 1)], [(1, 0)], [(1, 1)]]


def test_what_was_not_begun_runs_again_as_it_was() -> None:
    retries = Retries()
    mixed, alone = request(1, 1) + request(2, 1), request(3, 1)
    retries.add_interrupted(Batch(1, mixed), mixed)
    retries.add_interrupted(Batch(2, alone, 3, True, 1), alone)
    retries.add_interrupted(Batch(3, alone), [])
    assert retries.suspects == 1
    assert retries.take_suspect() == Group(alone, 3, 1)
    assert retries.take_interrupted() == Group(mixed)
    assert retries.take_interrupted() == Group(())
    assert not retries


def test_rows_of_ended_requests_are_dropped() -> None:
    retries = Retries()
    mixed = request(1, 1) + request(2, 1)
    retries.add_interrupted(Batch(1, mixed), mixed)
    retries.add_halves(Batch(2, request(1, 4)), request(1, 4))
    retries.drop(1)
    assert retries.suspects == 0
    assert places_in(retries.rows()) == [(2, 0)]
