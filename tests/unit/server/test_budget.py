from __future__ import annotations

import numpy as np
import pytest

from bert_serving.server.batching import BatchLimits, Row
from bert_serving.server.budget import GROW_AFTER, Budget
from bert_serving.server.work import Batch

LIMITS = BatchLimits(rows=100, tokens=1000)


def batch_of(rows: int, length: int) -> Batch:
    return Batch(1, tuple(Row(1, n, np.ones((3, length), np.int32)) for n in range(rows)))


def test_it_is_halved_and_grows_again_up_to_what_it_was() -> None:
    budget = Budget(LIMITS)
    assert not budget.grow(0.0)
    assert budget.shrink(batch_of(9, 100), 10.0)
    assert budget.limits == BatchLimits(rows=100, tokens=500)
    assert budget.shrink(batch_of(4, 100), 20.0)
    assert budget.limits.tokens == 250
    assert not budget.grow(19.0 + GROW_AFTER)
    assert budget.grow(20.0 + GROW_AFTER)
    assert not budget.grow(20.0 + GROW_AFTER)
    assert budget.grow(20.0 + 2 * GROW_AFTER)
    assert budget.limits == LIMITS
    assert not budget.grow(20.0 + 9 * GROW_AFTER)


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (batch_of(5, 100), "it is small"),
        (batch_of(11, 100), "it is of a larger budget"),
        (batch_of(1, 1200), "it is one row, longer than any budget"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_stays(batch: Batch, why: str) -> None:
    assert not Budget(LIMITS).shrink(batch, 0.0), why


def test_the_longest_row_still_fits() -> None:
    budget = Budget(LIMITS)
    assert budget.shrink(batch_of(1, 800), 0.0)
    assert budget.limits.tokens == 800
