"""What clients send, and when: synthetic or recorded. Pure, seeded.

A client either sends at given times (open loop), or keeps a number of requests under way and
sends the next one when one is answered (closed loop).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from bert_serving.benchmarks.arrivals import poisson_arrivals
from bert_serving.benchmarks.errors import BenchmarkError
from bert_serving.benchmarks.workloads import Lengths

__all__ = ["TRACES", "Client", "Trace", "read_trace"]

MIXED = Lengths("lognormal", mean=20.0)
LONGEST = 128


@dataclass(frozen=True)
class Client:
    """``requests`` are the lengths of each one's rows, int [rows].

    ``times`` says when each is sent, ascending; without, ``depth`` are under way from the start
    on, until all are sent. Of the same ``identity``, if there is one, are several that the server
    takes for one client.
    """

    label: str
    requests: Sequence[np.ndarray]
    times: Optional[np.ndarray] = None
    depth: int = 1
    identity: str = ""


@dataclass(frozen=True)
class Trace:
    """``seconds``: how long it is looked at; None: until everything is answered."""

    name: str
    clients: Sequence[Client]
    seconds: Optional[float] = None


def requests_of(rows: int, count: int, random: np.random.RandomState) -> List[np.ndarray]:
    """``count`` requests of so many rows, of log-normal lengths."""
    return np.split(MIXED.draw(rows * count, random, LONGEST), count) if count else []


def singles(speed: float, seed: int, load: float = 0.6) -> Trace:
    """Independent users, one row each, at ``load`` times what the engine can do."""
    seconds = 400 * 20 / speed / load * 5
    times = poisson_arrivals(load * speed / 20, seconds, seed)
    random = np.random.RandomState(seed)
    users = [
        Client("single", requests_of(1, 1, random), times[i : i + 1]) for i in range(len(times))
    ]
    return Trace("Poisson singles, load %.1f" % load, users)


def heavy(speed: float, seed: int) -> Trace:
    """As :func:`singles`, nearly as much as the engine can do."""
    return singles(speed, seed, 0.9)


def bursts(speed: float, seed: int) -> Trace:
    """64 users at the same moment, time and again."""
    random = np.random.RandomState(seed)
    pause = 64 * 20 / speed * 1.5
    users = [Client("single", requests_of(1, 20, random), np.arange(20) * pause) for _ in range(64)]
    return Trace("bursts of 64 singles", users)


def huge(speed: float, seed: int) -> Trace:
    """One request of 20,000 rows, and single ones of others while it is computed."""
    random = np.random.RandomState(seed)
    seconds = 20_000 * 20 / speed
    times = poisson_arrivals(200 / seconds, seconds, seed)
    users = [
        Client("single", requests_of(1, 1, random), times[i : i + 1]) for i in range(len(times))
    ]
    return Trace(
        "20,000 rows and singles", [Client("huge", requests_of(20_000, 1, random))] + users
    )


def closed(speed: float, seed: int) -> Trace:
    """16 clients, one row at a time each."""
    random = np.random.RandomState(seed)
    users = [Client("single", requests_of(1, 150, random)) for _ in range(16)]
    return Trace("16 closed-loop singles", users)


def pipelining(speed: float, seed: int) -> Trace:
    """16 clients with requests of 256 rows."""
    random = np.random.RandomState(seed)
    users = [Client("batch", requests_of(256, 8, random), depth=2) for _ in range(16)]
    return Trace("16 clients of 256 rows", users)


def greedy(speed: float, seed: int) -> Trace:
    """One client with 100 requests under way, 15 with one; 64 rows each; none runs out of them."""
    random = np.random.RandomState(seed)
    users = [Client("modest", requests_of(64, 40, random)) for _ in range(15)]
    return Trace(
        "one greedy client, 15 modest",
        [Client("greedy", requests_of(64, 500, random), depth=100)] + users,
        seconds=16 * 64 * 20 * 15 / speed,
    )


def bulk_in_small_pieces(speed: float, seed: int) -> Trace:
    """One client pipelines 128 single rows, another has requests of 256 rows."""
    random = np.random.RandomState(seed)
    return Trace(
        "128 singles pipelined, 256 rows",
        [
            Client("pieces", requests_of(1, 8000, random), depth=128),
            Client("batch", requests_of(256, 60, random), depth=2),
        ],
        seconds=5000 * 20 / speed,
    )


def both(speed: float, seed: int) -> Trace:
    """8 clients, each with requests of 256 rows and, one after another, of one row."""
    random = np.random.RandomState(seed)
    clients = []
    for number in range(8):
        identity = "client %d" % number
        clients.append(Client("batch", requests_of(256, 40, random), depth=2, identity=identity))
        clients.append(Client("single", requests_of(1, 400, random), identity=identity))
    return Trace("8 clients of 256 rows and singles", clients, seconds=20_000 * 20 / speed)


#: Each takes the engine's speed in tokens per second, and a seed.
TRACES: Dict[str, Callable[[float, int], Trace]] = {
    "singles": singles,
    "heavy": heavy,
    "bursts": bursts,
    "huge": huge,
    "closed": closed,
    "pipelining": pipelining,
    "greedy": greedy,
    "pieces": bulk_in_small_pieces,
    "both": both,
}


def read_trace(path: Path) -> Trace:
    """A recorded trace: lines of JSON, ``{"at": seconds, "client": name, "lengths": [...]}``.

    Raises BenchmarkError, which names the line.
    """
    times: Dict[str, List[float]] = {}
    requests: Dict[str, List[np.ndarray]] = {}
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            number += 1
            entry = json.loads(line)
            lengths = np.array(entry["lengths"], dtype=np.int64)
            if lengths.ndim != 1 or lengths.size == 0 or lengths.min() < 1:
                raise ValueError("lengths are not a list of positive numbers")
            times.setdefault(str(entry["client"]), []).append(float(entry["at"]))
            requests.setdefault(str(entry["client"]), []).append(lengths)
    except OSError as error:
        raise BenchmarkError("can't read %s: %s" % (path, error.strerror or error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError("%s, line %d: %r" % (path, number, error)) from error
    clients = []
    for name, at in times.items():
        order = np.argsort(at, kind="stable")
        clients.append(Client(name, [requests[name][i] for i in order], np.array(at, float)[order]))
    if not clients:
        raise BenchmarkError("%s holds no request" % path)
    return Trace(path.name, clients)
