from __future__ import annotations

from typing import Dict, Optional

import pytest

from bert_serving.server.heartbeats import (
    ASLEEP,
    BEAT,
    BUSY_SILENCE,
    BUSY_STARTING_SILENCE,
    SHORT_SILENCE,
    SILENCE,
    STARTING_SILENCE,
    Heartbeats,
)

LOOK = 0.1


class Ward:
    """Processes, and whoever looks at them ten times a second."""

    def __init__(self, *names: str) -> None:
        self.spent: Dict[str, Optional[float]] = dict.fromkeys(names, 0.0)
        self.held_up = False
        self.beats = Heartbeats(lambda name: self.spent[name], lambda name: self.held_up)
        self.now = 1000.0
        self.alive = set(names)
        self.busy = 0.0  # processor time a second
        for name in names:
            self.beats.expect(name, self.now)
            self.beats.ready(name)

    def pass_time(self, seconds: float) -> Dict[str, float]:
        """Who counted as hung, and after how many seconds of silence at first."""
        hung: Dict[str, float] = {}
        for _ in range(round(seconds / LOOK)):
            self.now += LOOK
            for name, spent in self.spent.items():
                if spent is not None:
                    self.spent[name] = spent + self.busy * LOOK
            if round(self.now / LOOK) % round(BEAT / LOOK) == 0:
                for name in self.alive:
                    self.beats.heard(name, self.now)
            for name, silence in self.beats.hung(self.now):
                hung.setdefault(name, silence)
        return hung


@pytest.fixture
def ward() -> Ward:
    return Ward("sink.0", "worker-0.0")


def test_who_gives_signs_of_life_is_alive(ward: Ward) -> None:
    assert ward.pass_time(200.0) == {}


def test_one_that_is_silent_hangs(ward: Ward) -> None:
    ward.pass_time(10.0)
    ward.alive.remove("worker-0.0")
    assert ward.pass_time(2.4) == {}, "a late sign is none"
    assert ward.pass_time(2.0) == {"worker-0.0": pytest.approx(SILENCE, abs=2 * LOOK)}
    ward.beats.forget("worker-0.0")
    assert ward.pass_time(10.0) == {}


def test_one_that_all_requests_need_is_noticed_within_two_seconds(ward: Ward) -> None:
    ward.beats.expect("sink.0", ward.now, SHORT_SILENCE)
    ward.beats.ready("sink.0")
    ward.pass_time(10.0)
    ward.alive.clear()
    assert set(ward.pass_time(2.0)) == {"sink.0"}


def test_one_whose_processor_time_nobody_knows(ward: Ward) -> None:
    ward.spent["sink.0"] = None
    ward.alive.remove("sink.0")
    assert set(ward.pass_time(SILENCE + 1.0)) == {"sink.0"}


def test_one_that_is_busy_gets_longer(ward: Ward) -> None:
    """It reads a very long JSON text, say, which lets no other of its threads run."""
    ward.busy = 1.0
    ward.alive.remove("sink.0")
    assert ward.pass_time(BUSY_SILENCE - 1.0) == {}
    assert set(ward.pass_time(2.0)) == {"sink.0"}


def test_one_that_is_kept_waiting_by_the_machine_gets_longer(ward: Ward) -> None:
    ward.held_up = True
    ward.alive.remove("sink.0")
    assert ward.pass_time(BUSY_SILENCE - 1.0) == {}
    assert set(ward.pass_time(2.0)) == {"sink.0"}


def test_one_that_was_busy_and_is_heard_again(ward: Ward) -> None:
    ward.busy = 1.0
    ward.alive.remove("sink.0")
    ward.pass_time(20.0)
    ward.alive.add("sink.0")
    ward.pass_time(1.0)
    ward.busy = 0.0
    ward.alive.remove("sink.0")
    assert set(ward.pass_time(SILENCE + 1.0)) == {"sink.0"}, "what it did before doesn't count"


@pytest.mark.parametrize(
    ("share", "limit"), [(0.0, STARTING_SILENCE), (1.0, BUSY_STARTING_SILENCE)]
)
def test_one_that_starts_has_more_time(share: float, limit: float) -> None:
    now = 0.0
    beats = Heartbeats(lambda name: share * now, lambda name: False)
    beats.expect("worker-0.0", 0.0)
    while not beats.hung(now):
        now += LOOK
    assert now == pytest.approx(limit, abs=2 * LOOK)


def test_whoever_was_asleep_kills_nobody(ward: Ward) -> None:
    """The machine was suspended: nobody could give signs of life, or they weren't heard."""
    ward.pass_time(10.0)
    ward.now += 1000.0
    assert ward.beats.hung(ward.now) == []
    assert ward.pass_time(200.0) == {}
    ward.alive.clear()
    ward.pass_time(2.0)
    ward.now += ASLEEP + 0.1
    assert ward.pass_time(2.0) == {}, "their time begins anew"
    assert set(ward.pass_time(2.0)) == {"sink.0", "worker-0.0"}
