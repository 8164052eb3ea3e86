"""Clients that each send their next request when the last one is answered, in threads.

They are in this process, or in several if one can't keep the server busy:
``python -m bert_serving.benchmarks.clients`` is such a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, List, Optional, Sequence

from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.wire import ASK_AGAIN, Target
from bert_serving.benchmarks.workloads import Batch
from bert_serving.client import BertClient
from bert_serving.client.errors import BertServingError, RequestTimeout

__all__ = ["Child", "ClosedLoad", "Crew", "Threads", "Timing"]


@dataclass(frozen=True)
class ClosedLoad:
    """``clients`` send ``repeats`` requests each, of which the first ``warm_up`` don't count.

    ``timeout`` is how many seconds a client waits for an answer.
    """

    clients: int
    repeats: int
    warm_up: int = 2
    timeout: float = 120.0
    processes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.warm_up < self.repeats:
            raise ValueError(
                "of %d requests, the first %d can't be warm-up" % (self.repeats, self.warm_up)
            )


@dataclass(frozen=True)
class Timing:
    """A request, in seconds of time.monotonic(), which all processes of a machine share."""

    began: float
    ended: float
    error: Optional[str]
    rows: int
    tokens: int


class Crew:
    """Some of the clients; the methods are called in this order."""

    def wait_until_warm(self) -> None:
        """Return when all clients have done their warm-up. Raises BenchmarkError."""
        raise NotImplementedError

    def go(self) -> None:
        """Let them begin."""
        raise NotImplementedError

    def timings(self) -> List[List[Timing]]:
        """What they measured, when they are done."""
        raise NotImplementedError

    def close(self) -> None:
        """End what is left; safe at any time."""
        raise NotImplementedError


class Threads(Crew):
    """A thread for each client."""

    def __init__(
        self, target: Target, batches: Sequence[Sequence[Batch]], load: ClosedLoad
    ) -> None:
        self._target = target
        self._load = load
        self._warm = threading.Semaphore(0)
        self._start = threading.Event()
        self._connecting = threading.Lock()
        self._cancelled = False
        self._clients: List[BertClient] = []
        self._failure: Optional[Exception] = None
        self._timings: List[List[Timing]] = [[] for _ in batches]
        self._threads = [
            threading.Thread(target=self._run, args=(one, timings))
            for one, timings in zip(batches, self._timings)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, batches: Sequence[Batch], timings: List[Timing]) -> None:
        target = self._target
        with BertClient(
            target.ip,
            target.port,
            target.port_out,
            ignore_all_checks=True,
            keys=target.keys,
            server_key=target.server_key,
        ) as client:
            self._clients.append(client)
            try:
                # One by one: 1.10 takes 0.1 s for each answer, and would be asked again, by all of
                # them, faster than that.
                with self._connecting:
                    self._connect(client)
                for number in range(self._load.warm_up):
                    client.encode(batches[number % len(batches)].texts)
            except BertServingError as error:
                self._failure = error
            self._warm.release()
            self._start.wait()
            for number in range(self._load.warm_up, self._load.repeats):
                if self._cancelled:
                    return
                timings.append(_time_one(client, batches[number % len(batches)]))

    def _connect(self, client: BertClient) -> None:
        """Return once replies arrive. A 1.10 server drops those to clients it doesn't know yet."""
        deadline = time.monotonic() + self._load.timeout
        client.timeout = ASK_AGAIN * 1000
        while True:
            try:
                _ = client.server_config
                break
            except RequestTimeout:
                if self._cancelled or time.monotonic() > deadline:
                    raise
        client.timeout = self._load.timeout * 1000

    def wait_until_warm(self) -> None:
        for _ in self._threads:
            self._warm.acquire()
        if self._failure is not None:
            raise BenchmarkError(
                "the clients' warm-up failed: %s" % self._failure
            ) from self._failure

    def go(self) -> None:
        self._start.set()

    def timings(self) -> List[List[Timing]]:
        for thread in self._threads:
            thread.join()
        return self._timings

    def close(self) -> None:
        self._cancelled = True
        self._start.set()
        for client in self._clients:
            client.close()  # whatever still waits for an answer ends now
        for thread in self._threads:
            thread.join()


def _time_one(client: BertClient, batch: Batch) -> Timing:
    error: Optional[str] = None
    began = time.monotonic()
    try:
        client.encode(batch.texts)
    except BertServingError as failure:
        error = type(failure).__name__
    return Timing(began, time.monotonic(), error, len(batch.texts), batch.tokens)


class Child(Crew):
    """A process with a Threads of its own; it is told what to do a line of JSON at a time."""

    def __init__(
        self, target: Target, batches: Sequence[Sequence[Batch]], load: ClosedLoad
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bert_serving.benchmarks.clients"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._say(
            {
                "target": asdict(target),
                "batches": [[asdict(batch) for batch in one] for one in batches],
                "load": asdict(load),
            }
        )

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode("ascii") + b"\n")
        self._process.stdin.flush()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("a process of clients ended with %d" % self._process.wait())
        return json.loads(line)

    def wait_until_warm(self) -> None:
        answer = self._hear()
        if answer["error"] is not None:
            raise BenchmarkError(answer["error"])

    def go(self) -> None:
        self._say({})

    def timings(self) -> List[List[Timing]]:
        return [[Timing(**one) for one in client] for client in self._hear()]

    def close(self) -> None:
        # The end of its input ends a child that still waits to begin.
        self._process.communicate()


def _child() -> int:
    """The other side of Child."""

    def say(what: Any) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    order = json.loads(sys.stdin.readline())
    batches = [[Batch(**batch) for batch in one] for one in order["batches"]]
    crew = Threads(Target(**order["target"]), batches, ClosedLoad(**order["load"]))
    try:
        crew.wait_until_warm()
        say({"error": None})
        if sys.stdin.readline():
            crew.go()
            say([[asdict(timing) for timing in one] for one in crew.timings()])
    except BenchmarkError as error:
        say({"error": str(error)})
    finally:
        crew.close()
    return 0


if __name__ == "__main__":
    sys.exit(_child())
