from __future__ import annotations

import pytest

from bert_serving.server.replacement import (
    FIRST_BACK_OFF,
    FIRST_BACK_OFF_IF_READY,
    LONGEST_BACK_OFF,
    MOST_RESTARTS,
    YOUNG,
    Restarts,
    Slot,
)


def test_a_slot_is_filled_at_once() -> None:
    slot = Slot("worker", "worker-0")
    assert slot.is_due(0.0)
    slot.fill()
    assert not slot.is_due(1e9)


def test_one_that_was_well_is_replaced_at_once() -> None:
    slot = Slot("worker", "worker-0")
    for _ in range(20):
        slot.fill()
        assert slot.lose(100.0, 100.0 + YOUNG + 0.1) == 0.0
        assert slot.is_due(100.0 + YOUNG + 0.1)


def test_each_early_death_doubles_the_wait_up_to_the_longest() -> None:
    slot = Slot("worker", "worker-0")
    waits = []
    for number in range(40):
        slot.fill()
        waits.append(slot.lose(None, now=float(number)))
        assert not slot.is_due(number + waits[-1] - 0.01)
        assert slot.is_due(number + waits[-1] + 0.01)
    assert waits[:8] == pytest.approx([0.5, 1, 2, 4, 5, 5, 5, 5])
    assert (waits[0], waits[-1]) == (FIRST_BACK_OFF, LONGEST_BACK_OFF)
    # One that was well for a while starts again at the first.
    assert slot.lose(100.0, 200.0) == 0.0
    assert slot.lose(None, 200.0) == FIRST_BACK_OFF


def test_one_that_died_of_its_first_batches_waits_for_less() -> None:
    """A batch that kills workers is divided; that must not take minutes."""
    slot = Slot("worker", "worker-0")
    waits = [slot.lose(10.0, 10.1) for _ in range(8)]
    assert waits[0] == FIRST_BACK_OFF_IF_READY
    assert sum(waits) < 15.0


def test_slots_are_places_not_values() -> None:
    assert Slot("worker", "worker-0") != Slot("worker", "worker-0")


def test_restarts_in_vain_are_bounded() -> None:
    restarts = Restarts()
    never, briefly = (None, 0.0), (100.0, 100.0 + YOUNG)
    losses = [briefly, *[never] * (MOST_RESTARTS - 1)]
    assert [restarts.may(*loss) for loss in losses] == [True] * MOST_RESTARTS
    assert not restarts.may(*briefly)


def test_those_of_a_pipeline_that_was_of_use_are_not() -> None:
    restarts = Restarts()
    for _ in range(MOST_RESTARTS):
        assert restarts.may(None, 0.0)
    for _ in range(3 * MOST_RESTARTS):
        assert restarts.may(100.0, 100.1 + YOUNG)
    assert [restarts.may(None, 0.0) for _ in range(MOST_RESTARTS)] == [True] * MOST_RESTARTS
    assert not restarts.may(None, 0.0), "they count anew"
