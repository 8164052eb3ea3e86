"""What a comparison makes of both sides' figures."""

from __future__ import annotations

import pytest

from bert_serving.benchmarks.checks import CHECKS, Check, Measured, named, summarize
from bert_serving.benchmarks.compare import GROUPS
from bert_serving.benchmarks.results import as_json, markdown

RATIO = Check("speed", "ours ÷ theirs", 2.0)
RATE = Check("rate", "of ours", 4000.0, unit="requests/s")
WAIT = Check("wait", "(ours − 2 ms) ÷ theirs", 1.15, at_most=True, allowance=0.002)


def test_the_value_is_the_ratio_of_medians() -> None:
    found = Measured(RATIO, ours=(30.0, 10.0, 29.0), theirs=(10.0, 10.0, 5.0))
    assert found.value == pytest.approx(2.9)
    assert found.rounds == pytest.approx((3.0, 1.0, 5.8))
    assert found.is_met


def test_a_bound_is_reached_where_it_is_equalled() -> None:
    assert Measured(RATIO, (2.0,), (1.0,)).is_met
    assert not Measured(RATIO, (1.999,), (1.0,)).is_met
    assert Measured(Check("less", "", 3.0, at_most=True), (3.0,), (1.0,)).is_met
    assert not Measured(Check("less", "", 3.0, at_most=True), (3.01,), (1.0,)).is_met


def test_one_side_only() -> None:
    found = Measured(RATE, ours=(3900.0, 4100.0, 4200.0))
    assert found.value == 4100.0
    assert found.rounds == (3900.0, 4100.0, 4200.0)
    assert found.is_met


def test_an_allowance_is_ours() -> None:
    assert Measured(WAIT, (0.0135,), (0.010,)).value == pytest.approx(1.15)
    assert not Measured(WAIT, (0.0136,), (0.010,)).is_met


def test_what_could_not_be_measured_meets_nothing_and_says_why() -> None:
    found = Measured(RATIO, problem="no Python 3.7 was found")
    assert found.value is None
    assert found.is_met is None
    outcome = summarize([found, Measured(RATE, (5000.0,))])
    assert outcome.failed
    assert any("speed: not measured: no Python 3.7" in note for note in outcome.notes)
    text = markdown(outcome, {})
    assert "| speed | ours ÷ theirs | at least 2 | – | – | not measured |" in text
    assert "| rate | of ours | at least 4,000 requests/s | 5000 | 5,000 to 5,000 | yes |" in text


def test_results_name_both_sides_and_the_verdict() -> None:
    outcome = summarize([Measured(RATIO, (1.0,), (1.0,), {"figure": "rows/s", "versions": {}})])
    assert not outcome.failed
    check = outcome.data["checks"][0]
    assert (check["value"], check["met"], check["ours"], check["theirs"]) == (
        1.0,
        False,
        (1.0,),
        (1.0,),
    )
    assert '"bound": 2.0' in as_json(outcome, {})


def test_a_busy_machine_is_remarked_on() -> None:
    quiet, busy = (Measured(RATIO, (4.0,), (1.0,), {"others_busy": b}) for b in (0.01, 0.4))
    assert list(summarize([quiet]).notes) == []
    outcome = summarize([busy])
    assert "speed: others used 40 % of the cores" in outcome.notes[0]
    assert not outcome.failed


def test_every_check_is_measured_by_one_group() -> None:
    names = [name for group in GROUPS for name in group.names]
    assert sorted(names) == sorted(check.name for check in CHECKS)
    assert len(set(names)) == len(names)
    assert [named(name).name for name in names] == names
