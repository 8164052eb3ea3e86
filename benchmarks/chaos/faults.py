"""Which faults happen when: a plan that a seed decides. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Dict, List, Sequence, Tuple

__all__ = ["KINDS", "MARKS", "PROCESSES", "Fault", "plan"]

#: The server's processes, by the beginnings of their names.
PROCESSES = ("worker", "sink", "ventilator", "http")
#: How often a kind is drawn, and what it hits: processes, texts that a worker fails on, clients.
KINDS: Dict[str, Tuple[int, Sequence[str]]] = {
    "kill": (4, PROCESSES),  # SIGKILL
    "segfault": (1, ("worker",)),  # SIGSEGV from outside
    "freeze": (2, PROCESSES),  # SIGSTOP, until somebody kills it
    "pause": (3, PROCESSES),  # SIGSTOP, and SIGCONT before it is missed
    "crash": (2, ("text",)),  # the engine ends its process
    "hang": (1, ("text",)),  # the engine doesn't return
    "raise": (2, ("text",)),  # the engine raises
    "shape": (1, ("text",)),  # the engine returns too little
    "memory": (1, ("text",)),  # the engine finds no memory
    "slow": (2, ("text",)),  # the engine takes its time
    "cut": (3, ("connections",)),  # all that go through the relay
    "deaf": (2, ("client",)),  # one that asks for much and doesn't read
}


#: Texts that workers fail on, by the kind: a character that no other text has, and what the echo
#: engine does when it meets it.
MARKS: Dict[str, Tuple[str, str]] = {
    "crash": ("^", "segv"),
    "hang": ("~", "hang"),
    "raise": ("$", "raise"),
    "shape": ("%", "shape"),
    "memory": ("&", "memory"),
    "slow": ("@", "slow"),
}


@dataclass(frozen=True)
class Fault:
    """``wait`` seconds after the one before, ``kind`` happens to ``target``."""

    wait: float
    kind: str
    target: str


def plan(random: Random, count: int, mean_wait: float, kinds: Sequence[str]) -> List[Fault]:
    """``count`` faults of these kinds, at times as of a Poisson process.

    Every kind comes about as often as ``KINDS`` weighs it; of its targets each as often as another.
    """
    weights = [KINDS[kind][0] for kind in kinds]
    faults = []
    for _ in range(count):
        kind = random.choices(list(kinds), weights)[0]
        target = random.choice(list(KINDS[kind][1]))
        faults.append(Fault(random.expovariate(1 / mean_wait), kind, target))
    return faults
