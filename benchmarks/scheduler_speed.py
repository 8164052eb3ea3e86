"""How fast the scheduler itself is: rows and requests per second of ``Scheduler.handle`` alone.

Per second of CPU time, so that what else runs on the machine matters less.
``python -m bert_serving.benchmarks.scheduler_speed`` computes nothing: batches are done as soon as
they are sent. Building the message for the worker counts, for it goes by rows, too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from typing import Deque, List, Optional

import numpy as np

from bert_serving.benchmarks.policies import SMALL_ROWS
from bert_serving.benchmarks.traces import LONGEST, MIXED
from bert_serving.server import work
from bert_serving.server.batching import BatchLimits, pack, rows_of
from bert_serving.server.intake import CHUNK_ROWS
from bert_serving.server.scheduler import Scheduler

__all__ = ["drive", "main"]

SECONDS = 2.0


class _Service:
    """Opens requests, and answers batches at once."""

    def __init__(self, limits: BatchLimits, rows: int, clients: int, depth: int) -> None:
        self.scheduler = Scheduler(limits, SMALL_ROWS)
        random = np.random.RandomState(0)
        size = min(rows, CHUNK_ROWS)
        self.chunks = []
        for _ in range(max(8, 1000 // size)):
            lengths = MIXED.draw(size, random, LONGEST)
            starts = lengths.cumsum() - lengths
            features = np.ones((3, lengths.sum()), np.int32)
            self.chunks.append((lengths.tolist(), features, starts.tolist()))
        self.rows = rows
        self.now = 0.0
        self.opened = self.ended = self.computed = 0
        self.batches: Deque[work.Dispatch] = deque()
        self.clients = [b"client %d" % i for i in range(clients)]
        self.tell(work.WorkerJoined(b"worker", 2))
        for _ in range(depth):
            for client in range(clients):
                self.open(client)

    def open(self, client: int) -> None:
        self.opened += 1
        handle, first, turn = self.opened, 0, self.opened
        self.tell(work.Opened(handle, self.clients[client], self.rows))
        while first < self.rows:
            rows = rows_of(handle, first, *self.chunks[turn % len(self.chunks)])
            rows = rows[: self.rows - first]
            self.tell(work.RowsReady(handle, rows))
            first, turn = first + len(rows), turn + 1

    def tell(self, event: work.Event) -> None:
        for action in self.scheduler.handle(event, self.now):
            if isinstance(action, work.Dispatch):
                self.batches.append(action)
            else:
                self.ended += 1

    def step(self) -> None:
        """A batch is sent and computed; requests that it ends are followed by new ones."""
        self.now += 0.01
        action = self.batches.popleft()
        pack(action.batch.rows)
        self.computed += len(action.batch.rows)
        before = self.ended
        self.tell(work.WorkDone(action.worker, action.batch.batch_id))
        for number in range(before, self.ended):
            self.open(number % len(self.clients))


def drive(limits: BatchLimits, rows: int, clients: int, depth: int, seconds: float) -> float:
    """Rows per second with ``depth`` requests of so many rows under way from each client."""
    service = _Service(limits, rows, clients, depth)
    began = time.process_time()
    while time.process_time() - began < seconds:
        for _ in range(20):  # asking for the time is dear, too
            service.step()
    return service.computed / (time.process_time() - began)


def main(argv: Optional[List[str]] = None) -> int:
    """Print a table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bert_serving.benchmarks.scheduler_speed")
    parser.add_argument("--tokens", type=int, default=1024, help="token budget of a batch")
    parser.add_argument("--padding_weight", type=float, default=0.3)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each line")
    args = parser.parse_args(argv)
    limits = BatchLimits(256, args.tokens, args.padding_weight)
    print("| clients | under way | rows of a request | requests/s | rows/s | us/row |")
    print("|---|---|---|---|---|---|")
    for clients, depth, rows in (
        (16, 1, 1),
        (16, 16, 1),
        (1000, 1, 1),
        (16, 2, 256),
        (1, 1, 50_000),
    ):
        speed = drive(limits, rows, clients, depth, args.seconds)
        cells = (clients, depth, rows, speed / rows, speed, 1e6 / speed)
        print("| %d | %d | %d | %.0f | %.0f | %.1f |" % cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
