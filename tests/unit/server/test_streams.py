from __future__ import annotations

import os
import select
import threading
from queue import Queue
from typing import Dict, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PATIENCE

from bert_serving.server.streams import InPlace, InThreads, Streams, open_streams


class Desk:
    """Orders that end when they are told to; what began is known."""

    def __init__(self) -> None:
        self.began: "Queue[str]" = Queue()
        self._may_end: Dict[str, threading.Event] = {}

    def compute(self, order: str) -> str:
        self.began.put(order)
        assert self._event(order).wait(PATIENCE)
        return order.upper()

    def end(self, *orders: str) -> None:
        for order in orders:
            self._event(order).set()

    def next_begun(self) -> str:
        return self.began.get(timeout=PATIENCE)

    def _event(self, order: str) -> threading.Event:
        return self._may_end.setdefault(order, threading.Event())


def taken(streams: Streams[str, str], count: int) -> List[str]:
    """The next outcomes, once there are so many."""
    outcomes: List[str] = []
    while len(outcomes) < count:
        assert select.select([streams.wake_up_fd], [], [], PATIENCE)[0]
        outcomes += streams.take()
    return outcomes


def test_one_stream_computes_in_place() -> None:
    streams: Streams[str, str] = open_streams(lambda order: order.upper(), 1)
    assert isinstance(streams, InPlace)
    assert streams.wake_up_fd is None
    assert streams.take() == []
    streams.submit("a", True)
    streams.submit("b", False)
    assert streams.take() == ["A", "B"]
    assert streams.take() == []
    streams.close()


def test_as_many_are_computed_at_a_time_as_there_are_streams() -> None:
    desk = Desk()
    streams = open_streams(desk.compute, 2)
    assert isinstance(streams, InThreads)
    for order in "abc":
        streams.submit(order, False)
    assert {desk.next_begun(), desk.next_begun()} == {"a", "b"}
    assert desk.began.empty()
    desk.end("b")
    assert taken(streams, 1) == ["B"], "not held up by the one that was begun before"
    assert desk.next_begun() == "c"
    desk.end("a", "c")
    assert sorted(taken(streams, 2)) == ["A", "C"]
    streams.close()


def test_what_is_to_be_alone_waits_for_all_before_it_and_keeps_back_all_behind_it() -> None:
    desk = Desk()
    streams = InThreads(desk.compute, 3)
    for order, alone in (("a", False), ("b", False), ("c", True), ("d", False), ("e", False)):
        streams.submit(order, alone)
    assert {desk.next_begun(), desk.next_begun()} == {"a", "b"}
    desk.end("a")
    assert taken(streams, 1) == ["A"]
    assert desk.began.empty()
    desk.end("b")
    assert desk.next_begun() == "c"
    assert taken(streams, 1) == ["B"]
    assert desk.began.empty()
    desk.end("c")
    assert {desk.next_begun(), desk.next_begun()} == {"d", "e"}
    desk.end("d", "e")
    assert sorted(taken(streams, 3)) == ["C", "D", "E"]
    streams.close()


@settings(max_examples=30)
@given(alone=st.lists(st.booleans(), max_size=60), count=st.integers(2, 5))
def test_every_order_is_computed_once_and_alone_if_it_is_to_be(
    alone: List[bool], count: int
) -> None:
    lock = threading.Lock()
    running: List[int] = []
    crowds: Dict[int, int] = {}

    def compute(order: int) -> int:
        with lock:
            running.append(order)
            for one in running:
                crowds[one] = max(crowds.get(one, 0), len(running))
        with lock:
            running.remove(order)
        return order

    streams: Streams[int, int] = InThreads(compute, count)
    for order, one in enumerate(alone):
        streams.submit(order, one)
    outcomes: List[int] = []
    while len(outcomes) < len(alone):
        assert select.select([streams.wake_up_fd], [], [], PATIENCE)[0]
        outcomes += streams.take()
    streams.close()
    assert sorted(outcomes) == list(range(len(alone)))
    assert all(crowds[order] <= (1 if one else count) for order, one in enumerate(alone))


def test_closing_waits_for_what_is_computed_and_drops_the_rest() -> None:
    desk = Desk()
    before = threading.active_count()
    streams = InThreads(desk.compute, 2)
    for order in "abc":
        streams.submit(order, False)
    assert {desk.next_begun(), desk.next_begun()} == {"a", "b"}
    closing = threading.Thread(target=streams.close)
    closing.start()
    while closing.is_alive() and not streams._is_closed:
        closing.join(0.01)  # or what ends now would make room for the third
    desk.end("a", "b")
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert desk.began.empty()
    assert threading.active_count() == before
    with pytest.raises(OSError):
        os.fstat(streams.wake_up_fd or -1)
