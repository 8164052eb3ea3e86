"""Computing several batches of a worker at a time.

An operation that many threads share waits for the slowest of them, at its end and again at the next
one's. Where batches wait anyway, it is faster to compute several of them at a time, each by its
share of the threads, which then never wait for each other.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from queue import SimpleQueue
from typing import Callable, Deque, Generic, List, Optional, Tuple, TypeVar

__all__ = ["InPlace", "InThreads", "Streams", "open_streams"]

Order = TypeVar("Order")
Outcome = TypeVar("Outcome")
#: Computes an order. It must not raise.
Compute = Callable[[Order], Outcome]


class Streams(ABC, Generic[Order, Outcome]):
    """Orders are begun in the order in which they are submitted; one that is to be alone when all
    before it have ended, and those behind it when it has.

    ``wake_up_fd`` becomes readable when :meth:`take` has something; None: at once.
    """

    wake_up_fd: Optional[int] = None

    @abstractmethod
    def submit(self, order: Order, alone: bool) -> None:
        """Compute this next."""

    @abstractmethod
    def take(self) -> List[Outcome]:
        """What has been computed since the last call, in the order in which it ended."""

    @abstractmethod
    def close(self) -> None:
        """Wait for what is being computed; drop what isn't begun."""


class InPlace(Streams[Order, Outcome]):
    """One stream: the caller's thread."""

    def __init__(self, compute: "Compute[Order, Outcome]") -> None:
        self._compute = compute
        self._ended: List[Outcome] = []

    def submit(self, order: Order, alone: bool) -> None:
        self._ended.append(self._compute(order))

    def take(self) -> List[Outcome]:
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """There is nothing to wait for."""


class InThreads(Streams[Order, Outcome]):
    """A thread for each stream."""

    def __init__(self, compute: "Compute[Order, Outcome]", count: int) -> None:
        self._compute = compute
        self._waiting: Deque[Tuple[Order, bool]] = deque()
        self._running = 0
        self._is_alone = False  # what runs
        self._is_closed = False
        self._changed = threading.Condition()
        self._ended: "SimpleQueue[Outcome]" = SimpleQueue()
        self.wake_up_fd, self._write_fd = os.pipe()
        self._threads = [
            threading.Thread(target=self._run, name="stream-%d" % number) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, order: Order, alone: bool) -> None:
        with self._changed:
            self._waiting.append((order, alone))
            self._changed.notify()

    def take(self) -> List[Outcome]:
        assert self.wake_up_fd is not None
        os.read(self.wake_up_fd, 4096)
        ended = []
        while not self._ended.empty():
            ended.append(self._ended.get())
        return ended

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        assert self.wake_up_fd is not None
        os.close(self._write_fd)
        os.close(self.wake_up_fd)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._may_begin())
                if self._is_closed:
                    return
                order, self._is_alone = self._waiting.popleft()
                self._running += 1
            outcome = self._compute(order)
            with self._changed:
                self._running -= 1
                if not self._running:
                    self._changed.notify_all()  # what was to wait for that
            self._ended.put(outcome)
            os.write(self._write_fd, b"\0")

    def _may_begin(self) -> bool:
        """Whether the next order may be begun beside what runs."""
        if not self._waiting:
            return False
        return not self._running or not (self._waiting[0][1] or self._is_alone)


def open_streams(compute: "Compute[Order, Outcome]", count: int) -> Streams[Order, Outcome]:
    """So many streams; must be closed."""
    return InPlace(compute) if count == 1 else InThreads(compute, count)
