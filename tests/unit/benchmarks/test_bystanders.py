"""How busy a machine is, from two readings of /proc/stat."""

from __future__ import annotations

import pytest

from bert_serving.benchmarks.bystanders import share_between

READING = "cpu  %d 0 %d %d %d 0 %d %d 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5\n"


@pytest.mark.parametrize(
    ("later", "share"),
    [
        ((100, 50, 1200, 0, 0, 0), 0.0),
        ((200, 50, 1100, 0, 0, 0), 0.5),
        ((150, 100, 1000, 0, 100, 0), 1.0),
        ((150, 50, 1000, 50, 0, 100), 0.25),  # the disk and the hypervisor took the rest
        ((100, 50, 1000, 0, 0, 0), 0.0),  # no time has passed
    ],
)
def test_share_of_time_that_was_used(later: tuple, share: float) -> None:
    first = READING % (100, 50, 1000, 0, 0, 0)
    assert share_between(first, READING % later) == pytest.approx(share)
