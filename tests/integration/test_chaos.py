"""A short run of faults under load; ``make chaos`` is a long one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from bert_serving.benchmarks.chaos.faults import KINDS, plan
from bert_serving.benchmarks.chaos.run import Order, run

pytestmark = pytest.mark.slow

FAULTS = 15
MEAN_WAIT = 2.0


@pytest.mark.timeout(300)
def test_every_request_is_answered_rightly_or_with_an_error(tmp_path: Path) -> None:
    faults = plan(Random(20), FAULTS, MEAN_WAIT, list(KINDS))
    log = tmp_path / "log"
    report = run(Order(faults, seed=20, clients=2, log=log), lambda line: None)
    assert report.problems == [], log.read_text(errors="replace")
    assert sum(report.faults.values()) >= FAULTS - 3  # a victim may be dead already
