from __future__ import annotations

import os
import select
import threading
from queue import Queue
from typing import Dict, List, Tuple

import pytest
from support import PATIENCE

from bert_serving.server.streams import InPlace, InThreads, Streams, open_streams


class Desk:
    """Orders that end when they are told to; what began is known."""

    def __init__(self) -> None:
        self.began: "Queue[Tuple[str, bool]]" = Queue()
        self._may_end: Dict[str, threading.Event] = {}

    def compute(self, order: str, is_alone: bool) -> str:
        self.began.put((order, is_alone))
        assert self._event(order).wait(PATIENCE)
        return order.upper()

    def end(self, *orders: str) -> None:
        for order in orders:
            self._event(order).set()

    def next_begun(self) -> Tuple[str, bool]:
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
    streams = open_streams(lambda order, is_alone: (order, is_alone), 1)
    assert isinstance(streams, InPlace)
    assert streams.wake_up_fd is None
    assert streams.take() == []
    streams.submit("a")
    streams.submit("b")
    assert streams.take() == [("a", True), ("b", True)]
    assert streams.take() == []
    streams.close()


def test_as_many_are_computed_at_a_time_as_there_are_streams() -> None:
    desk = Desk()
    streams = open_streams(desk.compute, 2)
    assert isinstance(streams, InThreads)
    streams.submit("a")
    assert desk.next_begun() == ("a", True)
    streams.submit("b")
    assert desk.next_begun() == ("b", False)
    streams.submit("c")
    desk.end("b")
    assert taken(streams, 1) == ["B"], "not held up by the one that was begun before"
    assert desk.next_begun() == ("c", False)
    desk.end("a", "c")
    assert sorted(taken(streams, 2)) == ["A", "C"]
    streams.submit("d")
    assert desk.next_begun() == ("d", True)
    desk.end("d")
    assert taken(streams, 1) == ["D"]
    assert desk.began.empty()
    streams.close()


def test_one_that_others_wait_behind_is_not_alone() -> None:
    desk = Desk()
    streams = InThreads(desk.compute, 1)
    for order in "abc":
        streams.submit(order)
    assert desk.next_begun()[0] == "a"
    desk.end("a")
    assert desk.next_begun() == ("b", False)
    desk.end("b", "c")
    assert desk.next_begun() == ("c", True)
    assert taken(streams, 3) == ["A", "B", "C"]
    streams.close()


@pytest.mark.parametrize("count", [2, 5])
def test_every_order_is_computed_once(count: int) -> None:
    streams: Streams[int, int] = InThreads(lambda order, is_alone: order * order, count)
    for order in range(500):
        streams.submit(order)
    outcomes: List[int] = []
    while len(outcomes) < 500:
        assert select.select([streams.wake_up_fd], [], [], PATIENCE)[0]
        outcomes += streams.take()
    assert sorted(outcomes) == [order * order for order in range(500)]
    streams.close()


def test_closing_waits_for_what_is_computed_and_drops_the_rest() -> None:
    desk = Desk()
    before = threading.active_count()
    streams = InThreads(desk.compute, 2)
    for order in "abc":
        streams.submit(order)
    assert {desk.next_begun()[0], desk.next_begun()[0]} == {"a", "b"}
    closing = threading.Thread(target=streams.close)
    closing.start()
    desk.end("a", "b")
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert desk.began.empty()
    assert threading.active_count() == before
    with pytest.raises(OSError):
        os.fstat(streams.wake_up_fd or -1)
